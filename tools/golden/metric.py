"""Reference numbers for the metrics of labels and texts: crates/train/tests/golden/metric.jsonl.

Needs scikit-learn 1.9.1, scipy 1.17.1, seqeval 1.2.2, sacrebleu 2.6.0 and rouge-score 0.1.2. The numbers are those packages',
save for answers (by the definitions of SQuAD's two scripts), calibration and perplexity, which are written out here.

A line is a case: `metric`, what goes in, and `expected`, numbers by name; null stands for undefined.
"""

import collections
import json
import math
import random
import re
import string
import warnings
from pathlib import Path

import numpy as np
from rouge_score.rouge_scorer import RougeScorer
from sacrebleu.metrics import BLEU, CHRF, TER
from scipy import stats
from seqeval import scheme as schemes
from seqeval.metrics import sequence_labeling, v1
from sklearn import metrics as sk

OUT = Path(__file__).resolve().parents[2] / "crates/train/tests/golden/metric.jsonl"


def prf(name, values):
    return dict(zip([f"{name}.precision", f"{name}.recall", f"{name}.f1"], map(float, values[:3])))


def classification(rng, size, classes):
    labels = [rng.randrange(classes) for _ in range(size)]
    predicted = [label if rng.random() < 0.6 else rng.randrange(classes) for label in labels]
    known = list(range(classes))
    expected = {
        "accuracy": sk.accuracy_score(labels, predicted),
        "mcc": sk.matthews_corrcoef(labels, predicted),
    }
    for average in ["micro", "macro", "weighted"]:
        found = sk.precision_recall_fscore_support(labels, predicted, labels=known, average=average)
        expected |= prf(average, found)
    each = sk.precision_recall_fscore_support(labels, predicted, labels=known)
    for label in known:
        expected |= prf(str(label), [part[label] for part in each])
    return {"classes": classes, "labels": labels, "predictions": predicted, "expected": expected}


def scores(rng, size, classes):
    """Probabilities; few distinct ones, so that scores tie and stand on the edges of bins."""
    labels = [i % classes if i < 2 * classes else rng.randrange(classes) for i in range(size)]
    rows = []
    for label in labels:
        parts = [rng.randrange(5) + (4 if label == c else 1) for c in range(classes)]
        rows.append([part / sum(parts) for part in parts])
    rows, y = np.array(rows), np.array(labels)
    expected = {"brier": sk.brier_score_loss(y, rows[:, 1] if classes == 2 else rows, labels=list(range(classes)))}
    if classes == 2:
        expected["roc_auc"] = sk.roc_auc_score(y, rows[:, 1])
        expected["average_precision"] = sk.average_precision_score(y, rows[:, 1])
    else:
        for average in ["macro", "weighted"]:
            expected[f"roc_auc.{average}"] = sk.roc_auc_score(y, rows, multi_class="ovr", average=average)
            indicators = np.eye(classes, dtype=int)[y]
            expected[f"average_precision.{average}"] = sk.average_precision_score(indicators, rows, average=average)
    confidence, right = rows.max(axis=1), rows.argmax(axis=1) == y
    error = 0.0
    for b in range(15):
        inside = (confidence > b / 15) & (confidence <= (b + 1) / 15)
        if inside.any():
            error += abs(right[inside].mean() - confidence[inside].mean()) * inside.sum() / size
    expected["ece"] = error
    return {"classes": classes, "labels": labels, "scores": rows.ravel().tolist(), "expected": expected}


def multilabel(rng, size, classes):
    truth = np.array([[int(rng.random() < 0.35) for _ in range(classes)] for _ in range(size)])
    flips = np.array([[int(rng.random() < 0.25) for _ in range(classes)] for _ in range(size)])
    predicted = truth ^ flips
    expected = {
        "subset_accuracy": sk.accuracy_score(truth, predicted),
        "hamming_loss": sk.hamming_loss(truth, predicted),
    }
    for average in ["micro", "macro", "weighted", "samples"]:
        expected |= prf(average, sk.precision_recall_fscore_support(truth, predicted, average=average))
    rows = lambda matrix: [np.flatnonzero(row).tolist() for row in matrix]
    return {"classes": classes, "labels": rows(truth), "predictions": rows(predicted), "expected": expected}


