"""Fine-tunes the same encoder on the same task with Cloze and with transformers, in turn; see README.md."""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent

# Task: recipe, kind, columns, the metric's name here and in the peer, epochs, learning rate, longest sequence.
TASKS = {
    "sst2": ("bert/classify", "classify", ["sentence", "label"], "accuracy", "accuracy", 3, 5e-5, 128),
    "mrpc": ("bert/classify", "classify", ["#1 String", "#2 String", "Quality"], "f1", "f1", 8, 1e-4, 128),
    "stsb": ("bert/regress", "regress", ["sentence1", "sentence2", "score"], "spearman", "spearman", 5, 2e-4, 128),
    "conll2003": ("bert/tag", "tag", [], "f1", "entity-f1", 5, 1.5e-4, 256),
    "ncbi-disease": ("bert/tag", "tag", [], "f1", "entity-f1", 5, 3e-4, 256),
}


def cloze(args, task, seed, out):
    recipe, kind, columns, metric, _, epochs, lr, max_len = task
    command = [
        str(ROOT / "target/release/cloze"), "train", recipe, "--model", args.model, "--data", args.train,
        "--validation", args.validation, "--seed", str(seed), "--threads", str(args.threads), "-o", out,
        "--device", args.device,
        "--set", f"epochs={args.epochs or epochs}", "--set", f"optim.lr={args.lr or lr}",
        "--set", f"model.max_len={max_len}", "--set", f"batch={{ max_tokens = {args.batch * max_len}, max_sequences = {args.batch} }}",
        "--set", f"layer_decay={args.layer_decay}",
        "--set", f"validate.metric={metric}",
    ]
    if kind != "tag":
        command += ["--no-quotes", "--text", columns[0], "--label", columns[-1]]
        command += ["--pair", columns[1]] if len(columns) == 3 else []
    start = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL if not args.verbose else None)
    total = time.perf_counter() - start
    metrics = json.loads((Path(out) / "metrics.json").read_text())
    while isinstance(metrics, dict) and "validation" in metrics:
        metrics = metrics["validation"]
    states = list((Path(out) / "training").glob("*/state.json"))
    seconds = json.loads(states[0].read_text())["seconds"]
    return {"metric": value_of(metrics, metric), "training_s": seconds, "total_s": total}


def value_of(metrics, name):
    """The model's own value, wherever its table keeps it."""
    if isinstance(metrics, dict) and name in metrics:
        return metrics[name]
    sys.exit(f"metrics.json: expected {name}, found {metrics}")


def peer(args, task, seed, _):
    _, kind, columns, _, metric, epochs, lr, max_len = task
    command = [
        sys.executable, str(HERE / "peer.py"), "--model", args.model, "--kind", kind, "--train", args.train,
        "--validation", args.validation, "--columns", ",".join(columns), "--metric", metric,
        "--epochs", str(args.epochs or epochs), "--lr", str(args.lr or lr), "--batch", str(args.batch),
        "--layer-decay", str(args.layer_decay), "--max-len", str(max_len), "--seed", str(seed), "--threads", str(args.threads),
        "--device", "cpu" if args.device == "cpu" else "cuda",
    ]
    environment = os.environ | {"OMP_NUM_THREADS": str(args.threads), "TOKENIZERS_PARALLELISM": "false"}
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=environment,
                          stderr=subprocess.DEVNULL if not args.verbose else None)
    return json.loads(done.stdout.splitlines()[-1])


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("task", choices=TASKS)
    parser.add_argument("--model", required=True, help="folder of the encoder to begin with")
    parser.add_argument("--train", required=True)
    parser.add_argument("--validation", required=True)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--sides", nargs="+", choices=["cloze", "transformers"], default=["cloze", "transformers"])
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--device", default="cpu", help="where Cloze trains; the peer uses CUDA if it is not the CPU")
    parser.add_argument("--epochs", type=int)
    parser.add_argument("--lr", type=float)
    parser.add_argument("--batch", type=int, default=32, help="texts a step")
    parser.add_argument("--layer-decay", type=float, default=1.0, help="a layer's rate, as a share of that of the layer above")
    parser.add_argument("--verbose", action="store_true")
    args = parser.parse_args()
    task = TASKS[args.task]
    results = {side: [] for side in args.sides}
    for seed in args.seeds:
        for side in args.sides:
            with tempfile.TemporaryDirectory() as folder:
                run = {"cloze": cloze, "transformers": peer}[side]
                result = run(args, task, seed, f"{folder}/model")
            results[side].append(result)
            print(f"{args.task} seed {seed} {side:12} {task[3]} {result['metric']:.4f}  "
                  f"training {result['training_s']:.0f} s, in all {result['total_s']:.0f} s", flush=True)
    for side, of in results.items():
        values = [result["metric"] for result in of]
        spread = statistics.stdev(values) if len(values) > 1 else 0.0
        seconds = statistics.median(result["training_s"] for result in of)
        print(f"{args.task} {side:12} {task[3]} {statistics.mean(values):.4f} ± {spread:.4f} over {len(values)} seeds, "
              f"{seconds:.0f} s of training (median)")


if __name__ == "__main__":
    main()
