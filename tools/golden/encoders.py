"""Reference numbers for pretrained encoders: the folders of crates/runtime/tests/golden.

Needs torch, safetensors and transformers: 4.57.6 remakes the folders whose configs it wrote, 5.23.0 the others. README.md
here has the folders and the format.

Weights are random, and large enough for every term to show. What is written is the model run in float64, each sequence
alone and without padding, so that a difference is the reader's.
"""

import json
import shutil
import sys
from pathlib import Path

sys.dont_write_bytecode = True

import torch
import transformers
from safetensors.torch import load_file, save_file
from torch import nn

OUT = Path(__file__).resolve().parents[2] / "crates/runtime/tests/golden"
GENERATION = int(transformers.__version__.split(".")[0])
SOURCE = f"transformers {transformers.__version__}"
LENGTHS = [1, 2, 5, 13, 33]
VOCAB = 48
LABELS = {"id2label": {0: "no", 1: "maybe", 2: "yes"}, "label2id": {"no": 0, "maybe": 1, "yes": 2}}


def randomise(model, seed):
    """Weights that leave nothing degenerate: scores of attention around 1, gains and biases of their own."""
    generator = torch.Generator().manual_seed(seed)
    tables = {id(module.weight) for module in model.modules() if isinstance(module, nn.Embedding)}
    with torch.no_grad():
        for name, parameter in sorted(model.named_parameters()):
            noise = torch.randn(parameter.shape, generator=generator)
            if id(parameter) in tables:
                value = 0.6 * noise
            elif parameter.dim() > 1:
                value = noise * 1.2 / parameter[0].numel() ** 0.5
            elif name.endswith("bias"):
                value = 0.2 * noise
            else:
                value = 1 + 0.25 * noise
            parameter.copy_(value)
    return model.eval()


def first(output):
    return output[0] if isinstance(output, tuple) else output


class Stages:
    """Listens to a model: what its embedding and each layer pass on, and the final norm if there is one."""

    def __init__(self, embedding, layers, final=None, after=()):
        self.hidden, self.final = [], None
        self.hooks = [embedding.register_forward_hook(self.next)]
        self.hooks += [layer.register_forward_hook(self.next) for layer in layers]
        self.hooks += [module.register_forward_hook(self.replace) for module in after]
        if final is not None:
            self.hooks.append(final.register_forward_hook(self.end))

    def next(self, _module, _inputs, output):
        self.hidden.append(first(output)[0])

    def replace(self, _module, _inputs, output):
        self.hidden[-1] = first(output)[0]

    def end(self, _module, _inputs, output):
        self.final = first(output)[0]

    def take(self):
        hidden = torch.stack(self.hidden)
        final = hidden[-1] if self.final is None else self.final
        self.hidden, self.final = [], None
        return hidden, final


def stages(model):
    """Where each family keeps its stages."""
    body = getattr(model, model.base_model_prefix, model)
    kind = model.config.model_type
    if kind == "modernbert":
        return Stages(body.embeddings, body.layers, body.final_norm)
    if kind == "nomic_bert":
        return Stages(body.embeddings, body.layers if hasattr(body, "layers") else body.encoder.layer)
    if kind == "distilbert":
        return Stages(body.embeddings, body.transformer.layer)
    if kind == "albert":
        inner = [layer for group in body.encoder.albert_layer_groups for layer in group.albert_layers]
        return Stages(body.encoder.embedding_hidden_mapping_in, inner)
    if kind == "electra":
        return Stages(getattr(body, "embeddings_project", body.embeddings), body.encoder.layer)
    if kind == "deberta-v2" and body.encoder.conv is not None:
        return Stages(body.embeddings, body.encoder.layer, after=[body.encoder.conv])
    return Stages(body.embeddings, body.encoder.layer if hasattr(body, "encoder") else body.layers)