def regression(rng, size, levels):
    a = [rng.randrange(levels) / 4 for _ in range(size)]
    b = [x + rng.gauss(0, levels / 8) if rng.random() < 0.7 else rng.randrange(levels) / 4 for x in a]
    expected = {
        "pearson": stats.pearsonr(a, b).statistic if size > 1 else math.nan,
        "spearman": stats.spearmanr(a, b).statistic if size > 1 else math.nan,
        "mse": sk.mean_squared_error(a, b),
        "mae": sk.mean_absolute_error(a, b),
    }
    return {"labels": a, "predictions": b, "expected": expected}


SCHEMES = {"iob1": "BI", "iob2": "BI", "ioe2": "IE", "iobes": "BIES", "bilou": "BILU", "conll": "BIES"}


def entities(rng, sequences, name):
    """Tags drawn by lot, most of them like the one before, so that all transitions occur."""

    def tag(before):
        if rng.random() < 0.25:
            return "O"
        kind = before[2:] if len(before) > 2 and rng.random() < 0.6 else rng.choice(["PER", "LOC", "A-B"])
        return rng.choice(SCHEMES[name]) + (f"-{kind}" if rng.random() < 0.95 else "")

    def sequence(length):
        tags = ["O"]
        for _ in range(length):
            tags.append(tag(tags[-1]))
        return tags[1:]

    truth = [sequence(rng.randint(1, 12)) for _ in range(sequences)]
    predicted = [[t if rng.random() < 0.8 else tag(t) for t in tags] for tags in truth]
    if name == "conll":
        function, options = sequence_labeling.precision_recall_fscore_support, {}
    else:
        function, options = v1.precision_recall_fscore_support, {"scheme": getattr(schemes, name.upper())}
    expected = {}
    for average in ["micro", "macro", "weighted"]:
        expected |= prf(average, function(truth, predicted, average=average, **options))
    return {"scheme": name, "labels": truth, "predictions": predicted, "expected": expected}


def normalized(answer):
    kept = "".join(c for c in answer.lower() if c not in set(string.punctuation))
    return " ".join(re.sub(r"\b(a|an|the)\b", " ", kept).split())


def words_f1(answer, own, empty_counts):
    answer, own = answer.split(), own.split()
    if empty_counts and not (answer and own):
        return float(answer == own)
    same = sum((collections.Counter(answer) & collections.Counter(own)).values())
    return 2 * same / (len(answer) + len(own)) if same else 0.0


def answers(rng, questions, rules):
    vocabulary = ["the", "a", "An", "Theatre", "river", "River,", "of", "1,200", "U.S.", "–", "Ünal", "'s", "a-b"]
    text = lambda most: " ".join(rng.choice(vocabulary) for _ in range(rng.randint(1, most)))
    rows = []
    for _ in range(questions):
        known = [text(4) for _ in range(rng.randint(0 if rules == "v2" else 1, 3))]
        own = rng.choice([*known, text(4), "" if rules == "v2" else text(2)])
        rows.append({"answers": known, "prediction": own, "no_answer": rng.randrange(20) / 20})
    judged = []
    for row in rows:
        known = [normalized(answer) for answer in row["answers"]]
        if rules == "v2":
            known = [answer for answer in known if answer] or [""]
        own = normalized(row["prediction"])
        judged.append((max(float(k == own) for k in known), max(words_f1(k, own, rules == "v2") for k in known)))
    mean = lambda values: sum(values) / len(values) if values else math.nan
    expected = {"exact": mean([exact for exact, _ in judged]), "f1": mean([f1 for _, f1 in judged])}
    if rules == "v2":
        has = [bool(row["answers"]) for row in rows]
        cut = [(float(not h),) * 2 if row["no_answer"] > 0.5 else j for row, h, j in zip(rows, has, judged)]
        expected["f1.thresholded"] = mean([f1 for _, f1 in cut])
        expected["f1.has_answer"] = mean([f1 for (_, f1), h in zip(judged, has) if h])
        # The script takes the answers one by one, in rising order of their scores; equal scores are not taken together.
        order = sorted(range(len(rows)), key=lambda i: rows[i]["no_answer"])
        told = [f1 if h else float(not row["prediction"]) for row, h, (_, f1) in zip(rows, has, judged)]
        best, at = sum(not h for h in has) / len(rows), 0.0
        for count in range(1, len(rows) + 1):
            found = mean([told[i] if i in order[:count] else float(not has[i]) for i in range(len(rows))])
            if found > best + 1e-12:
                best, at = found, rows[order[count - 1]]["no_answer"]
        expected["best_f1"], expected["best_f1.threshold"] = best, at
    return {"rules": rules, "questions": rows, "expected": expected}


