"""Reference numbers for pretrained encoders: the folders of crates/runtime/tests/golden.

Needs torch, safetensors and transformers: 4.57.6 remakes the folders whose configs it wrote, 5.23.0 the others. README.md
here has the folders and the format.

Weights are random, and large enough for every term to show. What is written is the model run in float64, each sequence
alone and without padding, so that a difference is the reader's.
"""

import json
import shutil
import sys
import tempfile
from pathlib import Path

sys.dont_write_bytecode = True

import torch
import transformers
from safetensors.torch import load_file
from torch import nn
from torch.nn import functional as F

OUT = Path(__file__).resolve().parents[2] / "crates/runtime/tests/golden"
GENERATION = int(transformers.__version__.split(".")[0])
SOURCE = f"transformers {transformers.__version__}"
LENGTHS = [1, 2, 9, 26]
VOCAB = 42
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
    """Listens to a model: what its embedding and each layer pass on, and its final norm if it has one."""

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
        hidden, final = torch.stack(self.hidden), self.final
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
    if final is not None and final[0] is not None:
        tensors["final"] = torch.cat(final).float()
    if logits is not None:
        tensors["logits"] = torch.cat(logits).float()
    write_safetensors(folder / "golden.safetensors", tensors, {"format": "golden 1", "source": source, **(metadata or {})})


def write_safetensors(path, tensors, metadata):
    """The same bytes each time; the package orders metadata at random."""
    header, data = {"__metadata__": metadata}, b""
    for name, tensor in tensors.items():
        array = tensor.contiguous().numpy()
        bytes = array.tobytes()
        kind = {"int32": "I32", "float32": "F32"}[str(array.dtype)]
        header[name] = {"dtype": kind, "shape": list(array.shape), "data_offsets": [len(data), len(data) + len(bytes)]}
        data += bytes
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    path.write_bytes(len(text).to_bytes(8, "little") + text + data)


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


def fresh(name):
    folder = OUT / name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder


def report(name, rough, exact):
    size = sum(file.stat().st_size for file in (OUT / name).rglob("*") if file.is_file())
    print(f"{name:32} {size:7} bytes, float32 is off by {distance(rough, exact):.1e}")


def make(name, head, config, seed, save=None):
    """A folder of `head`, a class of transformers, with random weights, and what it gives."""
    folder = fresh(name)
    config._attn_implementation = "eager"
    architecture = getattr(transformers, head)
    model = randomise(architecture(config), seed)
    (save or (lambda model, folder: model.save_pretrained(folder)))(model, folder)
    tokens, segments = sequences(seed, getattr(config, "type_vocab_size", 0) or 0)
    unsaved = reference(model, tokens, segments, torch.float64)
    # What counts is what the folder says.
    model = architecture.from_pretrained(folder, attn_implementation="eager", dtype=torch.float32).eval()
    rough = reference(model, tokens, segments, torch.float32)
    exact = reference(model, tokens, segments, torch.float64)
    assert distance(unsaved[0], exact[0]) == 0, f"{name}: what was saved is not what was made"
    write_golden(folder, tokens, segments, *exact)
    report(name, rough[0], exact[0])


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
        "intermediate_size": 36,
        "max_position_embeddings": 28,
    }
    return {**common, **more}


def pickled(model, folder):
    model.save_pretrained(folder, safe_serialization=False)


def sharded(model, folder):
    model.save_pretrained(folder, max_shard_size="20KB")


def halves(model, folder):
    model.half().save_pretrained(folder)


def brains(model, folder):
    model.bfloat16().save_pretrained(folder)


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


