"""Reference numbers for the ranking metrics: crates/train/tests/golden/ranking.json.

Needs Python 3.9 or newer and nothing else. Written from the definitions, by sorting whole lists, and shares nothing
with the crate: ranks come from positions in a sorted list, gains from summing over the positions.
"""

import json
import math
import random
from pathlib import Path

CUTOFFS = [1, 5, 10, 20]
OUT = Path(__file__).resolve().parents[2] / "crates/train/tests/golden/ranking.json"


def discounted(gains):
    return sum(gain / math.log2(place + 2) for place, gain in enumerate(gains))


def ranked(scores, targets, seen):
    """Candidates best first; among equal scores the targets come last, as a pessimist would have it."""
    items = [i for i in range(len(scores)) if i not in seen or i in targets]
    return sorted(items, key=lambda i: (-scores[i], i in targets))


def judge(cases, exclude_seen):
    rows = []
    for case in cases:
        targets = set(case["targets"])
        found = ranked(case["scores"], targets, set(case["history"]) if exclude_seen else set())
        relevant = [1.0 if item in targets else 0.0 for item in found]
        row = {"mrr": 1.0 / (relevant.index(1.0) + 1)}
        for k in CUTOFFS:
            hits = sum(relevant[:k])
            row[f"hr@{k}"] = 1.0 if hits else 0.0
            row[f"recall@{k}"] = hits / len(targets)
            row[f"ndcg@{k}"] = discounted(relevant[:k]) / discounted([1.0] * min(k, len(targets)))
        rows.append(row)
    return {name: math.fsum(row[name] for row in rows) / len(rows) for name in rows[0]}


def graded(relevance, scores, k):
    found = sorted(range(len(scores)), key=lambda i: -scores[i])
    return discounted([relevance[i] for i in found[:k]]) / discounted(sorted(relevance, reverse=True)[:k])


def main():
    rng = random.Random(20190417)
    items = 40

    def case(targets):
        # Few distinct scores, so that ties are common.
        return {
            "scores": [round(rng.gauss(0, 1) * 4) / 4 for _ in range(items)],
            "history": [rng.randrange(items) for _ in range(rng.randint(1, 12))],
            "targets": [rng.randrange(items) for _ in range(targets)],
        }

    sets = {
        "one target": [case(1) for _ in range(12)],
        "several targets": [case(rng.randint(1, 6)) for _ in range(12)],
    }
    relevance = [rng.choice([0, 0, 0, 1, 2, 3]) for _ in range(30)]
    scores = [rng.random() for _ in range(30)]
    golden = {
        "cutoffs": CUTOFFS,
        "rankings": [
            {"name": name, "cases": cases, "exclude_seen": exclude, "expected": judge(cases, exclude)}
            for name, cases in sets.items()
            for exclude in (False, True)
        ],
        "graded": {
            "relevance": relevance,
            "scores": scores,
            "expected": {str(k): graded(relevance, scores, k) for k in CUTOFFS},
        },
    }
    OUT.parent.mkdir(parents=True, exist_ok=True)
    OUT.write_text(json.dumps(golden, separators=(",", ":")) + "\n")


if __name__ == "__main__":
    main()