WORDS = """the a of to and in house houses running happily , . ! ( ) " & &amp; &quot; it's o'clock 3.5 1,000 10-20 co-op e.g.
naïve Straße Ünal “quoted” 東京 です。 1,2 x-1 $5 €7 50% a/b [b] new_line <skipped> … no. 7. ii İstanbul 𝔸 nation national
nationally organization organisers skies dying agreed hopping controllers""".split()


def line(rng, most):
    return "".join(rng.choice(WORDS) + rng.choice([" ", " ", " ", " ", "", "  "]) for _ in range(rng.randint(0, most)))


def changed(rng, text):
    """A line with words left out, replaced and moved, so that it matches and can be shifted back."""
    words = text.split(" ")
    for _ in range(rng.randint(0, 4)):
        at = rng.randrange(len(words) + 1)
        kind = rng.randrange(4)
        if kind == 0:
            words[at : at + 1] = [rng.choice(WORDS)]
        elif kind == 1:
            words[at : at + 1] = []
        elif words:
            end = min(len(words), at + rng.randint(1, 4))
            run = words[at:end]
            words[at:end] = []
            to = rng.randrange(len(words) + 1)
            words[to:to] = run
    return " ".join(words)


def generation(rng, texts, references, most, sentences=1):
    sides = []
    for _ in range(texts):
        first = "\n".join(line(rng, most) for _ in range(sentences))
        others = [changed(rng, first) for _ in range(references - 1)]
        sides.append(([first, *others], changed(rng, first) if rng.random() < 0.9 else line(rng, most)))
    return [known for known, _ in sides], [own for _, own in sides]


def bleu(rng, texts, references, most, tokenizer, smoothing, lowercase):
    known, own = generation(rng, texts, references, most)
    metric = BLEU(tokenize=tokenizer, smooth_method=smoothing, lowercase=lowercase)
    single = BLEU(tokenize=tokenizer, smooth_method=smoothing, lowercase=lowercase, effective_order=True)
    found = metric.corpus_score(own, list(zip(*known)))
    expected = {"bleu": found.score, "bp": found.bp, "reference_len": found.ref_len, "hypothesis_len": found.sys_len}
    for number, (references, text) in enumerate(zip(known, own)):
        expected[f"sentence.{number}"] = single.sentence_score(text, references).score
    options = {"tokenizer": tokenizer, "smoothing": smoothing, "lowercase": lowercase}
    return options | {"references": known, "predictions": own, "expected": expected}


def chrf(rng, texts, references, most, with_words, lowercase):
    known, own = generation(rng, texts, references, most)
    metric = CHRF(word_order=2 if with_words else 0, lowercase=lowercase)
    expected = {"chrf": metric.corpus_score(own, list(zip(*known))).score}
    for number, (references, text) in enumerate(zip(known, own)):
        expected[f"sentence.{number}"] = metric.sentence_score(text, references).score
    options = {"with_words": with_words, "lowercase": lowercase}
    return options | {"references": known, "predictions": own, "expected": expected}