PUBLISHED = {
    "nomic": {
        "norm": "emb_ln",
        "layer": "encoder.layers.{}.",
        "qkv": ["attn.Wqkv"],
        "output": "attn.out_proj",
        "attention_norm": "norm1",
        "plain": ["mlp.fc11"],
        "activated": ["mlp.fc12"],
        "down": "mlp.fc2",
        "ffn_norm": "norm2",
    },
    "gte": {
        "norm": "embeddings.LayerNorm",
        "layer": "encoder.layer.{}.",
        "qkv": ["attention.qkv_proj"],
        "output": "attention.o_proj",
        "attention_norm": "attn_ln",
        "plain": ["mlp.up_gate_proj", 0],
        "activated": ["mlp.up_gate_proj", 1],
        "down": "mlp.down_proj",
        "ffn_norm": "mlp_ln",
    },
    "jina": {
        "norm": "embeddings.LayerNorm",
        "layer": "encoder.layer.{}.",
        "qkv": ["attention.self.query", "attention.self.key", "attention.self.value"],
        "output": "attention.output.dense",
        "attention_norm": "attention.output.LayerNorm",
        "plain": ["mlp.gated_layers", 1],
        "activated": ["mlp.gated_layers", 0],
        "down": "mlp.wo",
        "ffn_norm": "mlp.layernorm",
    },
    "jina-qk": {
        "norm": "embeddings.LayerNorm",
        "layer": "encoder.layer.{}.",
        "qkv": ["attention.self.query", "attention.self.key", "attention.self.value"],
        "qk_norms": ["attention.self.layer_norm_q", "attention.self.layer_norm_k"],
        "output": "attention.output.dense",
        "attention_norm": "layer_norm_1",
        "plain": ["mlp.up_gated_layer", 0],
        "activated": ["mlp.up_gated_layer", 1],
        "down": "mlp.down_layer",
        "ffn_norm": "layer_norm_2",
    },
}


class Published:
    """Encoders that transformers has only as code beside the weights, from what that code defines.

    Post-norm layers of attention and a gated feed-forward part; families differ in names, which half of the gate is
    activated, and positions. Source: the modelling code that nomic-ai/nomic-bert-2048, Alibaba-NLP/new-impl,
    jinaai/jina-bert-implementation and jinaai/jina-bert-v2-qk-post-norm publish. Checked below against the classes
    that transformers 5 has of the first two.
    """

    def __init__(self, family, weights, heads, eps, activation=F.gelu, inv_freq=None, interleaved=False, clip=None):
        self.names, self.weights = PUBLISHED[family], weights
        self.heads, self.eps, self.activation = heads, eps, activation
        self.inv_freq, self.interleaved, self.clip = inv_freq, interleaved, clip
        self.alibi = family.startswith("jina")

    def linear(self, x, name, half=None):
        weight, bias = self.weights[name + ".weight"], self.weights.get(name + ".bias")
        if half is not None:
            weight = weight.chunk(2)[half]
            bias = None if bias is None else bias.chunk(2)[half]
        return F.linear(x, weight, bias)

    def norm(self, x, name):
        return F.layer_norm(x, x.shape[-1:], self.weights[name + ".weight"], self.weights[name + ".bias"], self.eps)

    def turn(self, x):
        """Rotary positions: channel pairs as complex numbers, times unit ones."""
        angles = torch.outer(torch.arange(x.shape[1]).float(), self.inv_freq)
        turned, rest = x.split([2 * len(self.inv_freq), x.shape[-1] - 2 * len(self.inv_freq)], dim=-1)
        if self.interleaved:
            real, imaginary = turned[..., 0::2], turned[..., 1::2]
        else:
            real, imaginary = turned.chunk(2, dim=-1)
        cos, sin = angles.cos().to(x), angles.sin().to(x)
        pair = real * cos - imaginary * sin, imaginary * cos + real * sin
        turned = torch.stack(pair, dim=-1).flatten(-2) if self.interleaved else torch.cat(pair, dim=-1)
        return torch.cat([turned, rest], dim=-1)

    def attention(self, x, layer):
        qkv = torch.cat([self.linear(x, layer + name) for name in self.names["qkv"]], dim=-1).chunk(3, dim=-1)
        query, key, value = qkv
        if "qk_norms" in self.names:
            query, key = (self.norm(y, layer + name) for y, name in zip(qkv, self.names["qk_norms"]))
        length, width = x.shape
        query, key, value = (y.view(length, self.heads, -1).transpose(0, 1) for y in (query, key, value))
        if self.inv_freq is not None:
            query, key = self.turn(query), self.turn(key)
        if self.clip is not None:
            # Of a length beyond the trained one the scores grow by its logarithm.
            query = query * max(1.0, torch.tensor(length).double().log().item() / torch.tensor(self.clip).double().log().item())
        scores = query @ key.transpose(1, 2) / query.shape[-1] ** 0.5
        if self.alibi:
            places = torch.arange(length)
            slopes = torch.tensor(alibi_slopes(self.heads)).to(x)
            scores = scores - slopes[:, None, None] * (places[:, None] - places[None]).abs()
        mixed = (scores.softmax(-1) @ value).transpose(0, 1).reshape(length, width)
        return self.linear(mixed, layer + self.names["output"])

    def run(self, tokens, segments, layers):
        x = self.weights["embeddings.word_embeddings.weight"][tokens]
        x = self.norm(x + self.weights["embeddings.token_type_embeddings.weight"][segments], self.names["norm"])
        hidden = [x]
        for index in range(layers):
            layer = self.names["layer"].format(index)
            x = self.norm(x + self.attention(x, layer), layer + self.names["attention_norm"])
            plain, activated = (self.names[part] for part in ("plain", "activated"))
            gated = self.activation(self.linear(x, layer + activated[0], *activated[1:]))
            gated = gated * self.linear(x, layer + plain[0], *plain[1:])
            x = self.norm(x + self.linear(gated, layer + self.names["down"]), layer + self.names["ffn_norm"])
            hidden.append(x)
        return torch.stack(hidden)


