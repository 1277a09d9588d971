"""Fine-tunes an encoder with transformers and eager PyTorch, and prints one line of JSON: seconds and the metric.

The loop is the plain one: batches of shuffled examples padded to their longest, AdamW with decay on matrices, a linear
schedule with warm-up, gradients clipped to norm 1, the best epoch by the validation part kept.
"""

import argparse
import csv
import gzip
import json
import math
import random
import re
import time

import torch
from transformers import (
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
    AutoTokenizer,
)


def opened(path):
    return gzip.open(path, "rt", encoding="utf-8-sig") if path.endswith(".gz") else open(path, encoding="utf-8-sig")


def table(path, columns):
    with opened(path) as file:
        rows = list(csv.reader(file, delimiter="\t", quoting=csv.QUOTE_NONE))
    places = [rows[0].index(column) for column in columns]
    return [[row[place] for place in places] for row in rows[1:]]


def sentences(path):
    """Words and IOB2 tags; other schemes are not converted here."""
    words, tags, all_of = [], [], []
    with opened(path) as file:
        for line in [*file, "\n"]:
            fields = line.split()
            if not fields or fields[0] == "-DOCSTART-":
                if words:
                    all_of.append((words, tags))
                words, tags = [], []
            else:
                words.append(fields[0])
                tags.append(fields[-1])
    return all_of


def below(name, layers):
    """Layers between a parameter and the head."""
    layer = re.search(r"\.layer\.(\d+)\.", name)
    return layers - int(layer[1]) if layer else layers + 1 if re.search(r"(^|\.)embeddings\.", name) else 0


def metric_of(name, truth, found):
    if name == "accuracy":
        return sum(a == b for a, b in zip(truth, found)) / len(truth)
    if name == "spearman":
        from scipy.stats import spearmanr

        return float(spearmanr(truth, found).statistic)
    if name == "entity-f1":
        from seqeval.metrics import f1_score

        return float(f1_score(truth, found))
    from sklearn.metrics import f1_score

    return float(f1_score(truth, found))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", required=True)
    parser.add_argument("--kind", choices=["classify", "regress", "tag"], required=True)
    parser.add_argument("--train", required=True)
    parser.add_argument("--validation", required=True)
    parser.add_argument("--columns", default="")
    parser.add_argument("--metric", required=True)
    parser.add_argument("--epochs", type=int, required=True)
    parser.add_argument("--lr", type=float, required=True)
    parser.add_argument("--batch", type=int, required=True)
    parser.add_argument("--layer-decay", type=float, default=1.0)
    parser.add_argument("--max-len", type=int, required=True)
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--device", default="cpu")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    random.seed(args.seed)
    tokenizer = AutoTokenizer.from_pretrained(args.model)

    if args.kind == "tag":
        parts = [sentences(args.train), sentences(args.validation)]
        tags = ["O", *sorted({tag for _, of in parts[0] for tag in of} - {"O"})]
        ids = {tag: place for place, tag in enumerate(tags)}
        model = AutoModelForTokenClassification.from_pretrained(args.model, num_labels=len(tags))

        def encode(example):
            words, of = example
            encoded = tokenizer(words, is_split_into_words=True, truncation=True, max_length=args.max_len)
            labels, before = [], None
            for word in encoded.word_ids():
                labels.append(ids[of[word]] if word is not None and word != before else -100)
                before = word
            return {"input_ids": encoded["input_ids"], "labels": labels}
    else:
        columns = args.columns.split(",")
        parts = [table(args.train, columns), table(args.validation, columns)]
        labels = sorted({row[-1] for row in parts[0]})
        count = 1 if args.kind == "regress" else len(labels)
        extra = {"problem_type": "regression"} if args.kind == "regress" else {}
        model = AutoModelForSequenceClassification.from_pretrained(args.model, num_labels=count, **extra)

        def encode(row):
            encoded = tokenizer(*row[:-1], truncation=True, max_length=args.max_len)
            label = float(row[-1]) if args.kind == "regress" else labels.index(row[-1])
            return {**encoded, "labels": label}

    model.to(args.device)
    start = time.perf_counter()
    train, validation = ([encode(example) for example in part] for part in parts)

    def batch(examples):
        longest = max(len(example["input_ids"]) for example in examples)

        def padded(values, with_):
            return torch.tensor([[*value, *[with_] * (longest - len(value))] for value in values])

        inputs = {
            "input_ids": padded([e["input_ids"] for e in examples], tokenizer.pad_token_id),
            "attention_mask": padded([[1] * len(e["input_ids"]) for e in examples], 0),
        }
        if "token_type_ids" in examples[0]:
            inputs["token_type_ids"] = padded([e["token_type_ids"] for e in examples], 0)
        if args.kind == "tag":
            inputs["labels"] = padded([e["labels"] for e in examples], -100)
        else:
            inputs["labels"] = torch.tensor([e["labels"] for e in examples])
        return {name: values.to(args.device) for name, values in inputs.items()}

    layers = model.config.num_hidden_layers
    groups = {}
    for name, p in model.named_parameters():
        alike = (args.lr * args.layer_decay ** below(name, layers), 0.01 if p.dim() > 1 else 0.0)
        groups.setdefault(alike, []).append(p)
    groups = [{"params": of, "lr": lr, "weight_decay": decay} for (lr, decay), of in groups.items()]
    optimizer = torch.optim.AdamW(groups, lr=args.lr, fused=True)
    per_epoch = math.ceil(len(train) / args.batch)
    total = per_epoch * args.epochs
    warmup = math.ceil(0.06 * total)
    factor = lambda step: (step + 1) / warmup if step < warmup else (total - step) / max(1, total - warmup)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, factor)
    best, training = float("-inf"), 0.0
    for _ in range(args.epochs):
        model.train()
        since = time.perf_counter()
        order = random.sample(range(len(train)), len(train))
        for at in range(0, len(order), args.batch):
            inputs = batch([train[place] for place in order[at : at + args.batch]])
            loss = model(**inputs).loss
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            schedule.step()
            optimizer.zero_grad(set_to_none=True)
        training += time.perf_counter() - since
        model.eval()
        truth, found = [], []
        with torch.inference_mode():
            for at in range(0, len(validation), args.batch):
                inputs = batch(validation[at : at + args.batch])
                wanted = inputs.pop("labels")
                logits = model(**inputs).logits
                if args.kind == "tag":
                    for row, labels_of in zip(logits.argmax(-1), wanted):
                        kept = labels_of != -100
                        truth.append([tags[label] for label in labels_of[kept].tolist()])
                        found.append([tags[label] for label in row[kept].tolist()])
                elif args.kind == "regress":
                    truth.extend(wanted.tolist())
                    found.extend(logits[:, 0].tolist())
                else:
                    truth.extend(wanted.tolist())
                    found.extend(logits.argmax(-1).tolist())
        best = max(best, metric_of(args.metric, truth, found))
    print(json.dumps({"metric": best, "training_s": training, "total_s": time.perf_counter() - start}))


if __name__ == "__main__":
    main()
