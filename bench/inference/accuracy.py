"""What rounding to 8 bits costs: Spearman correlation on STS, and cosine to the exact embeddings; see README.md.

Texts are tokenised once, here; every engine gets the same ids. Embeddings are means of all token vectors.
"""

import argparse
import csv
import gzip
import json
import sys
import tempfile
from pathlib import Path

import numpy as np
from scipy.stats import spearmanr
from tokenizers import Tokenizer

from compare import HERE, Worker

MAX_TOKENS = 256
BATCH = 64


def pairs(path):
    """First text, second text and score of every line of a table with such columns."""
    opened = gzip.open(path, "rt", encoding="utf-8") if path.suffix == ".gz" else open(path, encoding="utf-8")
    with opened as lines:
        comma = ".csv" in path.suffixes
        rows = csv.reader(lines) if comma else csv.reader(lines, delimiter="\t", quoting=csv.QUOTE_NONE)
        head = next(rows)
        try:
            places = [head.index(name) for name in ("sentence1", "sentence2", "score")]
        except ValueError:
            sys.exit(f"{path}: expected columns sentence1, sentence2 and score, found {head}")
        for number, row in enumerate(rows, 2):
            if len(row) <= max(places):
                sys.exit(f"{path}: line {number} has {len(row)} columns, expected {len(head)}")
            first, second, score = (row[place] for place in places)
            yield first, second, float(score)


def golden(path):
    """Token ids of every text of a file of reference numbers, and its embeddings `[B, E]`."""
    from safetensors.numpy import load_file

    tensors = load_file(path)
    offsets = tensors["offsets"]
    ids = [tensors["tokens"][start:end].tolist() for start, end in zip(offsets, offsets[1:])]
    return ids, tensors["embeddings"]


def embed(command, batches, threads):
    """Unit means of token vectors, and those of the sequences in order."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "cases.json"
        path.write_text(json.dumps({"texts": batches}), encoding="utf-8")
        worker = Worker(command, path, threads)
        vectors = worker.vectors("texts", folder).astype(np.float64)
        worker.finish()
    lengths = [len(sequence) for batch in batches for sequence in batch]
    starts = np.cumsum([0, *lengths[:-1]])
    means = np.add.reduceat(vectors, starts) / np.array(lengths)[:, None]
    return means / np.linalg.norm(means, axis=1, keepdims=True)


def main():
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("sts", type=Path, help="table with columns sentence1, sentence2, score; .tsv or .csv, .gz or not")
    arguments.add_argument("--golden", type=Path, help="golden.safetensors with embeddings of the MiniLM")
    arguments.add_argument("--models", type=Path, required=True, help="the folder that prepare.py made")
    arguments.add_argument("--cloze", type=Path, help="the built example drive; without it the others run alone")
    arguments.add_argument("--threads", type=int, default=2)
    arguments = arguments.parse_args()

    tokenizer = Tokenizer.from_file(str(arguments.models / "minilm" / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.enable_truncation(MAX_TOKENS)
    rows = list(pairs(arguments.sts))
    texts = [text for first, second, _ in rows for text in (first, second)]
    ids = [encoding.ids for encoding in tokenizer.encode_batch(texts)]
    scores = [score for *_, score in rows]
    known, expected = golden(arguments.golden) if arguments.golden else ([], None)

    # By length, so that engines that pad have little to pad.
    everything = ids + known
    order = sorted(range(len(everything)), key=lambda index: len(everything[index]))
    sequences = [everything[index] for index in order]
    batches = [sequences[at : at + BATCH] for at in range(0, len(sequences), BATCH)]

    peer = [sys.executable, str(HERE / "peer.py"), "--models", str(arguments.models), "--model", "minilm", "--engine"]
    commands = {}
    if arguments.cloze:
        cloze = [str(arguments.cloze), "--model", str(arguments.models / "minilm"), "--storage"]
        commands = {f"cloze, {storage}": [*cloze, storage] for storage in ("f32", "f16", "bf16", "int8")}
    commands |= {engine: [*peer, engine] for engine in ("onnxruntime", "ctranslate2-int8")}

    exact = embed(commands["onnxruntime"], batches, arguments.threads)
    print(f"{len(rows)} pairs of {arguments.sts.name}, {len(known)} texts with known embeddings\n")
    print("| engine | Spearman | cosine to f32, mean | least | least cosine to known embeddings |")
    print("|---|--:|--:|--:|--:|")
    for name, command in commands.items():
        found = exact if name == "onnxruntime" else embed(command, batches, arguments.threads)
        cosine = (found * exact).sum(1)
        found = found[np.argsort(order)]
        similar = (found[0 : len(ids) : 2] * found[1 : len(ids) : 2]).sum(1)
        to_known = f"{(found[len(ids) :] * expected).sum(1).min():.6f}" if known else "–"
        print(
            f"| {name} | {spearmanr(similar, scores).statistic:.4f} | {cosine.mean():.6f} | {cosine.min():.6f} | {to_known} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
