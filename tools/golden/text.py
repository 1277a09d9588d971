"""Reference tokens, labels and small tokenizers: crates/data/tests/golden/text/.

Needs `pip install tokenizers==0.23.* transformers==5.*`. Vocabularies and sentences are made up here; ids, offsets and
windows are what the Python package tokenizers makes of them, labelled stretches what the token classification pipeline
of transformers makes of made-up scores.
"""

import json
import logging
import os
import shutil
import warnings
from pathlib import Path
from types import SimpleNamespace

os.environ["TRANSFORMERS_VERBOSITY"] = "error"
logging.disable(logging.WARNING)

import numpy as np
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers.pipelines.token_classification import AggregationStrategy, TokenClassificationPipeline

OUT = Path(__file__).resolve().parents[2] / "crates/data/tests/golden/text"

WORDS = """the a an and of to in is was on for with as by at from that it be are this not have red blue green tea cup pot
lamp glass heart hanging white small large garden light party box set metal paper wooden vintage christmas decoration
where who when river old mill stood near town miller anna bruns sold flour until every morning""".split()
ENDINGS = "s es ed er ing ly est ful ness tion able ment ation ville land".split()
LETTERS = "abcdefghijklmnopqrstuvwxyz0123456789"
OTHERS = list(".,;:!?'\"()-/&%$#@*+=<>_~") + list("äöüß中国茶красный") + ["🫖", "İ"]

TEXTS = [
    "",
    " ",
    "The white hanging heart lamp.",
    "  leading and trailing   ",
    "Tea-pots, GLASSES & decorations!",
    "unbelievably vintage paperweights 2011",
    "Ännchen trank Tee für 3,50 €",
    "Cafe\u0301 re\u0301sume\u0301 nai\u0308ve",
    "茶中国 red茶",
    "красный чайник",
    "🫖 tea 🫖🫖 \U0001f468\u200d\U0001f469\u200d\U0001f467",
    "tab\there\nnew\r\nline\u00a0space\u3000wide",
    "control\u0000\u0001\u0007 chars \ufffd \u200b zero \ufeff width",
    "a [MASK] of tea <mask> and [SEP] or </s> inside",
    "İstanbul ISTANBUL ﬁne ﬂour ½ ①",
    "x" * 101 + " tea",
    "y" * 100,
    "don't can't it's",
    "\u0627\u0644\u0634\u0627\u064a tea \u05ea\u05d4",
    "e\u0301" * 5 + " \u1100\u1161\u11a8 각",
    "the old mill stood near the river in the garden town until anna bruns sold every small wooden lamp",
]
PAIRS = [
    ("Who sold flour?", "The old mill stood near the river. Anna Bruns, the miller, sold flour there every morning."),
    ("", ""),
    ("the tea", ""),
    ("the white hanging heart lamp of the old mill near the river garden town", "red tea"),
    ("the white hanging heart lamp of the old mill", "near the river garden town until every morning was blue"),
    ("Café [MASK]", "🫖 茶 ½"),
]


def word_piece_words(cls, sep, pad, mask):
    words = [pad, "[UNK]", cls, sep, mask, *LETTERS, *(f"##{c}" for c in LETTERS), *OTHERS]
    words += [f"##{c}" for c in "äöüßéинкйычар"] + ["é", "и", "н"] + WORDS + [f"##{end}" for end in ENDINGS]
    return list(dict.fromkeys(words))


def word_pieces(words, lowercase, unk, cls, sep, pad, mask, mask_takes_blank, pair):
    ids = {word: index for index, word in enumerate(words)}
    tokenizer = Tokenizer(models.WordPiece(ids, unk_token=unk, max_input_chars_per_word=100))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=lowercase)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{cls}:0 $A:0 {sep}:0", pair=pair, special_tokens=[(cls, ids[cls]), (sep, ids[sep])]
    )
    tokenizer.add_special_tokens([pad, unk, cls, sep, AddedToken(mask, lstrip=mask_takes_blank, normalized=False)])
    return tokenizer


