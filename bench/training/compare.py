"""Times the training steps of Cloze and of eager PyTorch in turn and prints the table; see README.md."""

import argparse
import gzip
import os
import platform
import random
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
SEED = 1
# Idle threads of both pools spin for some milliseconds before they sleep; the other side must not pay for it.
PAUSE_SECONDS = 0.05

# Case: title, batch size, longest sequence, median and sigma of the log-normal lengths.
# 98.9 = 163 / exp(1/2): a mean of 163 items before the cut, as MovieLens-1M has (median 96, sigma 0.99).
CASES = {
    "bert4rec": ("BERT4Rec, 64 sequences of at most 200", 64, 200, 98.9, 1.0),
    "masked-language": ("masked language, 16 sequences of at most 128", 16, 128, 29.0, 0.8),
    "modernbert": ("ModernBERT, 4 sequences of at most 1,024", 4, 1024, 300.0, 0.8),
}


class Worker:
    """A process that speaks the step protocol."""

    def __init__(self, command, case, batches, threads):
        environment = os.environ | {"RAYON_NUM_THREADS": str(threads), "OMP_NUM_THREADS": str(threads)}
        arguments = [*command, "--case", case, "--batches", str(batches), "--threads", str(threads)]
        self.process = subprocess.Popen(
            arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
        )
        self.about = self.reply("ready ")

    def reply(self, prefix=""):
        line = self.process.stdout.readline()
        if not line.startswith(prefix) or not line.strip():
            sys.exit(f'{self.process.args[0]}: expected a line "{prefix}…", found {line!r}')
        return dict(pair.split("=", 1) for pair in line.removeprefix(prefix).split())

    def step(self, batch):
        """Milliseconds of one step; a step that reports less than it took is an error."""
        start = time.perf_counter()
        print(f"step {batch}", file=self.process.stdin, flush=True)
        fields = self.reply()
        outside = (time.perf_counter() - start) * 1e3
        ms = float(fields["ms"])
        if ms > outside:
            sys.exit(f"{self.process.args[0]}: reported {ms} ms for a step of {outside} ms")
        if not float(fields["loss"]) < 20.0:
            sys.exit(f"{self.process.args[0]}: loss {fields['loss']}; a diverged step is no measurement")
        self.hidden_ms = outside - ms
        return ms, float(fields["loss"])

    def finish(self):
        """Ends the process; its peak of resident memory in MiB."""
        self.process.stdin.close()
        _, status, usage = os.wait4(self.process.pid, 0)
        self.process.returncode = os.waitstatus_to_exitcode(status)
        if self.process.returncode != 0:
            sys.exit(f"{self.process.args[0]}: exit code {self.process.returncode}")
        unit = 1 if platform.system() == "Darwin" else 1024
        return usage.ru_maxrss * unit / 2**20


def log_normal_lengths(case, count):
    _, _, longest, median, sigma = CASES[case]
    generator = random.Random(SEED)
    drawn = (round(median * generator.lognormvariate(0.0, sigma)) for _ in range(count))
    return [min(max(length, 2), longest) for length in drawn]


def lines_of(path):
    opened = gzip.open(path, "rt", encoding="utf-8") if path.suffix == ".gz" else open(path, encoding="utf-8")
    with opened as lines:
        yield from lines


def interaction_lengths(path):
    """Items a user: the first field of every line is the user; one sequence each, its newest 200 items."""
    counts = {}
    for line in lines_of(path):
        fields = line.replace(",", " ").replace("\t", " ").split()
        if len(fields) < 2:
            sys.exit(f'{path}: expected "user item …" on every line, found {line.strip()!r}')
        counts[fields[0]] = counts.get(fields[0], 0) + 1
    return [min(count, CASES["bert4rec"][2]) for count in counts.values() if count > 1]


def text_lengths(path):
    """Words a line and the two marks around them."""
    return [min(len(line.split()) + 2, CASES["masked-language"][2]) for line in lines_of(path) if line.strip()]


def cut(lengths, size):
    return [lengths[start : start + size] for start in range(0, len(lengths) - size + 1, size)]


def plans(case, real, batches):
    """Name of the batching, then its batches of lengths; random and sorted batches hold the same sequences."""
    _, size, longest, _, _ = CASES[case]
    generator = random.Random(SEED)
    lengths = real or log_normal_lengths(case, size * batches)
    lengths = generator.sample(lengths, min(len(lengths), size * batches))
    if len(lengths) < size:
        sys.exit(f"{case}: expected at least {size} sequences, found {len(lengths)}")
    yield "equal", [[longest] * size]
    yield "real, random order", cut(lengths, size)
    yield "real, sorted", cut(sorted(lengths), size)


