"""Reference numbers for BERTScore: crates/train/tests/golden/likeness.json.

Needs bert-score 0.3.13 with torch 2.8.0 and transformers 4.57.6. The encoder is the small one in
crates/runtime/tests/golden/sentence. Pairs are computed one by one, so that nothing is padded.
"""

import json
from pathlib import Path
from tempfile import TemporaryDirectory

import bert_score

ROOT = Path(__file__).resolve().parents[2]
MODEL = ROOT / "crates/runtime/tests/golden/sentence"
OUT = ROOT / "crates/train/tests/golden/likeness.json"

PREDICTIONS = ["the cat sat on the mat", "a dog", "", "the the the", "  rain in spain. ", "same words here", "unknown ∅ signs"]
REFERENCES = [
    ["a cat sat on a mat", "there is a cat on the mat"],
    ["a dog barks", "it rains", "two dogs"],
    ["the text"],
    ["the cat"],
    ["Rain in Spain!"],
    ["same words here"],
    [""],
]
BASELINE = "LAYER,P,R,F\n" + "".join(f"{layer},{0.3 + layer / 10},{0.25 + layer / 10},{0.2 + layer / 10}\n" for layer in range(5))


def main():
    layers = json.loads((MODEL / "config.json").read_text())["num_hidden_layers"]
    cases = []
    with TemporaryDirectory() as folder:
        baseline = Path(folder) / "baseline.csv"
        baseline.write_text(BASELINE)
        for layer, idf, rescaled in [(layers, False, False), (1, False, False), (layers, True, False), (1, True, True)]:
            scores = bert_score.score(
                PREDICTIONS,
                REFERENCES,
                model_type=str(MODEL),
                num_layers=layer,
                idf=idf,
                rescale_with_baseline=rescaled,
                lang="en",
                baseline_path=str(baseline) if rescaled else None,
                batch_size=1,
                nthreads=0,
                device="cpu",
            )
            rows = [[round(float(value), 7) for value in row] for row in zip(*scores)]
            cases.append({"layer": layer, "idf": idf, "rescaled": rescaled, "expected": rows})
    out = {"predictions": PREDICTIONS, "references": REFERENCES, "baseline": BASELINE, "cases": cases}
    OUT.write_text(json.dumps(out, ensure_ascii=False, indent=1) + "\n")


main()
