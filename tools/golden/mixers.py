"""Reference outputs and gradients of mixers: crates/nn/tests/golden/mixers.jsonl.

Needs torch 2.8, transformers 4.57.6, x-transformers 2.31.10 and fla-core 0.6.0. A line is one mixer as a recipe would
name it, its weights by our names, sequences, a cotangent, and what the reference gives: the output, and the gradient of
`sum(output * cotangent)` by every weight and by the input. Our weights are put where the reference keeps its own, so
that torch's gradients are by ours.

Of fla only the files with plain loops are read, since the package asks for a GPU's compiler; its recurrence counts in
float32, all else in float64.
"""

import importlib.util
import json
import zlib
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
import transformers
from torch import nn
from torch.func import functional_call
from transformers.models.big_bird.modeling_big_bird import BigBirdBlockSparseAttention, BigBirdModel
from transformers.models.deberta_v2.modeling_deberta_v2 import DisentangledSelfAttention
from transformers.models.fnet.modeling_fnet import FNetBasicFourierTransform
from transformers.models.llama.modeling_llama import LlamaAttention, LlamaRotaryEmbedding
from transformers.models.mamba.modeling_mamba import MambaMixer
from x_transformers.x_transformers import AlibiPositionalBias, RelativePositionBias
from x_transformers.x_transformers import Attention as XAttention

OUT = Path(__file__).resolve().parents[2] / "crates/nn/tests/golden/mixers.jsonl"
WIDTH, MAX_LEN = 8, 9
HEADS, CHANNELS = 2, 4
PLAIN = {"kind": "attention", "heads": HEADS, "causal": False, "dropout": 0.0}
QKV = {"qkv.weight": [3 * WIDTH, WIDTH], "qkv.bias": [3 * WIDTH], "output.weight": [WIDTH, WIDTH], "output.bias": [WIDTH]}

torch.set_default_dtype(torch.float64)