def measure(commands, case, batches, rounds, threads):
    """For each side: mean over the batches of its median step, its peak memory, and its name."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "batches.txt"
        path.write_text("".join(" ".join(map(str, batch)) + "\n" for batch in batches), encoding="utf-8")
        workers = [Worker(command, case, path, threads) for command in commands]
        times = [[[] for _ in batches] for _ in workers]
        hidden = [[] for _ in workers]
        # Round 0 warms caches and allocators up and is not counted.
        for round_ in range(rounds + 1):
            for batch in range(len(batches)):
                for side, worker in enumerate(workers):
                    time.sleep(PAUSE_SECONDS)
                    ms, _ = worker.step(batch)
                    if round_ > 0:
                        times[side][batch].append(ms)
                        hidden[side].append(worker.hidden_ms)
        results = []
        for side, worker in enumerate(workers):
            ms = statistics.mean(statistics.median(batch) for batch in times[side])
            outside = statistics.median(hidden[side])
            if outside > 0.02 * ms + 1.0:
                sys.exit(f"{commands[side][0]}: {outside:.1f} ms a step lie outside its reported {ms:.1f} ms")
            results.append((ms, worker.finish(), worker.about))
        return results


def cpu_name():
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as lines:
            return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def commit():
    result = subprocess.run(["git", "describe", "--always", "--dirty"], cwd=ROOT, capture_output=True, text=True)
    return result.stdout.strip() or "unknown"


def main():
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--cloze", type=Path, help="the built example training_step; without it PyTorch runs alone")
    arguments.add_argument("--cases", nargs="+", choices=CASES, default=list(CASES))
    arguments.add_argument("--interactions", type=Path, help='"user item …" lines, .gz or not; lengths of BERT4Rec')
    arguments.add_argument("--texts", type=Path, help="one text a line, .gz or not; lengths of the masked language")
    arguments.add_argument("--threads", type=int, default=2)
    arguments.add_argument("--rounds", type=int, default=5, help="counted visits of every batch of real lengths")
    arguments.add_argument("--batches", type=int, default=16, help="batches of real lengths")
    arguments = arguments.parse_args()
    if min(arguments.threads, arguments.rounds, arguments.batches) < 1:
        sys.exit("--threads, --rounds and --batches: expected at least 1")

    commands = [[sys.executable, str(HERE / "peer.py")]]
    if arguments.cloze:
        commands.append([str(arguments.cloze)])
    real = {
        "bert4rec": arguments.interactions and interaction_lengths(arguments.interactions),
        "masked-language": arguments.texts and text_lengths(arguments.texts),
        "modernbert": None,
    }
    print(f"commit {commit()}, {cpu_name()}, {arguments.threads} threads, load {os.getloadavg()[0]:.1f} at start\n")
    print("| case | lengths | tokens | padded | PyTorch ms | Cloze ms | ratio | PyTorch MiB | Cloze MiB |")
    print("|---|---|--:|--:|--:|--:|--:|--:|--:|")
    foot = ""
    for case in arguments.cases:
        title = CASES[case][0]
        for name, batches in plans(case, real[case], arguments.batches):
            # One batch of equal lengths is visited as often as three batches of real ones.
            rounds = arguments.rounds * (3 if len(batches) == 1 else 1)
            results = measure(commands, case, batches, rounds, arguments.threads)
            foot = " against ".join(f"{about['name']} (starts with {about['base_mib']} MiB)" for *_, about in results)
            if len({about["parameters"] for *_, about in results}) > 1:
                counts = ", ".join(f"{about['name']} {about['parameters']}" for *_, about in results)
                sys.exit(f"{case}: the sides differ in their parameters: {counts}")
            tokens = statistics.mean(sum(batch) for batch in batches)
            padded = statistics.mean(len(batch) * max(batch) for batch in batches)
            (peer_ms, peer_mib, _), ours = results[0], results[1] if arguments.cloze else None
            cells = [title, name, f"{tokens:.0f}", f"{padded:.0f}", f"{peer_ms:.1f}"]
            cells += [f"{ours[0]:.1f}", f"{ours[0] / peer_ms:.2f}"] if ours else ["–", "–"]
            cells += [f"{peer_mib:.0f}", f"{ours[1]:.0f}" if ours else "–"]
            print("| " + " | ".join(cells) + " |", flush=True)
    print(f"\n{foot}; tokens and padded tokens are means a batch, times means of the batches' medians")


if __name__ == "__main__":
    main()