def ter(rng, texts, references, most, normalize, no_punctuation, case_sensitive):
    known, own = generation(rng, texts, references, most)
    if normalize:
        # sacrebleu normalizes references twice, and hypotheses once.
        known[-1], own[-1] = ["the house is john's, not it's (mine)"], "john's, the house it's"
    metric = TER(normalized=normalize, no_punct=no_punctuation, case_sensitive=case_sensitive)
    expected = {"ter": metric.corpus_score(own, list(zip(*known))).score}
    for number, (references, text) in enumerate(zip(known, own)):
        expected[f"sentence.{number}"] = metric.sentence_score(text, references).score
    options = {"normalize": normalize, "no_punctuation": no_punctuation, "case_sensitive": case_sensitive}
    return options | {"references": known, "predictions": own, "expected": expected}


def rouge(rng, texts, references, most, stem):
    known, own = generation(rng, texts, references, most, sentences=3)
    scorer = RougeScorer(["rouge1", "rouge2", "rougeL", "rougeLsum"], use_stemmer=stem)
    expected = {}
    for number, (references, text) in enumerate(zip(known, own)):
        for name, found in scorer.score_multi(references, text).items():
            expected |= prf(f"{number}.{name}", found)
    return {"stem": stem, "references": known, "predictions": own, "expected": expected}


def perplexity(rng, texts):
    rows = [[-rng.expovariate(0.5) for _ in range(rng.randint(1, 8))] for _ in range(texts)]
    tokens = [p for row in rows for p in row]
    expected = {
        "perplexity": math.exp(-math.fsum(tokens) / len(tokens)),
        "mean_perplexity": sum(math.exp(-math.fsum(row) / len(row)) for row in rows) / texts,
    }
    return {"log_probs": rows, "expected": expected}


def mcnemar(first, second):
    total = first + second
    expected = {"exact_p": stats.binomtest(first, total).pvalue if total else 1.0}
    if total:
        value = (abs(first - second) - 1) ** 2 / total
        expected |= {"chi_squared": value, "chi_squared_p": stats.chi2.sf(value, 1)}
    return {"only_first": first, "only_second": second, "expected": expected}


def clean(value):
    value = float(value)
    return value if math.isfinite(value) else None


def case(function, *arguments):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        made = function(*arguments)
    made["expected"] = {name: clean(value) for name, value in made["expected"].items()}
    return {"metric": function.__name__, **made}


def main():
    rng = random.Random(20261126)
    cases = [
        case(classification, rng, 30, 2),
        case(classification, rng, 40, 4),
        case(classification, rng, 5, 4),
        case(scores, rng, 20, 2),
        case(scores, rng, 16, 3),
        case(multilabel, rng, 12, 4),
        case(regression, rng, 20, 12),
        case(regression, rng, 6, 1),
        *(case(entities, rng, 6, name) for name in SCHEMES),
        case(answers, rng, 12, "v1"),
        case(answers, rng, 16, "v2"),
        case(bleu, rng, 4, 1, 14, "13a", "exp", False),
        case(bleu, rng, 4, 2, 14, "intl", "floor", True),
        case(bleu, rng, 4, 1, 8, "zh", "add-k", False),
        case(bleu, rng, 3, 1, 5, "char", "exp", False),
        case(bleu, rng, 3, 1, 5, "none", "none", True),
        case(chrf, rng, 4, 2, 12, False, False),
        case(chrf, rng, 4, 1, 12, True, True),
        case(ter, rng, 4, 1, 20, False, False, False),
        case(ter, rng, 4, 2, 14, True, False, True),
        case(ter, rng, 3, 1, 14, True, True, False),
        case(rouge, rng, 2, 1, 12, False),
        case(rouge, rng, 3, 2, 12, True),
        case(perplexity, rng, 3),
        *(case(mcnemar, *counts) for counts in [(0, 0), (1, 1), (3, 12), (25, 4), (700, 820)]),
    ]
    OUT.parent.mkdir(parents=True, exist_ok=True)
    lines = [json.dumps(one, ensure_ascii=False, separators=(",", ":")) for one in cases]
    OUT.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
