"""Servers of the same model under the same load, in turns: throughput, latencies and memory, and their ratios.

Every server is up the whole time and asked in turns; the median of the rounds is told."""

import argparse
import json
import os
import random
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

here = Path(__file__).parent
parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--cloze", required=True, help="the program")
parser.add_argument("--load", required=True, help="the example `load` of cloze-serve")
parser.add_argument("--model", required=True, help="a sentence-transformers folder")
parser.add_argument("--onnx", help="the same as one ONNX file, for ONNX Runtime behind FastAPI")
parser.add_argument("--peer-python", default=sys.executable)
parser.add_argument("--infinity", help="the program infinity_emb")
parser.add_argument("--infinity-engine", default="torch")
parser.add_argument("--infinity-folder", help="its model, if another than --model; optimum wants model.onnx there")
parser.add_argument("--threads", type=int, default=2)
parser.add_argument("--rounds", type=int, default=3)
parser.add_argument("--seconds", type=float, default=8, help="of each; should be several times the longest latency")
parser.add_argument("--connections", type=int, nargs="+", default=[1, 8, 64, 256])
parser.add_argument("--mixes", nargs="+", default=["short", "mixed", "long"])
parser.add_argument("--no-rate", action="store_true", help="only as fast as answers come")
parser.add_argument("--ways", action="store_true", help="Cloze by a socket file, with its cache and with int8 weights, too")
args = parser.parse_args()

WORDS = """time year people way day man thing woman life child world school state family student group country problem hand
part place case week company system program question work government number night point home water room mother area money story
fact month lot right study book eye job word business issue side kind head house service friend father power hour game line end
member law car city community name president team minute idea kid body information back parent face others level office door
health person art war history party result change morning reason research girl guy moment air teacher force education""".split()


def bodies(mix: str, path: Path) -> None:
    """Requests of one text, and of some in the mix."""
    rng = random.Random(mix)

    def text() -> str:
        length = {
            "short": lambda: rng.randint(4, 12),
            "long": lambda: rng.randint(150, 240),
            # Most are short, some are long: median 20 words, one in ten above 80.
            "mixed": lambda: min(240, max(3, int(rng.lognormvariate(3, 1.1)))),
        }[mix]()
        return " ".join(rng.choice(WORDS) for _ in range(length))

    def request() -> dict:
        texts = rng.choice([1, 1, 1, 2, 4, 8]) if mix == "mixed" else 1
        return {"model": "minilm", "input": [text() for _ in range(texts)]}

    path.write_text("".join(json.dumps(request()) + "\n" for _ in range(2000)))


class Server:
    def __init__(
        self, name: str, port: int, path: str, command: list[str], env: dict[str, str] | None = None, cwd: str | None = None
    ):
        self.name, self.at, self.path = name, f"127.0.0.1:{port}", path
        self.log = tempfile.NamedTemporaryFile(prefix=f"{name}-", suffix=".log")
        self.process = subprocess.Popen(
            command, stdout=self.log, stderr=self.log, start_new_session=True, env={**os.environ, **(env or {})}, cwd=cwd
        )
        for _ in range(1200):
            assert self.process.poll() is None, Path(self.log.name).read_text()
            try:
                urllib.request.urlopen(f"http://{self.at}/health", timeout=1)
                break
            except OSError:
                time.sleep(0.1)
        time.sleep(1)
        self.idle = self.memory("VmRSS")

    def processes(self) -> dict[int, dict[str, str]]:
        """What the system says of the process and those it started."""
        found = {}
        for pid in sorted(int(p) for p in os.listdir("/proc") if p.isdigit()):
            try:
                status = Path(f"/proc/{pid}/status").read_text()
            except OSError:
                continue
            fields = dict(line.split(":", 1) for line in status.splitlines())
            if pid == self.process.pid or int(fields["PPid"]) in found:
                found[pid] = fields
        return found

    def memory(self, which: str) -> float:
        """MiB."""
        return sum(int(fields.get(which, "0").split()[0]) for fields in self.processes().values()) / 1024

    def busy(self) -> float:
        """Milliseconds of all cores so far."""
        times = (Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split() for pid in self.processes())
        return sum(int(t[11]) + int(t[12]) for t in times) * 1000 / os.sysconf("SC_CLK_TCK")

    def ask(self, requests: Path, connections: int, rate: float | None = None, at: str | None = None) -> dict:
        command = [args.load, at or self.at, self.path, str(requests), str(connections), str(args.seconds)]
        command += [str(rate)] if rate else []
        before = self.busy()
        found = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
        assert set(found["statuses"]) <= {"200"}, found
        found["cpu_ms"] = (self.busy() - before) / max(found["answered"], 1)
        return found

    def stop(self) -> None:
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


NUMBERS = ("requests_per_second", "p50_ms", "p99_ms", "p999_ms", "cpu_ms")


def median(found: list[dict]) -> dict:
    return {k: statistics.median(f[k] for f in found) for k in NUMBERS}


