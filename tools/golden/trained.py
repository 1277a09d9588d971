"""Trained tokenizers, and what other programs make of them: crates/data/tests/golden/trained/.

Needs `pip install tokenizers==0.23.* transformers==5.*`, and cargo, to run `cloze tokenizer train` on the texts that lie
beside the folders it writes. Ids, segments and offsets are those of transformers, which opens the folders; merges of pairs
of bytes are those that the trainer of the Python package tokenizers learns from the same texts.
"""

import json
import os
import shutil
import subprocess
from pathlib import Path

os.environ["TRANSFORMERS_VERBOSITY"] = "error"

from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from transformers import AutoTokenizer

ROOT = Path(__file__).resolve().parents[2]
OUT = ROOT / "crates/data/tests/golden/trained"

# A folder's texts and options.
FOLDERS = {
    "wordpiece": ("english", "--lowercase --vocab-size 130"),
    "wordpiece-turkish": ("turkish", "--language turkish --lowercase --vocab-size 120"),
    "wordpiece-arabic": ("arabic", "--language arabic --unify alef,ya,ta-marbuta --vocab-size 105"),
    "wordpiece-japanese": ("japanese", "--language japanese --vocab-size 115"),
    "byte-pairs": ("english", "--model byte-pairs --vocab-size 330 --special [DRUG]"),
    "byte-pairs-turkish": ("turkish", "--model byte-pairs --language turkish --lowercase --vocab-size 300"),
    "unigram": ("english", "--model unigram --vocab-size 95"),
    "unigram-serbian": ("serbian", "--model unigram --language serbian --vocab-size 95"),
}

TEXTS = [
    "",
    " ",
    "The miller's daughter read the letters.",
    "  two  blanks, and\ttabs\nand lines ",
    "Café, CAFE\u0301, naïve; 1911-365 = ?",
    "IĞDIR İSTANBUL ısı Isı ILIK I\u0307zmir'de",
    "ırmağın kıyısında IRMAK",
    "كَتَبَتِ الفتاةُ رسالةً إلى المقهى، الشـــاي",
    "أين آخر إشارة ٱلكتب على القهوة؟",
    "Љубица у ЉУБЉАНИ, Његош, ЊЕГОШ, Џак, ЏЕМ, џем, КРАЉ, Љ.",
    "Đak čita ђак чита ćerka ћерка",
    "ﾗﾝﾌﾟとコーヒー、１９１１年の日々 らーめん",
    "茶中国 red茶",
    "🫖 tea 🫖🫖 \U0001f468\u200d\U0001f469\u200d\U0001f467",
    "[MASK] and <mask> and a [DRUG] or [SEP] </s>",
    "control\u0000\u0001\u0007 chars \ufffd \u200b zero \ufeff width ½ ﬁne",
    "x" * 101 + " tea",
]
PAIRS = [("Who read the letters?", "The miller's daughter read them."), ("Љубица", "İzmir'de çay")]


def main():
    for folder in OUT.iterdir():
        if folder.name != "texts":
            shutil.rmtree(folder) if folder.is_dir() else folder.unlink()
    train = ["cargo", "run", "--release", "--quiet", "--", "tokenizer", "train"]
    cases = []
    for name, (texts, options) in FOLDERS.items():
        data = OUT / f"texts/{texts}.txt"
        subprocess.run([*train, "--data", data, *options.split(), "-o", OUT / name], cwd=ROOT, check=True)
        tokenizer = AutoTokenizer.from_pretrained(OUT / name)
        for texts in [[text] for text in TEXTS] + [list(pair) for pair in PAIRS]:
            made = tokenizer(*texts, return_offsets_mapping=True, return_token_type_ids=True)
            cases.append({
                "folder": name,
                "texts": texts,
                "ids": made["input_ids"],
                "segments": made["token_type_ids"],
                "offsets": made["offset_mapping"],
            })
    lines = [json.dumps(case, ensure_ascii=False) for case in cases]
    (OUT / "tokens.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = trainers.BpeTrainer(
        vocab_size=330,
        min_frequency=2,
        show_progress=False,
        special_tokens=["<s>", "<pad>", "</s>", "<unk>", "<mask>", "[DRUG]"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    )
    lines = (OUT / "texts/english.txt").read_text(encoding="utf-8").splitlines()
    tokenizer.train_from_iterator(lines, trainer)
    merges = json.loads(tokenizer.to_str())["model"]["merges"]
    text = "\n".join(" ".join(merge) for merge in merges) + "\n"
    (OUT / "byte-pairs-merges.txt").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