def fla(name):
    """A file of the package by itself."""
    root = Path(importlib.util.find_spec("fla").origin).parent
    spec = importlib.util.spec_from_file_location(name.replace("/", "_"), root / "ops" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def split(w):
    """The three maps of `qkv`, weights and biases."""
    return w["qkv.weight"].chunk(3), w["qkv.bias"].chunk(3)


def heads(x):
    """[T, D] -> [1, H, T, K]"""
    return x.unflatten(1, (HEADS, -1)).transpose(0, 1)[None]


def joined(x):
    return x[0].transpose(0, 1).flatten(1)


def torch_attention(causal):
    module = nn.MultiheadAttention(WIDTH, HEADS, batch_first=True)

    def run(w, x):
        mask = torch.ones(len(x), len(x), dtype=torch.bool).triu(1) if causal else None
        names = {"in_proj_weight": "qkv.weight", "in_proj_bias": "qkv.bias", "out_proj.weight": "output.weight"}
        weights = {theirs: w[ours] for theirs, ours in names.items()} | {"out_proj.bias": w["output.bias"]}
        return functional_call(module, weights, (x[None], x[None], x[None]), {"attn_mask": mask})[0][0]

    return run


def x_transformers(mask=None, rel_pos=None, more=lambda w: {}, **options):
    """Its attention with the biases that ours has; `mask` says of places of queries and keys who sees whom."""
    module = XAttention(WIDTH, dim_head=CHANNELS, heads=HEADS, **options)
    for name in ["to_q", "to_k", "to_v", "to_out"]:
        setattr(module, name, nn.Linear(WIDTH, WIDTH))

    def run(w, x):
        weights = {"to_out.weight": w["output.weight"], "to_out.bias": w["output.bias"]} | more(w)
        for name, weight, bias in zip(["to_q", "to_k", "to_v"], *split(w)):
            weights |= {f"{name}.weight": weight, f"{name}.bias": bias}
        place = torch.arange(len(x))
        call = {"rel_pos": rel_pos}
        if isinstance(rel_pos, RelativePositionBias):
            table = {"relative_attention_bias.weight": w["position.weight"]}
            call["rel_pos"] = lambda i, j: functional_call(rel_pos, table, (i, j))
        if mask is not None:
            call["attn_mask"] = mask(place[:, None], place[None])
        return functional_call(module, weights, (x[None],), call)[0]

    return run


def gate(w):
    # Each head looks at its own slice of the input.
    return {"to_v_head_gate.weight": torch.block_diag(*w["gate.weight"]), "to_v_head_gate.bias": w["gate.bias"]}


def clipped(scores):
    low = -0.5 / scores.shape[-1]
    return ((1.1 - low) * scores.softmax(-1) + low).clamp(0, 1)


def llama(base):
    config = transformers.LlamaConfig(
        hidden_size=WIDTH, num_attention_heads=HEADS, attention_bias=True, rope_theta=base, attn_implementation="eager"
    )
    module, rotary = LlamaAttention(config, 0), LlamaRotaryEmbedding(config)

    def run(w, x):
        weights = {"o_proj.weight": w["output.weight"], "o_proj.bias": w["output.bias"]}
        for name, weight, bias in zip("qkv", *split(w)):
            weights |= {f"{name}_proj.weight": weight, f"{name}_proj.bias": bias}
        hidden = torch.full((len(x), len(x)), -torch.inf).triu(1)[None, None]
        turns = rotary(x[None], torch.arange(len(x))[None])
        return functional_call(module, weights, (x[None], turns, hidden))[0][0]

    return run


def named(w):
    """Weights of modules that call theirs query, key and value."""
    names = ["query", "key", "value"]
    parts = [(f"{name}.weight", f"{name}.bias", *part) for name, *part in zip(names, *split(w))]
    return {key: value for weight, bias, *values in parts for key, value in zip([weight, bias], values)}


def deberta(**options):
    config = transformers.DebertaV2Config(
        hidden_size=WIDTH,
        num_attention_heads=HEADS,
        hidden_dropout_prob=0,
        attention_probs_dropout_prob=0,
        relative_attention=True,
        share_att_key=True,
        pos_att_type=["c2p", "p2c"],
        **options,
    )
    module = DisentangledSelfAttention(config)

    def run(w, x):
        weights = {key.replace(".", "_proj."): value for key, value in named(w).items()}
        call = {"rel_embeddings": w["position.weight"]}
        mixed = functional_call(module, weights, (x[None], torch.ones(1, 1, len(x), len(x))), call)[0][0]
        return F.linear(mixed, w["output.weight"], w["output.bias"])

    return run


def big_bird(size):
    # The blocks by chance, which it draws by numpy, are the first, hidden by their mask.
    config = transformers.BigBirdConfig(
        hidden_size=WIDTH, num_attention_heads=HEADS, block_size=size, num_random_blocks=1, use_bias=True
    )
    module = BigBirdBlockSparseAttention(config)

    def hidden(rows, columns, *_):
        return torch.zeros(1, HEADS, rows.shape[1] - 2, size, size)

    module._create_rand_mask_from_inputs = hidden
    draw = "_bigbird_block_rand_mask_with_head"
    setattr(module, draw, lambda from_seq_length, **_: HEADS * [np.zeros([from_seq_length // size - 2, 1], int)])

    def run(w, x):
        masks = BigBirdModel.create_masks_for_block_sparse_attn(torch.ones(1, len(x)), size)
        blocked, band, rows, columns = masks
        call = dict(band_mask=band, from_mask=rows, to_mask=columns, from_blocked_mask=blocked, to_blocked_mask=blocked)
        mixed = functional_call(module, named(w), (x[None],), call)[0][0]
        return F.linear(mixed, w["output.weight"], w["output.bias"])

    return run


def delta(kernel, causal):
    rule = fla("delta_rule/naive").delta_rule_chunkwise

    def one(w, q, k, v, beta):
        size = 4
        more = -q.shape[2] % size
        wide = [F.pad(part, (0, 0, 0, more)) for part in (q, k, v)]
        return rule(*wide, F.pad(beta, (0, more)), size)[0][:, :, : q.shape[2]]

    def run(w, x):
        before = kernel - 1 if causal else kernel // 2
        qkv = F.pad((x @ w["qkv.weight"].T).T, (before, 0 if causal else kernel // 2))
        weight = w["convolution.weight"].T[:, None]
        qkv = F.silu(F.conv1d(qkv[None], weight, groups=len(weight))[0].T)
        q, k, v = (heads(part) for part in qkv.chunk(3, 1))
        q, k = (part * (part.square().sum(-1, keepdim=True) + 1e-6).rsqrt() for part in (q, k))
        beta = torch.sigmoid(x @ w["strength.weight"].T).T[None]  # [1, H or 2H, T]
        mixed = one(w, q, k, v, beta[:, :HEADS])
        if not causal:
            mixed = mixed + one(w, *(part.flip(2) for part in (q, k, v, beta[:, HEADS:]))).flip(2)
        return joined(F.rms_norm(mixed, [CHANNELS], w["norm.gain"], 1e-5)) @ w["output.weight"].T

    return run


def fnet():
    transform = FNetBasicFourierTransform(transformers.FNetConfig())
    return lambda w, x: transform(x[None])[0][0]


def gated_convolution(order, kernel):
    # As arXiv:2207.14284, §3.1, has it, with torch's modules.
    widths = [WIDTH >> half for half in reversed(range(order))]

    def run(w, x):
        first, rest = (F.linear(x, w["input.weight"], w["input.bias"])).split([widths[0], sum(widths)], 1)
        weight = w["convolution.weight"].T[:, None]
        rest = F.conv1d(rest.T[None], weight, w["convolution.bias"], padding=kernel // 2, groups=len(weight))[0].T
        factors = (rest / 3).split(widths, 1)
        product = first * factors[0]
        for step, factor in enumerate(factors[1:]):
            product = F.linear(product, w[f"widen.{step}.weight"], w[f"widen.{step}.bias"]) * factor
        return F.linear(product, w["output.weight"], w["output.bias"])

    return run


def recurrent(hidden):
    # The states are torch's; the pooling is arXiv:1912.00835, §3.
    module = nn.GRU(WIDTH, hidden, bidirectional=True, batch_first=True)

    def run(w, x):
        weights = {}
        for part, name, suffix in [(0, "forward", ""), (1, "backward", "_reverse")]:
            weights[f"weight_ih_l0{suffix}"] = w["input.weight"].chunk(2)[part]
            weights[f"bias_ih_l0{suffix}"] = w["input.bias"].chunk(2)[part]
            weights[f"weight_hh_l0{suffix}"] = w[f"{name}.weight"]
            weights[f"bias_hh_l0{suffix}"] = w[f"{name}.bias"]
        states = functional_call(module, weights, (x[None],))[0][0]
        scores = torch.tanh(w["context.weight"] @ states.mean(0) * (states @ w["state.weight"].T))
        shares = F.normalize(scores, dim=1).softmax(0)
        pooled = (shares.T @ states).flatten() @ w["pooled.weight"].T
        return F.linear(states, w["output.weight"], w["output.bias"]) + pooled

    return run


def pool(radius):
    mean = nn.AvgPool1d(2 * radius + 1, 1, radius, count_include_pad=False)
    return lambda w, x: mean(x.T[None])[0].T - x


def quasiseparable(expand, state, channels, kernel):
    scan = fla("simple_gla/naive").naive_recurrent_simple_gla
    inner = expand * WIDTH
    count = inner // channels

    def run(w, x):
        gate, convolved, steps = F.linear(x, w["input.weight"]).split([inner, inner + 4 * state, 2 * count], 1)
        weight = w["convolution.weight"].T[:, None]
        convolved = F.conv1d(convolved.T[None], weight, w["convolution.bias"], padding=kernel // 2, groups=len(weight))
        parts = F.silu(convolved[0].T).split([inner] + 4 * [state], 1)
        value, spots = parts[0].unflatten(1, (count, channels)), [part[:, None].expand(-1, count, -1) for part in parts[1:]]
        steps = F.softplus(steps + w["step"]).chunk(2, 1)
        rate = -w["log_rate"].exp()

        def past(value, write, read, step):
            given = scan(read[None], write[None], (value * step[..., None])[None], (step * rate)[None], scale=1.0)[0][0]
            return F.pad(given[:-1], (0, 0, 0, 0, 1, 0))

        backward = past(*(part.flip(0) for part in (value, spots[2], spots[3], steps[1]))).flip(0)
        own = F.linear(parts[0], w["diagonal.weight"], w["diagonal.bias"])[..., None] * value
        mixed = (past(value, spots[0], spots[1], steps[0]) + backward + own).flatten(1)
        normed = F.rms_norm(mixed, [inner], w["norm.gain"], 1e-5) * F.silu(gate)
        return normed @ w["output.weight"].T

    return run


def mamba(state, rank, kernel, passes):
    config = transformers.MambaConfig(
        hidden_size=WIDTH, state_size=state, time_step_rank=rank, conv_kernel=kernel, expand=2, use_mambapy=False
    )
    module = MambaMixer(config, 0)

    def run(w, x):
        mixed = 0
        for name in passes:
            weights = {"in_proj.weight": w["input.weight"], "out_proj.weight": w["output.weight"]}
            part = {part: w[f"{name}.{part}"] for part in ["select.weight", "step.weight", "step.bias", "log_rate", "skip.gain"]}
            weights |= dict(zip(["x_proj.weight", "dt_proj.weight", "dt_proj.bias", "A_log", "D"], part.values()))
            weights["conv1d.weight"] = w[f"{name}.convolution.weight"].T[:, None]
            weights["conv1d.bias"] = w[f"{name}.convolution.bias"]
            turn = (lambda x: x.flip(0)) if name == "backward" else (lambda x: x)
            with torch.nn.utils.stateless._reparametrize_module(module, weights):
                mixed = mixed + turn(module.slow_forward(turn(x)[None])[0])
        return mixed

    return run


def subspace():
    def run(w, x):
        part = heads(x @ w["subspace.weight"].T)
        return F.linear(joined(F.scaled_dot_product_attention(part, part, part)), w["output.weight"], w["output.bias"])

    return run


def token_mlp(width):
    def run(w, x):
        up = F.linear(x.T, w["up.weight"][:, : len(x)], w["up.bias"])
        return F.linear(F.gelu(up), w["down.weight"][: len(x)], w["down.bias"][: len(x)]).T

    return run


def scan_weights(passes):
    shapes = {"input.weight": [32, WIDTH], "output.weight": [WIDTH, 16]}
    for name in passes:
        part = {"convolution.weight": [4, 16], "convolution.bias": [16], "select.weight": [8, 16]}
        part |= {"step.weight": [16, 2], "step.bias": [16], "log_rate": [16, 3], "skip.gain": [16]}
        shapes |= {f"{name}.{key}": shape for key, shape in part.items()}
    return shapes


def delta_weights(kernel, directions):
    shapes = {"qkv.weight": [24, 8], "convolution.weight": [kernel, 24], "strength.weight": [HEADS * directions, 8]}
    return shapes | {"norm.gain": [CHANNELS], "output.weight": [8, 8]}


def near(window, spare=0):
    return lambda q, k: ((q - k).abs() <= window) | (q < spare) | (k < spare)


SCAN = {"kind": "selective-scan", "state": 3, "expand": 2, "rank": 2, "kernel": 4}
DELTA = {"kind": "delta-rule", "heads": HEADS, "chunk": 4}
CASES = [
    ("torch MultiheadAttention", PLAIN, QKV, torch_attention(False)),
    ("torch MultiheadAttention", PLAIN | {"causal": True}, QKV, torch_attention(True)),
    ("x-transformers Attention", PLAIN | {"window": 2}, QKV, x_transformers(near(2))),
    ("x-transformers Attention", PLAIN | {"window": 1, "global": 2}, QKV, x_transformers(near(1, 2))),
    ("x-transformers Attention", PLAIN | {"window": 2, "causal": True}, QKV, x_transformers(causal=True, max_attend_past=2)),
    (
        "x-transformers Attention",
        PLAIN | {"score": {"kind": "clipped", "alpha": 0.5, "stretch": 1.1}},
        QKV,
        x_transformers(custom_attn_fn=clipped),
    ),
    ("x-transformers Attention", PLAIN | {"score": {"kind": "top-k", "keep": 3}}, QKV, x_transformers(sparse_topk=3)),
    (
        "x-transformers Attention",
        PLAIN | {"score": {"kind": "sink"}},
        QKV | {"sink.bias": [HEADS]},
        x_transformers(head_learned_sink=True, more=lambda w: {"attend.head_attn_sink": w["sink.bias"]}),
    ),
    (
        "x-transformers Attention",
        PLAIN | {"gate": {"open": 0.5}},
        QKV | {"gate.weight": [HEADS, CHANNELS], "gate.bias": [HEADS]},
        x_transformers(gate_value_heads=True, more=gate),
    ),
    (
        "x-transformers Attention",
        PLAIN | {"score": {"kind": "hard"}},
        QKV,
        x_transformers(hard=True),
    ),
    (
        "x-transformers Attention",
        PLAIN | {"position": {"kind": "buckets", "buckets": 8, "max_distance": 12}},
        QKV | {"position.weight": [8, HEADS]},
        x_transformers(rel_pos=RelativePositionBias(1, num_buckets=8, max_distance=12, heads=HEADS)),
    ),
    (
        "x-transformers Attention",
        PLAIN | {"causal": True, "position": {"kind": "buckets", "buckets": 4, "max_distance": 6}},
        QKV | {"position.weight": [4, HEADS]},
        x_transformers(causal=True, rel_pos=RelativePositionBias(1, True, num_buckets=4, max_distance=6, heads=HEADS)),
    ),
    (
        "transformers DisentangledSelfAttention",
        PLAIN | {"position": {"kind": "disentangled", "span": 5}},
        QKV | {"position.weight": [10, WIDTH]},
        deberta(position_buckets=-1, max_relative_positions=5),
    ),
    (
        "transformers DisentangledSelfAttention",
        PLAIN | {"position": {"kind": "disentangled", "span": 4, "max_distance": 8}},
        QKV | {"position.weight": [8, WIDTH]},
        deberta(position_buckets=4, max_relative_positions=8),
    ),
    (
        "transformers BigBirdBlockSparseAttention",
        PLAIN | {"blocks": {"size": 2, "near": 1, "global": 1, "random": 0, "seed": 0}},
        QKV,
        big_bird(2),
        (14, 18),
    ),
    ("x-transformers Attention", PLAIN | {"position": {"kind": "alibi"}}, QKV, x_transformers(rel_pos=AlibiPositionalBias(HEADS))),
    (
        "transformers LlamaAttention",
        PLAIN | {"causal": True, "position": {"kind": "rotary", "base": 100.0}},
        QKV,
        llama(100.0),
    ),
    ("fla delta_rule_chunkwise", DELTA | {"kernel": 4, "causal": True}, delta_weights(4, 1), delta(4, True)),
    ("fla delta_rule_chunkwise", DELTA | {"kernel": 3, "causal": False}, delta_weights(3, 2), delta(3, False)),
    ("transformers FNetBasicFourierTransform", {"kind": "fourier"}, {}, fnet()),
    (
        "torch conv1d",
        {"kind": "gated-convolution", "order": 3, "kernel": 5, "scale": 1 / 3, "causal": False},
        {"input.weight": [16, 8], "input.bias": [16], "convolution.weight": [5, 14], "convolution.bias": [14]}
        | {"widen.0.weight": [4, 2], "widen.0.bias": [4], "widen.1.weight": [8, 4], "widen.1.bias": [8]}
        | {"output.weight": [8, 8], "output.bias": [8]},
        gated_convolution(3, 5),
    ),
    (
        "torch GRU",
        {"kind": "low-rank-recurrent", "hidden": 5, "heads": 3},
        {"input.weight": [30, 8], "input.bias": [30], "forward.weight": [15, 5], "forward.bias": [15]}
        | {"backward.weight": [15, 5], "backward.bias": [15], "context.weight": [3, 10], "state.weight": [3, 10]}
        | {"output.weight": [8, 10], "output.bias": [8], "pooled.weight": [8, 30]},
        recurrent(5),
    ),
    ("torch AvgPool1d", {"kind": "pool", "radius": 2, "causal": False}, {}, pool(2)),
    (
        "fla naive_recurrent_simple_gla",
        {"kind": "quasiseparable", "head_width": 4, "state": 3, "expand": 1, "kernel": 3, "chunk": 4},
        {"input.weight": [32, 8], "convolution.weight": [3, 20], "convolution.bias": [20], "step": [4], "log_rate": [2]}
        | {"diagonal.weight": [2, 8], "diagonal.bias": [2], "norm.gain": [8], "output.weight": [8, 8]},
        quasiseparable(1, 3, 4, 3),
    ),
    ("transformers MambaMixer", SCAN | {"direction": "forward"}, scan_weights(["forward"]), mamba(3, 2, 4, ["forward"])),
    (
        "transformers MambaMixer, both ways",
        SCAN | {"direction": "both"},
        scan_weights(["forward", "backward"]),
        mamba(3, 2, 4, ["forward", "backward"]),
    ),
    (
        "torch scaled_dot_product_attention",
        {"kind": "subspace-attention", "heads": HEADS, "causal": False, "dropout": 0.0},
        {"subspace.weight": [8, 8], "output.weight": [8, 8], "output.bias": [8]},
        subspace(),
    ),
    (
        "torch linear",
        {"kind": "token-mlp", "width": 5},
        {"up.weight": [5, MAX_LEN], "up.bias": [5], "down.weight": [MAX_LEN, 5], "down.bias": [MAX_LEN]},
        token_mlp(5),
    ),
]


def drawn(*shape):
    """Numbers that a line of text holds exactly."""
    return (torch.randn(shape) * 0.5).mul(1e3).round().div(1e3)


def digits(tensor):
    return [float(f"{float(x):.7g}") for x in tensor.detach().flatten()]


def case(source, mixer, shapes, run, lens=(3, 8)):
    # A case's numbers are its own, whatever stands before it.
    torch.manual_seed(zlib.crc32(json.dumps(mixer).encode()))
    weights = {name: drawn(*shape) + (1 if name.endswith("gain") else 0) for name, shape in shapes.items()}
    x, cotangent = drawn(sum(lens), WIDTH), drawn(sum(lens), WIDTH)
    for tensor in [x, *weights.values()]:
        tensor.requires_grad_()
    output = torch.cat([run(weights, part) for part in x.split(lens)])
    (output * cotangent).sum().backward()
    return {
        "source": source,
        "mixer": mixer,
        "lens": lens,
        "weights": {name: digits(value) for name, value in weights.items()},
        "x": digits(x),
        "cotangent": digits(cotangent),
        "output": digits(output),
        "gradients": {name: digits(value.grad) for name, value in weights.items()} | {"x": digits(x.grad)},
    }


if __name__ == "__main__":
    with OUT.open("w") as file:
        for one in CASES:
            file.write(json.dumps(case(*one)) + "\n")
