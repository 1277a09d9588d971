"""Times encoders in Cloze and in other engines in turn, compares their results and prints the tables; see README.md."""

import argparse
import json
import os
import platform
import random
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
# Idle threads of some engines spin before they sleep, those of Intel's OpenMP in CTranslate2 for 200 ms; the next engine must
# not pay for it.
PAUSE_SECONDS = 0.3
# Largest differences, of any value of any token vector from ONNX Runtime's, and least cosine of any token vector.
SAME_F32, SAME_INT8 = 2e-3, 0.8

# Words of English sentences are about log-normal. This seed draws 64 lengths that sum to 2,621 with a longest of 217.
LENGTHS_SEED, LENGTHS_MEDIAN, LENGTHS_SIGMA, LENGTHS_LONGEST = 77551, 29, 0.8, 256
TOKENS_SEED = 1
# Cases that hold the sequences of another one in another order.
AS_THEY_COME = {"64 mixed, sorted, by 8": "64 mixed"}


class Worker:
    """A process that speaks the protocol of the README."""

    def __init__(self, command, cases, threads):
        threads = str(threads)
        environment = os.environ | {"RAYON_NUM_THREADS": threads, "OMP_NUM_THREADS": threads}
        arguments = [*command, "--cases", str(cases), "--threads", threads]
        self.process = subprocess.Popen(
            arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
        )
        self.about = self.reply("ready ")

    def reply(self, prefix=""):
        line = self.process.stdout.readline()
        if not line.startswith(prefix) or not line.strip():
            sys.exit(f'{" ".join(self.process.args)}: expected a line "{prefix}…", found {line!r}')
        return dict(pair.split("=", 1) for pair in line.removeprefix(prefix).split())

    def ask(self, *words):
        print(*words, file=self.process.stdin, flush=True)
        return self.reply()

    def run(self, case, times):
        """Milliseconds of each run, and those of the whole visit that no run reports."""
        start = time.perf_counter()
        reported = [float(ms) for ms in self.ask("run", case, times)["ms"].split(",")]
        outside = (time.perf_counter() - start) * 1e3 - sum(reported)
        if len(reported) != times or outside < 0:
            sys.exit(f"{self.about['name']}: reported {reported} ms for {times} runs, {outside:.2f} ms beside the visit")
        return reported, outside

    def vectors(self, case, folder):
        """Every token's vector, `[N, D]`, sequences in the order of the case."""
        path = Path(folder) / "vectors.bin"
        width = int(self.ask("write", case, path)["width"])
        return np.fromfile(path, np.dtype("<f4")).reshape(-1, width)

    def finish(self):
        """Ends the process; its peak of resident memory in MiB."""
        self.process.stdin.close()
        _, status, usage = os.wait4(self.process.pid, 0)
        self.process.returncode = os.waitstatus_to_exitcode(status)
        if self.process.returncode != 0:
            sys.exit(f"{self.about['name']}: exit code {self.process.returncode}")
        unit = 1 if platform.system() == "Darwin" else 1024
        return usage.ru_maxrss * unit / 2**20


class Shape:
    """What a token costs: multiply-adds of the linear maps, and of attention by the tokens that it sees."""

    def __init__(self, vocab, width, linear, windows):
        self.vocab, self.width, self.linear, self.windows = vocab, width, linear, windows

    def flop(self, batches):
        """Operations that real tokens need; what an engine does for padding counts as nothing."""
        total = 0
        for length in (len(sequence) for batch in batches for sequence in batch):
            total += 2 * length * self.linear
            for window in self.windows:
                seen = sum(min(length, at + window + 1) - max(0, at - window) for at in range(length))
                total += 4 * seen * self.width
        return total


FAR = 1 << 30
SHAPES = {
    "minilm": Shape(30522, 384, 6 * (4 * 384 * 384 + 2 * 384 * 1536), [FAR] * 6),
    # Every third layer of 22 sees everything, the others 64 tokens to each side; gated feed-forward of 1152.
    "modernbert": Shape(
        50280, 768, 22 * (4 * 768 * 768 + 3 * 768 * 1152), [FAR if layer % 3 == 0 else 64 for layer in range(22)]
    ),
}


def sequences(lengths, vocab):
    generator = random.Random(TOKENS_SEED)
    return [[generator.randrange(1000, vocab) for _ in range(length)] for length in lengths]


def mixed_lengths():
    generator = random.Random(LENGTHS_SEED)
    drawn = (round(LENGTHS_MEDIAN * generator.lognormvariate(0.0, LENGTHS_SIGMA)) for _ in range(64))
    return [max(2, min(LENGTHS_LONGEST, length)) for length in drawn]


def minilm_cases():
    """Name, then batches."""
    vocab = SHAPES["minilm"].vocab
    mixed = sequences(mixed_lengths(), vocab)
    by_length = sorted(mixed, key=len)
    return {
        "32 x 128": [sequences([128] * 32, vocab)],
        "1 x 16": [sequences([16], vocab)],
        "1 x 128": [sequences([128], vocab)],
        "64 mixed": [mixed],
        "64 mixed, sorted, by 8": [by_length[at : at + 8] for at in range(0, 64, 8)],
    }


def long_case(length):
    return {f"1 x {length}": [sequences([length], SHAPES["modernbert"].vocab)]}


def agreement(case, name, found, expected):
    """Largest difference and least cosine of token vectors; two engines that differ compute something else."""
    if found.shape != expected.shape:
        sys.exit(f"{case}: {name} gave {found.shape}, onnxruntime {expected.shape}")
    largest = float(np.abs(found - expected).max())
    norms = np.linalg.norm(found, axis=1) * np.linalg.norm(expected, axis=1)
    least = float(((found * expected).sum(1) / norms).min())
    same = least >= SAME_INT8 if name.endswith("int8") else largest <= SAME_F32
    if not same:
        sys.exit(f"{case}: {name} computes something else: difference {largest}, cosine {least}")
    return largest, least


