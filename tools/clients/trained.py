"""Opens what `cloze train` writes in `transformers`: every weight in its place, and the outputs of both compared.

Encoders of 2 layers are trained for a few steps on a few made-up sentences; what they say is nonsense, the same nonsense on both sides."""

import argparse
import json
import random
import subprocess
import tempfile
from pathlib import Path

import torch
import transformers

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("cloze", help="the program")
args = parser.parse_args()

TOLERANCE = 1e-4
WORDS = "the a cat dog river town old new sat ran saw on near through Ada Paul London Paris".split()
draw = random.Random(1)
TEXTS = [" ".join(draw.choices(WORDS, k=draw.randint(4, 12))) for _ in range(60)]
NAMES = {"Ada": "B-PER", "Paul": "B-PER", "London": "B-LOC", "Paris": "B-LOC"}
SHAPE = "hidden_size = 32, num_hidden_layers = 2, num_attention_heads = 2, intermediate_size = 64"
FAMILIES = {
    "bert": f'model_type = "bert", {SHAPE}, max_position_embeddings = 64',
    "roberta": f'model_type = "roberta", {SHAPE}, max_position_embeddings = 66',
    "electra": f'model_type = "electra", {SHAPE}, embedding_size = 16, max_position_embeddings = 64',
    "modernbert": f'model_type = "modernbert", {SHAPE}, max_position_embeddings = 64',
}


def cloze(*words) -> str:
    done = subprocess.run([args.cloze, *map(str, words)], capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"cloze {' '.join(map(str, words))}\n{done.stderr}")
    return done.stdout


def records(*words) -> list[dict]:
    return [json.loads(line) for line in cloze(*words).splitlines()]


def opened(kind, folder):
    """The model, if every weight of the folder has its place in it and it lacks none."""
    model, found = kind.from_pretrained(folder, output_loading_info=True)
    lost = {what: list(keys) for what, keys in found.items() if keys and what != "error_msgs"}
    if lost:
        raise SystemExit(f"{folder.name} as {kind.__name__}: {lost}")
    return model.eval()


def report(what, kind, apart):
    print(f"{what:28} {kind:42} {apart:.1e}", flush=True)
    if not apart <= TOLERANCE:
        raise SystemExit(f"{what}: outputs are {apart:.1e} apart, more than {TOLERANCE:.0e}")


def apart(ours, theirs) -> float:
    return max(abs(a - b) for a, b in zip(ours, theirs, strict=True))


def likeliest(model, folder, question, context) -> float:
    """The score of the likeliest answer, as the pipeline of transformers 4 has it; 5 has none."""
    encoded = transformers.AutoTokenizer.from_pretrained(folder)(question, context, return_tensors="pt")
    hidden = torch.tensor([place > 0 and part != 1 for place, part in enumerate(encoded.sequence_ids(0))])
    with torch.inference_mode():
        out = model(**encoded)
    start, end = (of[0].masked_fill(hidden, -10000.0).softmax(-1) for of in (out.start_logits, out.end_logits))
    start[0] = end[0] = 0
    return (start[:, None] * end[None, :]).triu().tril(14).max().item()