def alibi_slopes(heads):
    """Press et al., arXiv:2108.12409: geometric for powers of two, else filled up from the next one."""
    power = 2 ** (heads.bit_length() - 1)
    slopes = [2 ** (-8 * (i + 1) / power) for i in range(power)]
    return slopes + [2 ** (-4 * (i + 1) / power) for i in range(0, 2 * (heads - power), 2)]


def frequencies(width, theta):
    return 1.0 / theta ** (torch.arange(0, width, 2).float() / width)


def agree(name, family, prefix, activation, inv_freq):
    """The class of transformers and the definition above give the same."""
    weights = load_file(OUT / name / "model.safetensors")
    weights = {key.removeprefix(prefix): tensor.double() for key, tensor in weights.items()}
    golden = load_file(OUT / name / "golden.safetensors")
    model = Published(family, weights, 3, 1e-12, activation, inv_freq)
    start = 0
    for length in LENGTHS:
        span = slice(start, start + length)
        ours = model.run(golden["tokens"][span].long(), golden["segments"][span].long(), 2)
        assert distance([ours], [golden["hidden"][:, span]]) < 1e-6, f"{name}: the definition differs"
        start += length


def publish(name, family, config, shapes, seed, head=None, prefix="", **options):
    """A folder as the authors of `family` publish them; `head` names the pooler or classifier."""
    folder = fresh(name)
    generator = torch.Generator().manual_seed(seed)
    weights = {}
    for key, shape in sorted(shapes.items()):
        noise = torch.randn(shape, generator=generator)
        if key.endswith("embeddings.weight"):
            weights[key] = 0.6 * noise
        elif len(shape) == 2:
            weights[key] = noise * 1.2 / shape[1] ** 0.5
        else:
            weights[key] = 0.2 * noise if key.endswith("bias") else 1 + 0.25 * noise
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n")
    write_safetensors(folder / "model.safetensors", {prefix + key: weights[key] for key in weights}, {"format": "pt"})
    tokens, segments = sequences(seed, 2)
    results = []
    for kind in (torch.float32, torch.float64):
        model = Published(family, {key: tensor.to(kind) for key, tensor in weights.items()}, **options)
        results.append([model.run(ids, kinds, 2) for ids, kinds in zip(tokens, segments)])
    rough, exact = results
    logits = None
    if head == "pooler":
        logits = [model.linear(hidden[-1][:1], "pooler.dense").tanh() for hidden in exact]
    source = "the published code's definition, in plain torch"
    write_golden(folder, tokens, segments, exact, None, logits, source)
    report(name, rough, exact)