def row(mix: str, connections: str, name: str, m: dict, ours: dict | None) -> None:
    is_compared = ours and m["requests_per_second"] > 0
    ratio = f"{ours['requests_per_second'] / m['requests_per_second']:.2f}" if is_compared else ""
    cpu = f" {m['cpu_ms']:.1f}" + (f" ({m['cpu_ms'] / ours['cpu_ms']:.2f})" if ours else "")
    print(
        f"| {mix} | {connections} | {name} | {m['requests_per_second']:.0f} | {m['p50_ms']:.1f} | {m['p99_ms']:.1f} |"
        f" {m['p999_ms']:.1f} |{cpu} | {ratio} |",
        flush=True,
    )


folder = Path(tempfile.mkdtemp(prefix="serving-"))
socket = folder / "cloze.sock"
threads = {"OMP_NUM_THREADS": str(args.threads), "MKL_NUM_THREADS": str(args.threads)}
serve = [args.cloze, "serve", f"minilm={args.model}", "--threads", str(args.threads), "--log", "warn"]
# Nothing is refused, by the others neither.
serve += ["--max-waiting-tokens", "200000"]
servers = [Server("Cloze", 3911, "/v1/embeddings", [*serve, "--port", "3911"])]
try:
    if args.onnx:
        command = [args.peer_python, str(here / "peer.py"), "--onnx", args.onnx, "--port", "3912"]
        command += ["--tokenizer", f"{args.model}/tokenizer.json", "--threads", str(args.threads)]
        servers.append(Server("ONNX Runtime, FastAPI", 3912, "/v1/embeddings", command))
    if args.infinity:
        # By a path of one name: with optimum it finds a local file only by that.
        command = [args.infinity, "v2", "--model-id", ".", "--engine", args.infinity_engine, "--device", "cpu"]
        command += ["--served-model-name", "minilm", "--port", "3913", "--host", "127.0.0.1", "--log-level", "warning"]
        env = {**threads, "HF_HUB_OFFLINE": "1", "DO_NOT_TRACK": "1", "INFINITY_ANONYMOUS_USAGE_STATS": "0"}
        cwd = args.infinity_folder or args.model
        servers.append(Server(f"infinity, {args.infinity_engine}", 3913, "/embeddings", command, env, cwd))

    print("| texts | connections | server | requests/s | p50 ms | p99 ms | p99.9 ms | CPU ms a request (times Cloze's) | Cloze is so many times as fast |")
    print("|---|--:|---|--:|--:|--:|--:|--:|--:|")
    best = {}
    for mix in args.mixes:
        requests = folder / mix
        bodies(mix, requests)
        for connections in args.connections:
            found: dict[str, list[dict]] = {}
            for _ in range(args.rounds):
                for server in servers:
                    found.setdefault(server.name, []).append(server.ask(requests, connections))
            medians = {name: median(f) for name, f in found.items()}
            ours = medians["Cloze"]
            for name, m in medians.items():
                row(mix, str(connections), name, m, ours if name != "Cloze" else None)
                if name != "Cloze":
                    best[mix] = max(best.get(mix, 0), m["requests_per_second"])

    if best and not args.no_rate:
        print("\nAt the same rate, 64 connections, 0.8 of what the faster of the others does at most:\n")
        print("| texts | rate | server | requests/s | p50 ms | p99 ms | p99.9 ms | CPU ms | |")
        print("|---|--:|---|--:|--:|--:|--:|--:|--:|")
        for mix, most in best.items():
            for server in servers:
                m = median([server.ask(folder / mix, 64, 0.8 * most) for _ in range(args.rounds)])
                row(mix, f"{0.8 * most:.0f}", server.name, m, None)

    print("\n| memory, MiB | idle | at most |\n|---|--:|--:|")
    for server in servers:
        print(f"| {server.name} | {server.idle:.0f} | {server.memory('VmHWM'):.0f} |")
    weights = Path(args.model, "model.safetensors").stat().st_size / 2**20
    print(f"\nWeights are {weights:.0f} MiB.")

    if args.ways:
        ways = [("cache of 64 MiB", 3914, ["--port", "3914", "--cache-bytes", str(64 << 20)], None)]
        ways.append(("int8 weights", 3916, ["--port", "3916", "--weights", "int8"], None))
        ways.append(("socket file", 3915, ["--unix-socket", str(socket)], str(socket)))
        print("\nCloze otherwise, 64 connections, mixed:\n")
        print("| | | way | requests/s | p50 ms | p99 ms | p99.9 ms | CPU ms | |\n|---|--:|---|--:|--:|--:|--:|--:|--:|")
        bodies("mixed", folder / "mixed")
        row("mixed", "64", "as above", median([servers[0].ask(folder / "mixed", 64) for _ in range(args.rounds)]), None)
        for name, port, flags, at in ways:
            if at:
                process = subprocess.Popen([*serve, *flags])
                while not Path(at).exists():
                    time.sleep(0.1)
                m = median([servers[0].ask(folder / "mixed", 64, at=at) for _ in range(args.rounds)])
                # Another process's.
                row("mixed", "64", name, m | {"cpu_ms": float("nan")}, None)
                process.terminate()
                process.wait()
            else:
                server = Server(name, port, "/v1/embeddings", [*serve, *flags])
                servers.append(server)
                row("mixed", "64", name, median([server.ask(folder / "mixed", 64) for _ in range(args.rounds)]), None)
finally:
    for server in servers:
        server.stop()
