"""Whether transformers opens the folders that Cloze drafts, and what it makes of them.

Needs torch, safetensors, cargo, and transformers 4.57.6 or 5.23.0. Writes nothing into the repository: it drafts tiny new
encoders of every family, and the folders of crates/runtime/tests/golden under new heads, into a folder of its own, opens each
with the class that AutoModelFor… chooses, and has `cloze verify` compare outputs. No tensor may be missing, unknown or
misshapen, no output off by more than 1e-4.
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

sys.dont_write_bytecode = True

import torch
import transformers
from encoders import GENERATION, OUT, reference, sequences, write_golden

ROOT = Path(__file__).resolve().parents[2]
BUILD = "cargo build --release --quiet -p cloze -p cloze-nn -p cloze-runtime --bin cloze --example drafts"
BUILT = ROOT / "target/release"
AUTO = {
    "ForMaskedLM": transformers.AutoModelForMaskedLM,
    "ForSequenceClassification": transformers.AutoModelForSequenceClassification,
    "ForTokenClassification": transformers.AutoModelForTokenClassification,
    "ForQuestionAnswering": transformers.AutoModelForQuestionAnswering,
    "Model": transformers.AutoModel,
}


def is_known(config):
    """Whether this release has the family, and its positions."""
    if "auto_map" in config or "n_embd" in config or config.get("position_embedding_type") == "alibi":
        return False
    if GENERATION == 5:
        return config.get("position_embedding_type", "absolute") == "absolute"
    return config["model_type"] not in ("nomic_bert", "gte") and "layer_types" not in config


def judge(folder, seed):
    config = json.loads((folder / "config.json").read_text())
    if not is_known(config):
        return "not in this release"
    [name] = config["architectures"]
    auto = next(auto for end, auto in AUTO.items() if name.endswith(end))
    options = {"attn_implementation": "eager", "output_loading_info": True}
    model, info = auto.from_pretrained(folder, **options)
    # Where positions are distances, the class has a table that it does not read.
    unread = config.get("position_embedding_type", "absolute") != "absolute"
    is_unread = lambda tensor: unread and str(tensor).endswith("embeddings.position_embeddings.weight")
    found = {key: [tensor for tensor in tensors if not is_unread(tensor)] for key, tensors in info.items()}
    faults = {key: tensors for key, tensors in found.items() if tensors}
    if type(model).__name__ != name:
        faults["class"] = type(model).__name__
    if faults:
        return str(faults)
    tokens, segments = sequences(seed, getattr(model.config, "type_vocab_size", 0) or 0)
    write_golden(folder, tokens, segments, *reference(model.eval(), tokens, segments, torch.float64))
    verify = [BUILT / "cloze", "verify", folder, "--golden", folder / "golden.safetensors", "--tolerance", "1e-4"]
    done = subprocess.run(verify, capture_output=True, text=True)
    return done.stderr.strip()


def main():
    subprocess.run(BUILD.split(), cwd=ROOT, check=True)
    found = {}
    with tempfile.TemporaryDirectory() as out:
        example = [BUILT / "examples/drafts", out]
        heads = [folder for folder in sorted(OUT.iterdir()) if (folder / "config.json").exists()]
        subprocess.run(example, check=True)
        subprocess.run([*example, *heads], check=True)
        for seed, folder in enumerate(sorted(Path(out).iterdir())):
            found[folder.name] = judge(folder, seed)
    bad = {name: fault for name, fault in found.items() if fault not in ("", "not in this release")}
    for name, fault in bad.items():
        print(f"{name}: {fault}")
    counts = [sum(fault == kind for fault in found.values()) for kind in ("", "not in this release")]
    print(f"transformers {transformers.__version__}: {counts[0]} folders agree, {len(bad)} do not, {counts[1]} not in this release")
    sys.exit(len(bad) > 0)


main()