def published_shapes(family, qkv_bias, up_bias, down_bias, pooler=False):
    names, shapes = PUBLISHED[family], {}
    shapes["embeddings.word_embeddings.weight"] = (VOCAB, 24)
    shapes["embeddings.token_type_embeddings.weight"] = (2, 24)

    def linear(name, outputs, inputs, bias):
        shapes[name + ".weight"] = (outputs, inputs)
        if bias:
            shapes[name + ".bias"] = (outputs,)

    def norm(name):
        shapes[name + ".weight"] = shapes[name + ".bias"] = (24,)

    norm(names["norm"])
    for index in range(2):
        layer = names["layer"].format(index)
        for name in names["qkv"]:
            linear(layer + name, 72 // len(names["qkv"]), 24, qkv_bias)
        for name in [*names.get("qk_norms", []), names["attention_norm"], names["ffn_norm"]]:
            norm(layer + name)
        linear(layer + names["output"], 24, 24, qkv_bias)
        if len(names["plain"]) == 2:
            linear(layer + names["plain"][0], 72, 24, up_bias)
        else:
            linear(layer + names["plain"][0], 36, 24, up_bias)
            linear(layer + names["activated"][0], 36, 24, up_bias)
        linear(layer + names["down"], 24, 36, down_bias)
    if pooler:
        linear("pooler.dense", 24, 24, True)
    return shapes


def published():
    nomic = {
        "activation_function": "swiglu",
        "architectures": ["NomicBertModel"],
        "auto_map": {"AutoModel": "nomic-ai/nomic-bert-2048--modeling_hf_nomic_bert.NomicBertModel"},
        "causal": False,
        "layer_norm_epsilon": 1e-12,
        "max_trained_positions": 28,
        "mlp_fc1_bias": False,
        "mlp_fc2_bias": False,
        "model_type": "nomic_bert",
        "n_embd": 24,
        "n_head": 3,
        "n_inner": 36,
        "n_layer": 2,
        "n_positions": 28,
        "pad_vocab_size_multiple": 6,
        "parallel_block": False,
        "prenorm": False,
        "qkv_proj_bias": False,
        "rotary_emb_base": 1000,
        "rotary_emb_fraction": 1.0,
        "rotary_emb_interleaved": False,
        "rotary_emb_scale_base": None,
        "rotary_scaling_factor": None,
        "type_vocab_size": 2,
        "use_rms_norm": False,
        "vocab_size": VOCAB,
    }
    publish(
        "nomic",
        "nomic",
        nomic,
        published_shapes("nomic", False, False, False),
        201,
        heads=3,
        eps=1e-12,
        activation=F.silu,
        inv_freq=frequencies(8, 1000.0),
    )
    biased = {"qkv_proj_bias": True, "mlp_fc1_bias": True, "mlp_fc2_bias": True, "rotary_emb_fraction": 0.5}
    biased |= {"rotary_emb_interleaved": True, "activation_function": "geglu"}
    publish(
        "nomic-biased",
        "nomic",
        nomic | biased,
        published_shapes("nomic", True, True, True),
        202,
        heads=3,
        eps=1e-12,
        inv_freq=frequencies(4, 1000.0),
        interleaved=True,
    )
    gte = {
        "architectures": ["NewModel"],
        "auto_map": {"AutoModel": "Alibaba-NLP/new-impl--modeling.NewModel"},
        "hidden_act": "gelu",
        "layer_norm_eps": 1e-12,
        "layer_norm_type": "layer_norm",
        "logn_attention_clip1": False,
        "logn_attention_scale": False,
        "model_type": "new",
        "pack_qkv": True,
        "position_embedding_type": "rope",
        "rope_scaling": {"factor": 8.0, "type": "ntk"},
        "rope_theta": 200,
        "unpad_inputs": False,
        "use_memory_efficient_attention": False,
    }
    gte |= settings(type_vocab_size=2)
    # What the name says, of the angles of a longer text: https://kexue.fm/archives/9706
    scaled = frequencies(8, 200.0 * 8.0) / 8.0 ** (2 / 8)
    shapes = published_shapes("gte", True, False, True, pooler=True)
    publish("gte", "gte", gte, shapes, 203, "pooler", "new.", heads=3, eps=1e-12, inv_freq=scaled)
    long = {"logn_attention_scale": True, "logn_attention_clip1": True, "max_position_embeddings": 8}
    shapes = published_shapes("gte", True, False, True)
    publish("gte-logn", "gte", gte | long, shapes, 204, prefix="new.", heads=3, eps=1e-12, inv_freq=scaled, clip=8)
    jina = {
        "_name_or_path": "jinaai/jina-bert-implementation",
        "architectures": ["JinaBertForMaskedLM"],
        "auto_map": {"AutoModel": "jinaai/jina-bert-implementation--modeling_bert.JinaBertModel"},
        "emb_pooler": "mean",
        "feed_forward_type": "geglu",
        "hidden_act": "gelu",
        "layer_norm_eps": 1e-12,
        "model_type": "bert",
        "position_embedding_type": "alibi",
    }
    jina |= settings(type_vocab_size=2)
    shapes = published_shapes("jina", True, False, True, pooler=True)
    publish("jina", "jina", jina, shapes, 205, "pooler", heads=3, eps=1e-12)
    rectified = {"feed_forward_type": "reglu", "num_attention_heads": 4}
    shapes = published_shapes("jina", True, False, True)
    publish("jina-reglu", "jina", jina | rectified, shapes, 206, heads=4, eps=1e-12, activation=F.relu)
    turned = json.loads(json.dumps(jina).replace("jina-bert-implementation", "jina-bert-v2-qk-post-norm"))
    shapes = published_shapes("jina-qk", True, False, True)
    publish("jina-qk", "jina-qk", turned, shapes, 207, heads=3, eps=1e-12)


# The words of a tokenizer for the folders that take texts; letters make the rest.
WORDS = "the of and to how is not query passage title text cloze river water bank cat sat mat red".split()
PIECES = [chr(code) for code in range(ord("a"), ord("z") + 1)]
MARKS = list(".,:;!?'()-0123456789")
TOKENS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *MARKS, *PIECES, *WORDS]
TOKENS += ["##" + piece for piece in [*PIECES, "ing", "er"]] + ["水", "é", "ß"]
TEXTS = [
    "",
    " ",
    "a",
    "The cat sat on the red mat.",
    "the cat sat on the red mat",
    "ÜBER Straße café cafe\u0301 éé",
    "tabs\tand\nnewlines\r\n and \u00a0 spaces \u200b\u0000\ufffd\u0007",
    "水 and 漢字かな and 한국어 and עברית",
    "🙂👩‍👩‍👧 is not text",
    "[MASK] is not [SEP] the [CLS] end",
    "wateringer " * 3 + "x" * 150,
    "how the river " * 40,
    "!?!?... 3.14159, (a)-(b): 'c'",
]
PAIRS = [
    ["how is the water", "The river bank is red."],
    ["", ""],
    ["a", ""],
    ["cloze", "the water of the river and the cat " * 20],
    ["how not to sat " * 20, "é水"],
]