def sequences(seed, segments):
    """Random token ids; ids below 5 are left to special tokens. The second half is the second segment."""
    generator = torch.Generator().manual_seed(seed)
    tokens = [torch.randint(5, VOCAB, (length,), generator=generator) for length in LENGTHS]
    kinds = [(torch.arange(length) >= (length + 1) // 2).long() for length in LENGTHS] if segments > 1 else None
    return tokens, kinds


def head_rows(output):
    """What the head gives one sequence: a row for each token, or one."""
    if "start_logits" in output:
        return torch.stack([output.start_logits[0], output.end_logits[0]], dim=-1)
    if "logits" in output:
        return output.logits[0] if output.logits.dim() == 3 else output.logits
    return output.get("pooler_output")


def write_golden(folder, tokens, segments, hidden, final, logits, source=SOURCE, metadata=None, **more):
    offsets = torch.tensor([0] + [len(one) for one in tokens]).cumsum(0)
    tensors = {"offsets": offsets.int(), "tokens": torch.cat(tokens).int(), **more}
    if segments is not None:
        tensors["segments"] = torch.cat(segments).int()
    if hidden is not None:
        tensors["hidden"] = torch.cat(hidden, dim=1).float()
    if final is not None:
        tensors["final"] = torch.cat(final).float()
    if logits is not None:
        tensors["logits"] = torch.cat(logits).float()
    tensors = {name: tensor.contiguous() for name, tensor in tensors.items()}
    save_file(tensors, folder / "golden.safetensors", {"format": "golden 1", "source": source, **(metadata or {})})


def reference(model, tokens, segments, dtype):
    model = model.to(dtype)
    listener = stages(model)
    hidden, final, logits = [], [], []
    with torch.no_grad():
        for index, ids in enumerate(tokens):
            kinds = {} if segments is None else {"token_type_ids": segments[index][None]}
            output = model(input_ids=ids[None], attention_mask=torch.ones_like(ids)[None], **kinds)
            states, last = listener.take()
            hidden.append(states)
            final.append(last)
            logits.append(head_rows(output))
    for hook in listener.hooks:
        hook.remove()
    return hidden, final, None if logits[0] is None else logits


def make(name, head, config, seed, save=None):
    """A folder of `head`, a class of transformers, with random weights, and what it gives."""
    folder = OUT / name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    config._attn_implementation = "eager"
    architecture = getattr(transformers, head)
    model = randomise(architecture(config), seed)
    (save or (lambda model, folder: model.save_pretrained(folder)))(model, folder)
    tokens, segments = sequences(seed, getattr(config, "type_vocab_size", 0) or 0)
    unsaved = reference(model, tokens, segments, torch.float64)
    # What counts is what the folder says.
    model = architecture.from_pretrained(folder, attn_implementation="eager").eval()
    rough = reference(model, tokens, segments, torch.float32)
    exact = reference(model, tokens, segments, torch.float64)
    assert distance(unsaved[0], exact[0]) == 0, f"{name}: what was saved is not what was made"
    write_golden(folder, tokens, segments, *exact)
    size = sum(file.stat().st_size for file in folder.iterdir())
    print(f"{name:32} {size:7} bytes, float32 is off by {distance(rough[0], exact[0]):.1e}")


def distance(ours, theirs):
    """Largest difference, per root mean square of a stage."""
    ours, theirs = torch.cat(ours, dim=1).double(), torch.cat(theirs, dim=1).double()
    size = theirs.pow(2).mean(dim=(1, 2)).sqrt()
    return ((ours - theirs).abs().amax(dim=(1, 2)) / size).max().item()


def settings(**more):
    """What most configs share."""
    common = {
        "vocab_size": VOCAB,
        "hidden_size": 24,
        "num_hidden_layers": 2,
        "num_attention_heads": 3,
        "intermediate_size": 40,
        "max_position_embeddings": 40,
    }
    return {**common, **more}


def pickled(model, folder):
    model.save_pretrained(folder, safe_serialization=False)


def sharded(model, folder):
    model.save_pretrained(folder, max_shard_size="20KB")


def antique(model, folder):
    """As the first BERT checkpoints: gains named gamma, biases of norms beta, a config without an architecture."""
    model.save_pretrained(folder)
    weights = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    renamed = {
        name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta"): tensor
        for name, tensor in weights.items()
    }
    torch.save(renamed, folder / "pytorch_model.bin")
    keep = ["hidden_act", "hidden_size", "intermediate_size", "layer_norm_eps", "max_position_embeddings"]
    keep += ["num_attention_heads", "num_hidden_layers", "type_vocab_size", "vocab_size"]
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({key: config[key] for key in keep}, indent=2) + "\n")


def old():
    t = transformers
    roberta = {"max_position_embeddings": 42, "type_vocab_size": 1, "pad_token_id": 1}
    make("bert", "BertModel", t.BertConfig(**settings()), 1)
    make("bert-mlm", "BertForMaskedLM", t.BertConfig(**settings()), 2)
    make("bert-antique", "BertForMaskedLM", t.BertConfig(**settings(hidden_act="gelu")), 3, antique)
    shaw = settings(position_embedding_type="relative_key")
    make("bert-relative-key", "BertForSequenceClassification", t.BertConfig(**shaw, **LABELS), 4)
    huang = settings(position_embedding_type="relative_key_query", hidden_act="relu")
    make("bert-relative-key-query", "BertForTokenClassification", t.BertConfig(**huang, **LABELS), 5, pickled)
    make("bert-qa", "BertForQuestionAnswering", t.BertConfig(**settings(hidden_act="gelu_new")), 6, sharded)
    make("roberta-mlm", "RobertaForMaskedLM", t.RobertaConfig(**settings(**roberta)), 7)
    many = {**LABELS, "problem_type": "multi_label_classification"}
    make("xlm-roberta", "XLMRobertaForSequenceClassification", t.XLMRobertaConfig(**settings(**roberta), **many), 8)
    make("camembert", "CamembertForTokenClassification", t.CamembertConfig(**settings(**roberta), **LABELS), 9)
    distil = {"vocab_size": VOCAB, "dim": 24, "n_layers": 2, "n_heads": 3, "hidden_dim": 40, "max_position_embeddings": 40}
    make("distilbert-mlm", "DistilBertForMaskedLM", t.DistilBertConfig(**distil), 10)
    groups = {"embedding_size": 16, "num_hidden_layers": 4, "num_hidden_groups": 2, "inner_group_num": 2}
    make("albert-mlm", "AlbertForMaskedLM", t.AlbertConfig(**settings(**groups)), 11)
    small = {"embedding_size": 16}
    make("electra", "ElectraForSequenceClassification", t.ElectraConfig(**settings(**small), **LABELS), 12)
    make("electra-mlm", "ElectraForMaskedLM", t.ElectraConfig(**settings(**small)), 13)
    mpnet = {"max_position_embeddings": 42, "pad_token_id": 1, "num_hidden_layers": 3}
    make("mpnet-mlm", "MPNetForMaskedLM", t.MPNetConfig(**settings(**mpnet)), 14)
    window = {"num_hidden_layers": 4, "local_attention": 8, "pad_token_id": 3}
    make("modernbert-mlm", "ModernBertForMaskedLM", t.ModernBertConfig(**settings(**window)), 15)
    biased = {"attention_bias": True, "mlp_bias": True, "norm_bias": True, "classifier_bias": True}
    biased |= {"classifier_pooling": "mean", "global_attn_every_n_layers": 2, "hidden_activation": "silu"}
    make(
        "modernbert-biased",
        "ModernBertForSequenceClassification",
        t.ModernBertConfig(**settings(**window, **biased), **LABELS),
        16,
    )
    third = {"relative_attention": True, "position_buckets": 8, "norm_rel_ebd": "layer_norm", "share_att_key": True}
    third |= {"pos_att_type": "p2c|c2p", "position_biased_input": False, "max_relative_positions": -1}
    third |= {"type_vocab_size": 0, "pooler_hidden_size": 24}
    make("deberta-v3", "DebertaV2ForSequenceClassification", t.DebertaV2Config(**settings(**third), **LABELS), 17)
    make("deberta-v3-mlm", "DebertaV2ForMaskedLM", t.DebertaV2Config(**settings(**third)), 18)
    convolved = {**third, "conv_kernel_size": 3, "conv_act": "gelu", "position_buckets": 4}
    make("deberta-v2-conv", "DebertaV2ForTokenClassification", t.DebertaV2Config(**settings(**convolved), **LABELS), 19)
    apart = {**third, "share_att_key": False, "position_buckets": -1, "norm_rel_ebd": "none", "type_vocab_size": 2}
    apart |= {"max_relative_positions": 12, "pos_att_type": ["c2p", "p2c"], "position_biased_input": True}
    make("deberta-v2-apart", "DebertaV2ForQuestionAnswering", t.DebertaV2Config(**settings(**apart)), 20)


def new():
    t = transformers
    roberta = {"max_position_embeddings": 42, "type_vocab_size": 1, "pad_token_id": 1}
    make("bert-v5", "BertForSequenceClassification", t.BertConfig(**settings(), **LABELS), 101)
    # Saved with two biases, of which `decoder.bias` is in force.
    make("bert-v5-untied", "BertForMaskedLM", t.BertConfig(**settings(), tie_word_embeddings=False), 102)
    make("roberta-v5", "RobertaForQuestionAnswering", t.RobertaConfig(**settings(**roberta)), 103)
    make("xlm-roberta-v5", "XLMRobertaForMaskedLM", t.XLMRobertaConfig(**settings(**roberta)), 104)
    score = {"num_labels": 1, "problem_type": "regression"}
    make("camembert-v5", "CamembertForSequenceClassification", t.CamembertConfig(**settings(**roberta), **score), 105)
    distil = {"vocab_size": VOCAB, "dim": 24, "n_layers": 2, "n_heads": 3, "hidden_dim": 40, "max_position_embeddings": 40}
    distil |= {"activation": "relu", "sinusoidal_pos_embds": True}
    make("distilbert-v5", "DistilBertForSequenceClassification", t.DistilBertConfig(**distil, **LABELS), 106)
    groups = {"embedding_size": 16, "num_hidden_layers": 3}
    make("albert-v5", "AlbertForTokenClassification", t.AlbertConfig(**settings(**groups), **LABELS), 107)
    electra = settings(embedding_size=24, hidden_act="gelu_new")
    make("electra-v5", "ElectraForTokenClassification", t.ElectraConfig(**electra, **LABELS), 108)
    mpnet = {"max_position_embeddings": 42, "pad_token_id": 1}
    make("mpnet-v5", "MPNetForSequenceClassification", t.MPNetConfig(**settings(**mpnet), **LABELS), 109)
    window = {"num_hidden_layers": 4, "local_attention": 6, "pad_token_id": 3}
    window["layer_types"] = ["sliding_attention", "full_attention", "sliding_attention", "full_attention"]
    window["rope_parameters"] = {
        "full_attention": {"rope_type": "default", "rope_theta": 500.0},
        "sliding_attention": {"rope_type": "default", "rope_theta": 30.0},
    }
    make("modernbert-v5", "ModernBertForTokenClassification", t.ModernBertConfig(**settings(**window), **LABELS), 110)
    third = {"relative_attention": True, "position_buckets": 8, "norm_rel_ebd": "layer_norm", "share_att_key": True}
    third |= {"pos_att_type": ["c2p"], "position_biased_input": False, "max_relative_positions": 12}
    third |= {"type_vocab_size": 0, "pooler_hidden_size": 24, "embedding_size": 16}
    make("deberta-v5", "DebertaV2ForSequenceClassification", t.DebertaV2Config(**settings(**third), **LABELS), 111)
    third |= {"pos_att_type": ["p2c"], "embedding_size": 24, "legacy": False}
    make("deberta-v5-mlm", "DebertaV2ForMaskedLM", t.DebertaV2Config(**settings(**third)), 112)
    make("nomic-v5", "NomicBertModel", t.NomicBertConfig(**settings()), 113)
    make("nomic-v5-mlm", "NomicBertForMaskedLM", t.NomicBertConfig(**settings()), 114)
    make("gte-v5", "GteForSequenceClassification", t.GteConfig(**settings(type_vocab_size=2), **LABELS), 115)


def main():
    torch.set_num_threads(1)
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    old() if GENERATION == 4 else new()


if __name__ == "__main__":
    main()
