"""Reference numbers for the linear baselines on texts: crates/train/tests/golden/linear.jsonl.

Needs scikit-learn 1.9.1.

A line is a case: `kind`, the texts to learn from and to judge by, `targets` as `[N, C]`, and `expected`: probabilities or numbers of
the judged texts, `[M, C]`. Two classes have the probability of the second alone.
"""

import json
import random
from pathlib import Path

import numpy as np
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression, Ridge

OUT = Path(__file__).resolve().parents[2] / "crates/train/tests/golden/linear.jsonl"

WORDS = {
    "good": "lovely bright Splendid kind très-bon прекрасно".split(),
    "bad": "awful dull broken RUDE naïve ужасно".split(),
    "odd": "strange x2 n't 東京 9 a".split(),
}
COMMON = "the house, a garden; of (rivers) market_place in 1999 I saw and - it!".split()


def text(rng, moods):
    words = [rng.choice(COMMON) for _ in range(rng.randrange(2, 9))]
    for mood in moods:
        words += [rng.choice(WORDS[mood]) for _ in range(rng.randrange(1, 3))]
    if rng.random() < 0.2:
        words.append(rng.choice(WORDS[rng.choice(list(WORDS))]))
    rng.shuffle(words)
    return " ".join(words)


def rows(train, test):
    vectorizer = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, max_features=200_000)
    return vectorizer.fit_transform(train), vectorizer.transform(test)


def logistic(x, y, z):
    return LogisticRegression(C=1.0, tol=1e-10, max_iter=10_000).fit(x, y).predict_proba(z)


def case(rng, kind, moods, size=60, judged=20):
    drawn = []
    for _ in range(size + judged):
        count = rng.randrange(3) if kind == "sets" else 1
        drawn.append(sorted(rng.sample(range(len(moods)), min(count, len(moods)))))
    texts = [text(rng, [moods[label] for label in labels]) for labels in drawn]
    train, test = texts[:size], texts[size:]
    test[-1] = "∅ unknown"
    x, z = rows(train, test)
    if kind == "numbers":
        y = np.array([3 * labels[0] + rng.random() for labels in drawn[:size]])
        targets, expected = y[:, None], Ridge(alpha=1.0, solver="cholesky", tol=1e-10).fit(x.toarray(), y).predict(z.toarray())[:, None]
    elif kind == "sets":
        targets = np.array([[float(label in labels) for label in range(len(moods))] for labels in drawn[:size]])
        expected = np.stack([logistic(x, column, z)[:, 1] for column in targets.T], axis=1)
    else:
        y = np.array([labels[0] for labels in drawn[:size]])
        expected = logistic(x, y, z)
        targets = np.eye(len(moods))[y]
        if len(moods) == 2:
            targets, expected = targets[:, 1:], expected[:, 1:]
    return {
        "kind": kind,
        "train": train,
        "targets": targets.tolist(),
        "test": test,
        "expected": [[round(float(value), 9) for value in row] for row in expected],
    }


def main():
    rng = random.Random(5)
    moods = list(WORDS)
    cases = [
        case(rng, "classes", moods[:2]),
        case(rng, "classes", moods),
        case(rng, "sets", moods),
        case(rng, "numbers", moods[:2]),
    ]
    OUT.write_text("".join(json.dumps(one, ensure_ascii=False) + "\n" for one in cases))


main()