def main():
    home = Path(tempfile.mkdtemp(prefix="cloze-trained-"))
    names = ["corpus.txt", "documents.txt", "labelled.tsv", "pairs.tsv", "words.txt", "asked.json"]
    corpus, documents, labelled, pairs, words, asked = (home / name for name in names)
    corpus.write_text("\n".join(TEXTS) + "\n")
    documents.write_text("\n\n".join("\n".join(TEXTS[at:at + 2]) for at in range(0, len(TEXTS), 2)) + "\n")
    mood = lambda text: "glad" if "cat" in text else "sad"
    labelled.write_text("text\tlabel\tall\n" + "".join(f"{t}\t{mood(t)}\t{mood(t)},{'long' if len(t) > 30 else 'short'}\n" for t in TEXTS))
    pairs.write_text("a\tb\tscore\n" + "".join(f"{a}\t{b}\t{len(set(a.split()) & set(b.split()))}\n" for a, b in zip(TEXTS, reversed(TEXTS))))
    words.write_text("\n".join("".join(f"{w} {NAMES.get(w, 'O')}\n" for w in t.split()) for t in TEXTS))
    asked.write_text(json.dumps({"version": "1.1", "data": [{"title": "t", "paragraphs": [
        {"context": t, "qas": [{"id": str(i), "question": "what ran ?", "answers": [{"text": t.split()[1], "answer_start": len(t.split()[0]) + 1}]}]}
        for i, t in enumerate(TEXTS)]}]}))
    pieces = home / "pieces"
    cloze("tokenizer", "train", "--data", corpus, "--vocab-size", 120, "-o", pieces)
    print(f"transformers {transformers.__version__}, torch {torch.__version__}, {cloze('--version').strip()}")

    def train(name, recipe, *words):
        folder = home / name
        cloze("train", recipe, "-o", folder, "--set", "model.max_len=32", "--set", "epochs=1", *words)
        return folder

    def masked(name, folder):
        text = "the cat [MASK] near the river"
        filler = transformers.pipeline("fill-mask", model=opened(transformers.AutoModelForMaskedLM, folder), tokenizer=str(folder), top_k=5)
        mask = filler.tokenizer.mask_token
        theirs = filler(text.replace("[MASK]", mask))
        file = home / "mask.jsonl"
        file.write_text(json.dumps({"text": text.replace("[MASK]", mask)}) + "\n")
        ours = records("predict", folder, file, "--top", 5)[0]["fills"]
        report(name, "AutoModelForMaskedLM", apart([f["score"] for f in ours], [f["score"] for f in theirs]))

    def vectors(name, kind, folder):
        model, tokenizer = opened(kind, folder), transformers.AutoTokenizer.from_pretrained(folder)
        encoder = getattr(model, model.base_model_prefix, model)
        written = home / f"{folder.name}.jsonl"
        cloze("embed", folder, corpus, "-o", written)
        ours = [json.loads(line) for line in written.read_text().splitlines()]
        worst = 0.0
        for text, row in list(zip(TEXTS, ours))[:8]:
            with torch.inference_mode():
                states = encoder(**tokenizer(text, return_tensors="pt")).last_hidden_state[0]
            vector = next(value for value in row.values() if isinstance(value, list))
            worst = max(worst, apart(vector, states.mean(0).tolist()))
        report(name, kind.__name__, worst)

    def logits(model, folder, *texts):
        tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
        with torch.inference_mode():
            return model(**tokenizer(*texts, return_tensors="pt")).logits[0]

    def labels(name, folder, file, *columns):
        model = opened(transformers.AutoModelForSequenceClassification, folder)
        header, *rows = (line.split("\t") for line in file.read_text().splitlines()[:9])
        rows = [dict(zip(header, row)) for row in rows]
        ours = records("predict", folder, file, "--raw-scores", *(["--text", columns[0]] + (["--pair", columns[1]] if len(columns) > 1 else [])))
        worst = 0.0
        for row, found in zip(rows, ours):
            theirs = logits(model, folder, *(row[c] for c in columns)).tolist()
            if "labels" in found:
                by_name = {label["label"]: label["score"] for label in found["labels"]}
                mine = [by_name[model.config.id2label[i]] for i in range(len(theirs))]
            else:
                mine = [found["score"]]
            worst = max(worst, apart(mine, theirs))
        report(name, "AutoModelForSequenceClassification", worst)

    encoders = {}
    for family, config in FAMILIES.items():
        recipe = "electra" if family == "electra" else "bert"
        new = ["--tokenizer", pieces, "--data", corpus, "--set", f"model.config={{ {config} }}"]
        encoders[family] = train(f"{family}-encoder", recipe, *new)
        if family == "electra":
            vectors("electra", transformers.AutoModelForPreTraining, encoders[family])
            masked("electra, its generator", encoders[family] / "generator")
        else:
            masked(family, encoders[family])
    for recipe, data, kind in [
        ("bert/pretrain", documents, transformers.AutoModelForPreTraining),
        ("bpdec", corpus, transformers.AutoModelForMaskedLM),
        ("mp3", corpus, transformers.AutoModel),
    ]:
        new = ["--tokenizer", pieces, "--data", data, "--set", f"model.config={{ {FAMILIES['bert']} }}"]
        vectors(recipe, kind, train(recipe.replace("/", "-"), recipe, *new))
    for family, encoder in encoders.items():
        on = ["--model", encoder]
        classes = train(f"{family}-classes", "bert/classify", *on, "--data", labelled, "--label", "label")
        labels(f"{family}, classes", classes, labelled, "text")
        exported = home / f"{family}-exported"
        cloze("export", classes, "-o", exported)
        labels(f"{family}, classes, exported", exported, labelled, "text")
        labels(f"{family}, several labels", train(f"{family}-several", "bert/multilabel", *on, "--data", labelled, "--label", "all"), labelled, "text")
        labels(f"{family}, pairs", train(f"{family}-pairs", "bert/regress", *on, "--data", pairs, "--text", "a", "--pair", "b", "--label", "score"), pairs, "a", "b")
        for kind, further in {"tags": [], "tags by CRF": ["--set", "objective.decode.kind=crf"]}.items():
            folder = train(f"{family}-{kind}", "bert/tag", *on, "--data", words, *further)
            model = opened(transformers.AutoModelForTokenClassification, folder)
            ours = records("predict", folder, corpus, "--aggregation", "none")
            theirs = [logits(model, folder, text).softmax(-1) for text in TEXTS[:8]]
            report(f"{family}, {kind}", "AutoModelForTokenClassification", max(
                abs(token["score"] - shares[place + 1][model.config.label2id[token["label"]]].item())
                for row, shares in zip(ours, theirs) for place, token in enumerate(row["tokens"])))
        folder = train(f"{family}-answers", "bert/answer", *on, "--data", asked)
        model = opened(transformers.AutoModelForQuestionAnswering, folder)
        file = home / "questions.jsonl"
        file.write_text("".join(json.dumps({"question": "what ran ?", "context": text}) + "\n" for text in TEXTS[:8]))
        ours = records("predict", folder, file)
        report(f"{family}, answers", "AutoModelForQuestionAnswering", max(
            abs(row["answers"][0]["score"] - likeliest(model, folder, "what ran ?", text)) for row, text in zip(ours, TEXTS)))


main()
