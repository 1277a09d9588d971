"""What the pipelines of transformers say of texts: the folders of crates/runtime/tests/pipelines.

Needs torch, safetensors and transformers 4.57.6. Each folder has a tiny model with random weights, its tokenizer, and
`expected.json`: inputs, how the pipeline was called, and what it said, of the model run in float64.
"""

import json
import shutil
import sys
from pathlib import Path

sys.dont_write_bytecode = True

import torch
import transformers
from encoders import LABELS, SOURCE, randomise, settings, small_bert
from tokenizers import ByteLevelBPETokenizer
from transformers import pipeline

OUT = Path(__file__).resolve().parents[2] / "crates/runtime/tests/pipelines"
ENTITIES = ["O", "B-PER", "I-PER", "B-LOC", "I-LOC", "MISC"]
LONG = "The cat sat on the red mat, and the water of the river bank is how cloze text is to wateringer; not query! " * 3
CORPUS = ["the old mill stood near the river", "the river ran to the sea", "Paris is the capital of France", "an old capital"]


def fresh(name):
    folder = OUT / name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder


def small_roberta(folder, seed):
    """A RoBERTa for masks, with byte-pair encoding: its mask takes the blank before it."""
    bytes = ByteLevelBPETokenizer()
    specials = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    bytes.train_from_iterator(CORPUS * 10, vocab_size=310, min_frequency=2, special_tokens=specials)
    bytes.save_model(str(folder))
    tokenizer = transformers.RobertaTokenizerFast.from_pretrained(folder, model_max_length=38)
    tokenizer.save_pretrained(folder)
    more = {"max_position_embeddings": 40, "type_vocab_size": 1, "pad_token_id": 1, "vocab_size": len(tokenizer)}
    config = transformers.RobertaConfig(**settings(**more))
    randomise(transformers.RobertaForMaskedLM(config), seed).save_pretrained(folder)


def open_pipeline(folder, task):
    runs = pipeline(task, model=str(folder), device="cpu", model_kwargs={"attn_implementation": "eager"})
    runs.model.to(torch.float64)
    return runs


def save(folder, cases):
    expected = {"source": SOURCE, "cases": cases}
    (folder / "expected.json").write_text(json.dumps(expected, indent=1, ensure_ascii=False) + "\n")
    size = sum(file.stat().st_size for file in folder.iterdir())
    print(f"{folder.name:16} {size:7} bytes, {len(cases)} cases")


def masks(folder, texts, candidates):
    runs = open_pipeline(folder, "fill-mask")
    cases = []
    for text in texts:
        for targets in (None, candidates):
            found = runs(text, top_k=4, targets=targets)
            found = [found] if isinstance(found[0], dict) else found
            fills = [[[one["token"], one["token_str"], one["score"]] for one in mask] for mask in found]
            cases.append({"text": text, "top": 4, "candidates": targets or [], "masks": fills})
    save(folder, cases)


def classes(folder, functions):
    runs = open_pipeline(folder, "text-classification")
    cases = []
    for text, pair in [("The cat sat.", None), ("how is the water", "The river bank is red."), ("", None), (LONG, None), ("a", LONG)]:
        for function in functions:
            inputs = {"text": text} if pair is None else {"text": text, "text_pair": pair}
            found = runs(inputs, top_k=None, function_to_apply=function, truncation=True)
            labels = [[one["label"], one["score"]] for one in found]
            cases.append({"text": text, "pair": pair, "function": function, "labels": labels})
    save(folder, cases)


def tokens(folder):
    cases = []
    texts = ["The cat sat on the red mat.", "ÜBER Straße café is not éé", "wateringer and the 🙂 river: how?", "", LONG]
    for strategy in ["none", "simple", "first", "average", "max"]:
        overlap = {} if strategy == "none" else {"stride": 9}
        ignored = [] if strategy == "none" else ["O"]
        runs = pipeline(
            "token-classification",
            model=str(folder),
            device="cpu",
            model_kwargs={"attn_implementation": "eager"},
            aggregation_strategy=strategy,
            ignore_labels=ignored,
            **overlap,
        )
        runs.model.to(torch.float64)
        for text in texts:
            # The pipeline has no windows where tokens stay apart.
            if strategy == "none" and text == LONG:
                continue
            name = "entity" if strategy == "none" else "entity_group"
            found = [[one[name], float(one["score"]), one["start"], one["end"]] for one in runs(text)] if text else []
            cases.append({"text": text, "strategy": strategy, "overlap": 9, "entities": found})
    save(folder, cases)


def answers(folder):
    runs = open_pipeline(folder, "question-answering")
    # Of answers that stand at the same place the surest counts; the pipeline adds up those with the same text, which are
    # of several windows, or grew to the same words.
    runs.get_answer = lambda answers, target: None
    cases = []
    contexts = ["The river bank is red and the cat sat on the mat.", LONG, "wateringer cloze éé 水", "cat"]
    for question in ["how is the water", "who sat?"]:
        for context in contexts:
            for count, nothing, longest in [(1, False, 15), (3, False, 15), (3, True, 4)]:
                more = {"handle_impossible_answer": nothing, "max_answer_len": longest}
                found = runs(question=question, context=context, top_k=10_000, **more)
                best = {}
                for one in [found] if isinstance(found, dict) else found:
                    place = one["start"], one["end"]
                    # Of a short context the pipeline lists the first token too, with a score of 0.
                    if place == (0, 0) and not nothing:
                        continue
                    best[place] = max(best.get(place, 0.0), one["score"])
                best = sorted(best.items(), key=lambda item: -item[1])[:count]
                spans = [[score, start, end, context[start:end]] for (start, end), score in best]
                case = {"question": question, "context": context, "count": count, "nothing": nothing}
                cases.append({**case, "max_tokens": longest, "answers": spans})
    save(folder, cases)


def main():
    torch.set_num_threads(1)
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    folder = fresh("masks")
    small_bert(folder, 401, "BertForMaskedLM")
    masks(folder, ["The [MASK] sat on the mat.", "[MASK] is [MASK]", "how [MASK]!"], ["cat", "river", "##ing", "[UNK]"][:3])
    folder = fresh("masks-bytes")
    small_roberta(folder, 402)
    masks(folder, ["Paris is the <mask> of France", "<mask> old<mask>"], ["Ġriver", "Ġthe", "ital"])
    folder = fresh("labels")
    small_bert(folder, 403, "BertForSequenceClassification", **LABELS)
    classes(folder, [None, "sigmoid", "none"])
    folder = fresh("labels-many")
    small_bert(folder, 404, "BertForSequenceClassification", **LABELS, problem_type="multi_label_classification")
    classes(folder, [None, "softmax"])
    folder = fresh("regression")
    small_bert(folder, 405, "BertForSequenceClassification", num_labels=1, problem_type="regression")
    classes(folder, [None])
    folder = fresh("one-label")
    small_bert(folder, 406, "BertForSequenceClassification", num_labels=1)
    classes(folder, [None])
    folder = fresh("tokens")
    names = {"id2label": dict(enumerate(ENTITIES)), "label2id": {label: index for index, label in enumerate(ENTITIES)}}
    small_bert(folder, 407, "BertForTokenClassification", **names)
    tokens(folder)
    folder = fresh("answers")
    small_bert(folder, 408, "BertForQuestionAnswering")
    answers(folder)


if __name__ == "__main__":
    main()