def small_bert(folder, seed, head, **more):
    """A BERT with a tokenizer of its own."""
    config = transformers.BertConfig(**settings(vocab_size=len(TOKENS), max_position_embeddings=40, **more))
    config._attn_implementation = "eager"
    randomise(getattr(transformers, head)(config), seed).save_pretrained(folder)
    vocabulary = folder / "vocab.txt"
    vocabulary.write_text("\n".join(TOKENS) + "\n")
    if GENERATION == 4:
        tokenizer = transformers.BertTokenizerFast(str(vocabulary), model_max_length=40)
    else:
        tokenizer = transformers.BertTokenizer(vocab=str(vocabulary), model_max_length=40)
    tokenizer.save_pretrained(folder)


def sentence(name, seed, build, prompts, max_len=24, **options):
    """A sentence-transformers folder of the modules that `build` puts after the encoder."""
    import sentence_transformers as package
    import sentence_transformers.models

    folder = fresh(name)
    with tempfile.TemporaryDirectory() as start:
        small_bert(Path(start), seed, "BertModel")
        encoder = package.models.Transformer(start, max_seq_length=max_len)
    modules = build(package.models)
    for index, module in enumerate(modules):
        randomise(module, seed + index)
    options |= {"prompts": prompts, "device": "cpu"}
    package.SentenceTransformer(modules=[encoder, *modules], **options).save(str(folder), create_model_card=False)
    model = package.SentenceTransformer(str(folder), device="cpu", model_kwargs={"attn_implementation": "eager"})
    rows = [(text, prompt) for text in TEXTS for prompt in [None, *prompts] if prompt is None or len(text) > 100 or text == TEXTS[3]]
    tokens, embeddings, rough = [], [], []
    for kind, found in ((torch.float32, rough), (torch.float64, embeddings)):
        model = model.to(kind)
        for text, prompt in rows:
            # None is the folder's default prompt, if it has one.
            found.append(model.encode([text], prompt_name=prompt, convert_to_tensor=True))
    for text, prompt in rows:
        before = prompts[prompt] if prompt else prompts.get(model.default_prompt_name, "")
        features = model.tokenize([before + text])
        tokens.append(features["input_ids"][0])
    metadata = {"texts": json.dumps([text for text, _ in rows], ensure_ascii=False)}
    metadata["prompts"] = json.dumps([prompt for _, prompt in rows])
    source = f"sentence-transformers {package.__version__}, {SOURCE}"
    write_golden(folder, tokens, None, None, None, None, source, metadata, embeddings=torch.cat(embeddings).float())
    report(name, [one[None] for one in rough], [one[None] for one in embeddings])