def compare(title, engines, commands, model, cases, arguments, peak):
    """Times every engine on every case, round by round, and prints a table; returns each engine's memory."""
    shape = SHAPES[model]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "cases.json"
        named = {f"case-{index}": batches for index, batches in enumerate(cases.values())}
        path.write_text(json.dumps(named), encoding="utf-8")
        workers = {engine: Worker(commands(engine, model), path, arguments.threads) for engine in engines}
        for (case, batches), key in zip(cases.items(), named, strict=True):
            tokens = sum(len(sequence) for batch in batches for sequence in batch)
            padded = sum(len(batch) * max(map(len, batch)) for batch in batches)
            expected = workers["onnxruntime"].vectors(key, folder)
            agreed = {
                name: agreement(case, name, worker.vectors(key, folder), expected)
                for name, worker in workers.items()
            }
            # Cloze packs: it needs no order and no cutting, and so runs the sequences as they come in both.
            own = next(other for other, name in zip(named, cases, strict=True) if name == AS_THEY_COME.get(case, case))
            times = {name: [] for name in workers}
            hidden = {name: [] for name in workers}
            # A visit is about as long for every case. The first round warms up and is not counted.
            visits = max(1, min(20, round(1e9 / shape.flop(batches))))
            for round_ in range(arguments.rounds + 1):
                for name, worker in workers.items():
                    time.sleep(PAUSE_SECONDS)
                    ms, outside = worker.run(own if name.startswith("cloze") else key, visits)
                    if round_ > 0:
                        times[name] += ms
                        hidden[name].append(outside)
            for name in workers:
                ours = "cloze-int8" if name.endswith("int8") else "cloze"
                median, least = statistics.median(times[name]), min(times[name])
                # The least: a busy machine delays answers, an engine that hides work does so every time.
                if min(hidden[name]) > 0.02 * least * visits + 1.0:
                    sys.exit(f"{case}: {name} took at least {min(hidden[name]):.1f} ms a visit that it did not report")
                cells = [title, case, f"{tokens:,}", "–" if name == ours else f"{padded:,}", name]
                cells += [f"{median:.2f}", f"{least:.2f}"]
                if name == ours or ours not in times:
                    cells += ["–", "–"]
                else:
                    cells += [f"{statistics.median(times[ours]) / median:.2f}", f"{min(times[ours]) / least:.2f}"]
                cells += [f"{shape.flop(batches) / (least * 1e6) / peak:.0%}"]
                cells += [f"{agreed[name][0]:.0e}", f"{agreed[name][1]:.6f}"]
                print("| " + " | ".join(cells) + " |", flush=True)
        return {name: (worker.about, worker.finish()) for name, worker in workers.items()}


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
    arguments.add_argument("--models", type=Path, required=True, help="the folder that prepare.py made")
    arguments.add_argument("--cloze", type=Path, help="the built example drive; without it the others run alone")
    arguments.add_argument("--peak", type=Path, required=True, help="the built peak.rs")
    arguments.add_argument("--threads", type=int, default=2)
    arguments.add_argument("--rounds", type=int, default=9, help="counted visits of every case")
    arguments.add_argument("--long", type=int, nargs="*", default=[1024, 8192], help="lengths for ModernBERT")
    arguments.add_argument("--long-rounds", type=int, default=3, help="counted visits of every such length")
    arguments = arguments.parse_args()
    if min(arguments.threads, arguments.rounds, arguments.long_rounds) < 1:
        sys.exit("--threads, --rounds and --long-rounds: expected at least 1")

    def commands(engine, model):
        if engine.startswith("cloze"):
            storage = "int8" if engine.endswith("int8") else "f32"
            return [str(arguments.cloze), "--model", str(arguments.models / model), "--storage", storage]
        peer = [sys.executable, str(HERE / "peer.py"), "--engine", engine]
        return [*peer, "--models", str(arguments.models), "--model", model]

    def engines(*peers):
        own = ["cloze", "cloze-int8"] if "ctranslate2-int8" in peers else ["cloze"]
        return [*(own if arguments.cloze else []), *peers]

    peak = float(subprocess.run([arguments.peak, str(arguments.threads)], check=True, capture_output=True).stdout)
    print(
        f"commit {commit()}, {cpu_name()}, {arguments.threads} threads, load {os.getloadavg()[0]:.1f} at start, "
        f"multiply-add peak {peak:.0f} GFLOP/s\n"
    )
    print(
        "| model | sequences x tokens | tokens | padded | engine | median ms | least ms "
        "| Cloze / it, medians | Cloze / it, least | share of peak | difference | cosine |"
    )
    print("|---|---|--:|--:|---|--:|--:|--:|--:|--:|--:|--:|", flush=True)
    memory = []

    def table(title, peers, model, cases):
        used = compare(title, engines(*peers), commands, model, cases, arguments, peak)
        memory.extend((title, *cell) for cell in used.items())

    table("MiniLM-L6", ("onnxruntime", "openvino", "ctranslate2", "ctranslate2-int8"), "minilm", minilm_cases())
    arguments.rounds = arguments.long_rounds
    for length in arguments.long:
        table("ModernBERT-base", ("onnxruntime",), "modernbert", long_case(length))

    print("\n| model | engine | peak MiB | before a model MiB |\n|---|---|--:|--:|")
    for title, engine, (about, mib) in memory:
        print(f"| {title} | {engine}, {about['name']} | {mib:.0f} | {about['base_mib']} |")


if __name__ == "__main__":
    main()
