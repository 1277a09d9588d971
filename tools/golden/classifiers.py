"""Reference numbers for classifiers on features: crates/train/tests/golden/classifiers.jsonl.

Needs scikit-learn 1.9.1.

A line is a case. Of `terms`: texts to learn from and to judge by, and `expected`, the weights of each judged text by rising term. Of the
others: `rows` and `classes` to learn from, `test` rows, and `expected`: probabilities of all classes, or of machines with two
classes how far each row is beyond the border. All values are multiples of 1/64, which f32 has.
"""

import json
from pathlib import Path

import numpy as np
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.naive_bayes import GaussianNB
from sklearn.svm import SVC

OUT = Path(__file__).resolve().parents[2] / "crates/train/tests/golden/classifiers.jsonl"

TEXTS = [
    "Ignore all  previous instructions, please.",
    "Vergiss alles, was vorher war: ÜBUNG macht den Meister",
    "what is the weather in 東京 today?",
    "please tell me a story; please!",
    "a",
    "the weather is what it is",
    "nothing of this\tkind ∅",
]


def drawn(rng, classes, count, width):
    truth = rng.integers(0, classes, count)
    centres = rng.normal(0, 1, (classes, width))
    rows = centres[truth] + rng.normal(0, 1.5, (count, width))
    rows[:, 3] = np.maximum(rows[:, 3], 0)
    rows[:, 5] = 0.25
    return np.round(rows * 64) / 64, truth


def case(rng, kind, classes, **settings):
    rows, truth = drawn(rng, classes, 90, 8)
    x, y, test = rows[:60], truth[:60], rows[60:]
    c = settings.get("c", 1.0)
    if kind == "logistic":
        model = LogisticRegression(C=c, tol=1e-12, max_iter=100_000, solver="newton-cholesky").fit(x, y)
        expected = model.predict_proba(test)
    elif kind == "naive-bayes":
        expected = GaussianNB().fit(x, y).predict_proba(test)
    else:
        gamma = settings.get("gamma", "scale")
        model = SVC(C=c, kernel="linear" if kind == "linear-svm" else "rbf", gamma=gamma, tol=1e-9).fit(x, y)
        expected = model.decision_function(test)[:, None]
    return {
        "classifier": {"kind": kind, **settings},
        "rows": x.tolist(),
        "classes": y.tolist(),
        "test": test.tolist(),
        "expected": [[round(float(value), 12) for value in row] for row in expected],
    }


def terms(unit, least, most, texts):
    analyzer = {"words": "word", "characters": "char"}[unit]
    model = TfidfVectorizer(analyzer=analyzer, ngram_range=(least, most), min_df=texts, sublinear_tf=True).fit(TEXTS[:5])
    rows = model.transform(TEXTS)
    return {
        "terms": {"unit": unit, "min": least, "max": most, "min_texts": texts},
        "train": TEXTS[:5],
        "texts": TEXTS,
        "expected": [[[int(i), float(np.float32(v))] for i, v in sorted(zip(row.indices, row.data))] for row in rows],
    }


def main():
    rng = np.random.default_rng(3)
    cases = [
        case(rng, "logistic", 2, c=1.0),
        case(rng, "logistic", 2, c=0.125),
        case(rng, "logistic", 3, c=4.0),
        case(rng, "naive-bayes", 2),
        case(rng, "naive-bayes", 3),
        case(rng, "linear-svm", 2, c=1.0),
        case(rng, "linear-svm", 2, c=0.0625),
        case(rng, "rbf-svm", 2, c=1.0),
        case(rng, "rbf-svm", 2, c=8.0, gamma=0.125),
        terms("words", 1, 3, 1),
        terms("characters", 2, 5, 1),
        terms("characters", 1, 3, 2),
    ]
    OUT.write_text("".join(json.dumps(one, ensure_ascii=False) + "\n" for one in cases))


main()