def cross_encoder(name, seed, labels, **options):
    """A sentence-transformers cross-encoder: logits of pairs, and scores by its own activation."""
    import sentence_transformers as package

    folder = fresh(name)
    with tempfile.TemporaryDirectory() as start:
        small_bert(Path(start), seed, "BertForSequenceClassification", num_labels=labels)
        model = package.CrossEncoder(start, max_length=32, device="cpu", **options)
    model.save_pretrained(str(folder))
    (folder / "README.md").unlink(missing_ok=True)
    model = package.CrossEncoder(str(folder), device="cpu", model_kwargs={"attn_implementation": "eager"})
    model.model.to(torch.float64)

    def scores(pair, **more):
        return model.predict([pair], convert_to_tensor=True, **more).view(1, labels)

    # In this order: an activation given to `predict` stays.
    given = torch.cat([scores(pair) for pair in PAIRS])
    logits = [scores(pair, activation_fn=nn.Identity()) for pair in PAIRS]
    assert logits[0].dtype == torch.float64
    tokenizer = model.tokenizer
    features = [tokenizer([pair[0]], [pair[1]], truncation="longest_first", max_length=32) for pair in PAIRS]
    tokens = [torch.tensor(one["input_ids"][0]) for one in features]
    segments = [torch.tensor(one["token_type_ids"][0]) for one in features]
    metadata = {"texts": json.dumps(PAIRS, ensure_ascii=False)}
    source = f"sentence-transformers {package.__version__}, {SOURCE}"
    write_golden(folder, tokens, segments, None, None, logits, source, metadata, scores=given.float())
    print(name, given[0].tolist(), logits[0].tolist())


def old_sentences():
    def dense(models):
        modes = {"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": True, "pooling_mode_max_tokens": True}
        return [models.Pooling(24, **modes), models.Dense(72, 16, activation_function=nn.Tanh()), models.Normalize()]

    def weighted(models):
        modes = {"pooling_mode_weightedmean_tokens": True, "pooling_mode_lasttoken": True, "pooling_mode_mean_tokens": False}
        modes["pooling_mode_mean_sqrt_len_tokens"] = True
        return [models.Pooling(24, **modes, include_prompt=False)]

    prompts = {"query": "query: ", "passage": "title: "}
    sentence("sentence", 301, dense, prompts)
    sentence("sentence-prompt", 302, weighted, prompts, default_prompt_name="query")
    cross_encoder("cross-encoder", 303, 1)
    cross_encoder("cross-encoder-labels", 304, 3)