def byte_pairs(folder):
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = trainers.BpeTrainer(
        vocab_size=420,
        show_progress=False,
        special_tokens=["<s>", "<pad>", "</s>", "<unk>", "<mask>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    )
    tokenizer.train_from_iterator([" ".join(WORDS), *TEXTS[2:6], PAIRS[0][1]], trainer)
    tokenizer.model.save(str(folder))
    trained = models.BPE.from_file(str(folder / "vocab.json"), str(folder / "merges.txt"))
    tokenizer = Tokenizer(trained)
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.RobertaProcessing(
        ("</s>", 2), ("<s>", 0), trim_offsets=True, add_prefix_space=False
    )
    tokenizer.add_special_tokens(["<s>", "<pad>", "</s>", "<unk>", AddedToken("<mask>", lstrip=True, normalized=False)])
    return tokenizer


def described(encoding):
    return {
        "ids": encoding.ids,
        "segments": encoding.type_ids,
        "offsets": encoding.offsets,
        "words": encoding.word_ids,
        "special": encoding.special_tokens_mask,
    }


def cases(tokenizer):
    made = []

    def case(texts, long, max_len, overlap=0):
        tokenizer.no_truncation()
        if long != "error":
            strategy = long if long != "chunk" else ("only_second" if len(texts) == 2 else "longest_first")
            tokenizer.enable_truncation(max_len, stride=overlap, strategy=strategy)
        try:
            encoding = tokenizer.encode(*texts)
        except Exception:
            windows = None
        else:
            windows = [encoding, *(encoding.overflowing if long == "chunk" else [])]
            windows = [described(window) for window in windows]
        made.append({"texts": texts, "long": long, "max_len": max_len, "overlap": overlap, "windows": windows})

    for text in TEXTS:
        case([text], "error", 1000)
    for pair in PAIRS:
        case(list(pair), "error", 1000)
        for max_len in [8, 9, 14, 15, 30]:
            case(list(pair), "longest_first", max_len)
            case(list(pair), "only_first", max_len)
            case(list(pair), "only_second", max_len)
        case(list(pair), "chunk", 30, 5)
    for text in [TEXTS[4], TEXTS[12], TEXTS[20]]:
        case([text], "longest_first", 7)
        for overlap in [0, 1, 4]:
            case([text], "chunk", 9, overlap)
    tokenizer.no_truncation()
    return made


LABELS = ["O", "B-PER", "I-PER", "B-LOC", "I-LOC", "MISC"]
LABELLED = [
    "Anna Bruns sold decorations in Bremerland until the millers unbelievably stood",
    "Ännchen, Café-Müller & 🫖 tea1234 [MASK] garden-parties zzz½ river",
]


def entities(name, tokenizer, unk):
    """Stretches by every strategy; each text whole and as overlapping windows."""
    made = []
    kept = SimpleNamespace(model=tokenizer.model, token_to_id=tokenizer.token_to_id)
    pipeline = TokenClassificationPipeline.__new__(TokenClassificationPipeline)
    pipeline.model = SimpleNamespace(config=SimpleNamespace(id2label=dict(enumerate(LABELS))))
    pipeline.tokenizer = SimpleNamespace(
        _tokenizer=kept,
        unk_token_id=tokenizer.token_to_id(unk),
        convert_ids_to_tokens=tokenizer.id_to_token,
        convert_tokens_to_string=" ".join,
    )
    for number, text in enumerate(LABELLED):
        for max_len, overlap in [(1000, 0), (12, 4)]:
            tokenizer.no_truncation()
            tokenizer.enable_truncation(max_len, stride=overlap)
            encoding = tokenizer.encode(text)
            windows = [encoding, *encoding.overflowing]
            logits = []
            for place, window in enumerate(windows):
                # Few tokens differ from their neighbours, so that stretches grow, and some do.
                rows = np.zeros((len(window.ids), len(LABELS)), dtype=np.float32)
                for index, (start, _) in enumerate(window.offsets):
                    for label in range(len(LABELS)):
                        rows[index, label] = ((start // 9 + label * 5 + number) % 6) + (index * 7 + label + place) % 5 / 4
                logits.append(rows)
            for strategy in ["simple", "first", "average", "max"]:
                outputs = [
                    {
                        "logits": [SimpleNamespace(dtype=None, numpy=lambda rows=rows: rows)],
                        "sentence": text,
                        "input_ids": [np.array(window.ids)],
                        "offset_mapping": [window.offsets],
                        "special_tokens_mask": [SimpleNamespace(numpy=lambda w=window: np.array(w.special_tokens_mask))],
                    }
                    for window, rows in zip(windows, logits)
                ]
                found = pipeline.postprocess(outputs, AggregationStrategy(strategy))
                made.append({
                    "tokenizer": name,
                    "text": text,
                    "max_len": max_len,
                    "overlap": overlap,
                    "strategy": strategy,
                    "logits": [[float(x) for x in rows.ravel()] for rows in logits],
                    "entities": [[e["entity_group"], float(e["score"]), e["start"], e["end"]] for e in found],
                })
    tokenizer.no_truncation()
    return made


def main():
    warnings.simplefilter("ignore")
    import transformers.pipelines.token_classification as module

    # The pipeline asks for the type of its scores, which come from PyTorch there and from NumPy here.
    module.torch = SimpleNamespace(bfloat16="bfloat16", float16="float16")
    shutil.rmtree(OUT, ignore_errors=True)
    folders = {name: OUT / name for name in ["bert", "bert-cased", "mpnet", "roberta", "json"]}
    for folder in folders.values():
        folder.mkdir(parents=True)

    def write(folder, name, value):
        text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, indent=1) + "\n"
        (folders[folder] / name).write_text(text, encoding="utf-8", newline="")

    bert = word_piece_words("[CLS]", "[SEP]", "[PAD]", "[MASK]")
    mpnet = word_piece_words("<s>", "</s>", "<pad>", "<mask>")
    pair = "[CLS]:0 $A:0 [SEP]:0 $B:1 [SEP]:1"
    names = ("[UNK]", "[CLS]", "[SEP]", "[PAD]", "[MASK]")
    made = {
        "bert": word_pieces(bert, True, *names, False, pair),
        "bert-cased": word_pieces(bert, False, *names, False, pair),
        "mpnet": word_pieces(
            mpnet, True, "[UNK]", "<s>", "</s>", "<pad>", "<mask>", True, "<s>:0 $A:0 </s>:0 </s>:0 $B:1 </s>:1"
        ),
        "roberta": byte_pairs(folders["roberta"]),
        "json": word_pieces(bert, True, *names, False, pair),
    }
    write("bert", "vocab.txt", "\n".join(bert) + "\n")
    write("bert-cased", "vocab.txt", "\r\n".join(bert))
    write("bert-cased", "tokenizer_config.json", {"do_lower_case": False, "model_max_length": 512})
    write("mpnet", "vocab.txt", "\n".join(mpnet) + "\n")
    mask = {"content": "<mask>", "lstrip": True, "normalized": False, "rstrip": False, "single_word": False}
    write("mpnet", "tokenizer_config.json", {"tokenizer_class": "MPNetTokenizer", "model_max_length": 1e30})
    write("mpnet", "special_tokens_map.json", {"cls_token": "<s>", "sep_token": "</s>", "mask_token": mask})
    ids = made["roberta"].get_vocab()
    decoder = {
        str(ids[token]): {
            "content": token,
            "lstrip": token == "<mask>",
            "normalized": False,
            "rstrip": False,
            "single_word": False,
            "special": True,
        }
        for token in ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    }
    write("roberta", "tokenizer_config.json", {
        "added_tokens_decoder": decoder,
        "tokenizer_class": "RobertaTokenizer",
        "cls_token": "<s>",
        "mask_token": "<mask>",
        "model_max_length": 512,
        "truncation_side": "right",
    })
    made["json"].enable_truncation(5, stride=2)
    made["json"].enable_padding(length=64, pad_id=0, pad_token="[PAD]")
    write("json", "tokenizer.json", made["json"].to_str())
    made["json"].no_padding()
    expected = {name: cases(tokenizer) for name, tokenizer in made.items()}
    lines = [json.dumps({"folder": name, **case}, ensure_ascii=False) for name, all in expected.items() for case in all]
    (OUT / "tokens.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    labelled = entities("bert", made["bert"], "[UNK]") + entities("roberta", made["roberta"], "<unk>")
    lines = [json.dumps(case, ensure_ascii=False) for case in labelled]
    (OUT / "labels.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