def new_sentences():
    def dense(models):
        pooling = models.Pooling(24, ["mean_sqrt_len_tokens", "lasttoken", "cls"])
        wide = models.Dense(72, 16, bias=False, activation_function=nn.Identity())
        return [pooling, wide, models.Dense(16, 16, activation_function=nn.GELU(), use_residual=True), models.Normalize()]

    def weighted(models):
        return [models.Pooling(24, ("weightedmean", "mean", "max"), include_prompt=False), models.Normalize()]

    prompts = {"query": "query: ", "passage": "title: "}
    sentence("sentence-v6", 311, dense, prompts, truncate_dim=10)
    sentence("sentence-v6-prompt", 312, weighted, prompts, default_prompt_name="passage", similarity_fn_name="dot")
    cross_encoder("cross-encoder-v6", 313, 1)
    cross_encoder("cross-encoder-v6-raw", 314, 1, activation_fn=nn.Identity())


def old():
    t = transformers
    roberta = {"max_position_embeddings": 30, "type_vocab_size": 1, "pad_token_id": 1}
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
    make("xlm-roberta", "XLMRobertaForSequenceClassification", t.XLMRobertaConfig(**settings(**roberta), **many), 8, halves)
    make("camembert", "CamembertForTokenClassification", t.CamembertConfig(**settings(**roberta), **LABELS), 9, brains)
    distil = {"vocab_size": VOCAB, "dim": 24, "n_layers": 2, "n_heads": 3, "hidden_dim": 36, "max_position_embeddings": 28}
    make("distilbert-mlm", "DistilBertForMaskedLM", t.DistilBertConfig(**distil), 10)
    groups = {"embedding_size": 16, "num_hidden_layers": 4, "num_hidden_groups": 2, "inner_group_num": 2}
    make("albert-mlm", "AlbertForMaskedLM", t.AlbertConfig(**settings(**groups)), 11)
    small = {"embedding_size": 16}
    make("electra", "ElectraForSequenceClassification", t.ElectraConfig(**settings(**small), **LABELS), 12)
    make("electra-mlm", "ElectraForMaskedLM", t.ElectraConfig(**settings(**small)), 13)
    mpnet = {"max_position_embeddings": 30, "pad_token_id": 1, "num_hidden_layers": 3}
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
    roberta = {"max_position_embeddings": 30, "type_vocab_size": 1, "pad_token_id": 1}
    make("bert-v5", "BertForSequenceClassification", t.BertConfig(**settings(), **LABELS), 101)
    # Saved with two biases, of which `decoder.bias` is in force.
    make("bert-v5-untied", "BertForMaskedLM", t.BertConfig(**settings(), tie_word_embeddings=False), 102)
    make("roberta-v5", "RobertaForQuestionAnswering", t.RobertaConfig(**settings(**roberta)), 103)
    make("xlm-roberta-v5", "XLMRobertaForMaskedLM", t.XLMRobertaConfig(**settings(**roberta)), 104)
    score = {"num_labels": 1, "problem_type": "regression"}
    make("camembert-v5", "CamembertForSequenceClassification", t.CamembertConfig(**settings(**roberta), **score), 105)
    distil = {"vocab_size": VOCAB, "dim": 24, "n_layers": 2, "n_heads": 3, "hidden_dim": 36, "max_position_embeddings": 28}
    distil |= {"activation": "relu", "sinusoidal_pos_embds": True}
    make("distilbert-v5", "DistilBertForSequenceClassification", t.DistilBertConfig(**distil, **LABELS), 106)
    groups = {"embedding_size": 16, "num_hidden_layers": 3}
    make("albert-v5", "AlbertForTokenClassification", t.AlbertConfig(**settings(**groups), **LABELS), 107)
    electra = settings(embedding_size=24, hidden_act="gelu_new")
    make("electra-v5", "ElectraForTokenClassification", t.ElectraConfig(**electra, **LABELS), 108)
    mpnet = {"max_position_embeddings": 30, "pad_token_id": 1}
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
    agree("nomic-v5", "nomic", "", F.silu, frequencies(8, 1000.0))
    agree("gte-v5", "gte", "gte.", F.gelu, frequencies(8, 160_000.0))
    published()


def main():
    torch.set_num_threads(1)
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    if GENERATION == 4:
        old()
        old_sentences()
    else:
        new()
        new_sentences()


if __name__ == "__main__":
    main()
