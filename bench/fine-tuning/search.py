"""Fine-tunes many copies of a small BERT at once on a GPU, to choose settings by; see README.md.

Every combination of --settings and --seeds is a copy; a step is one of all copies, whose weights lie side by side. Layers are those
of `transformers`' BertForSequenceClassification, factors of products in bf16 and all else in f32. Batches have texts of like
lengths, so that little is padding: one copy's batch is another draw than its neighbour's, of about the same lengths.
"""

import argparse
import json
import math
import random
import time
from pathlib import Path

import torch
import torch.nn.functional as F
from compare import TASKS
from peer import below, metric_of, table
from safetensors.torch import load_file
from transformers import AutoTokenizer


class Copies:
    """The weights of all copies, [copies, ...] each, and what they compute."""

    def __init__(self, folder, seeds, device):
        config = json.loads((Path(folder) / "config.json").read_text())
        self.count, self.device = len(seeds), device
        self.heads, self.layers = config["num_attention_heads"], config["num_hidden_layers"]
        self.width, self.eps = config["hidden_size"], config["layer_norm_eps"]
        self.hidden_dropout, self.attention_dropout = config["hidden_dropout_prob"], config["attention_probs_dropout_prob"]
        self.weights = {}
        for name, value in load_file(Path(folder) / "model.safetensors").items():
            name = name.removeprefix("bert.")
            if "position_ids" not in name:
                value = value.float().t() if value.dim() == 2 and "embeddings" not in name else value.float()
                self.weights[name] = value.to(device).unsqueeze(0).repeat(self.count, *[1] * value.dim()).contiguous()
        drawn = [torch.randn(self.width, 2, generator=torch.Generator().manual_seed(seed)) * 0.02 for seed in seeds]
        self.weights["classifier.weight"] = torch.stack(drawn).to(device)
        self.weights["classifier.bias"] = torch.zeros(self.count, 2, device=device)
        for value in self.weights.values():
            value.requires_grad_()

    def linear(self, x, name):
        bias, weight = self.weights[name + ".bias"], self.weights[name + ".weight"]
        return torch.baddbmm(bias.unsqueeze(1).to(x.dtype), x, weight.to(x.dtype))

    def norm(self, x, name):
        x = F.layer_norm(x.float(), (self.width,), eps=self.eps)
        return x * self.weights[name + ".weight"].unsqueeze(1) + self.weights[name + ".bias"].unsqueeze(1)

    def logits(self, ids, segments, mask, training):
        """[copies, texts, 2] of ids, segments and mask of [copies, texts, tokens]."""
        copies, texts, tokens = ids.shape
        half = torch.bfloat16 if self.device == "cuda" else torch.float32
        drop = lambda x: F.dropout(x, self.hidden_dropout, training)
        words = self.weights["embeddings.word_embeddings.weight"]
        first = torch.arange(copies, device=self.device).view(-1, 1, 1) * words.shape[1]
        x = F.embedding(ids + first, words.view(-1, self.width))
        kinds = self.weights["embeddings.token_type_embeddings.weight"].view(copies, -1, 1, 1, self.width)
        x = x + self.weights["embeddings.position_embeddings.weight"][:, :tokens].unsqueeze(1)
        x = x + torch.where(segments.unsqueeze(-1) > 0, kinds[:, 1], kinds[:, 0])
        x = drop(self.norm(x.reshape(copies, -1, self.width), "embeddings.LayerNorm"))
        far = torch.zeros(copies * texts, 1, 1, tokens, device=self.device, dtype=half)
        far = far.masked_fill(~mask.reshape(-1, 1, 1, tokens), -1e4).expand(-1, self.heads, tokens, -1)
        for layer in range(self.layers):
            at = f"encoder.layer.{layer}."
            split = lambda y: y.view(copies * texts, tokens, self.heads, -1).transpose(1, 2)
            query, key, value = (split(self.linear(x.to(half), f"{at}attention.self.{n}")) for n in ("query", "key", "value"))
            seen = F.scaled_dot_product_attention(query, key, value, attn_mask=far, dropout_p=self.attention_dropout if training else 0.0)
            seen = self.linear(seen.transpose(1, 2).reshape(x.shape), f"{at}attention.output.dense")
            x = self.norm(drop(seen.float()) + x, f"{at}attention.output.LayerNorm")
            wide = F.gelu(self.linear(x.to(half), f"{at}intermediate.dense"))
            x = self.norm(drop(self.linear(wide, f"{at}output.dense").float()) + x, f"{at}output.LayerNorm")
        pooled = torch.tanh(self.linear(x.view(copies, texts, tokens, -1)[:, :, 0], "pooler.dense"))
        return self.linear(drop(pooled), "classifier").float()


class AdamW:
    """As peer.py's, each copy with its own rate, and its own norm of the gradient."""

    def __init__(self, copies, rates, decays, warmups, total):
        self.copies, self.total = copies, total
        tensor = lambda of: torch.tensor(of, device=copies.device, dtype=torch.float32)
        self.warmups = tensor([max(1, math.ceil(share * total)) for share in warmups])
        self.rates = [tensor(rates) * tensor(decays) ** below(name, copies.layers) for name in copies.weights]
        self.params = list(copies.weights.values())
        self.decays = [0.01 if param.dim() > 2 else 0.0 for param in self.params]
        self.means = [torch.zeros_like(param) for param in self.params]
        self.squares = [torch.zeros_like(param) for param in self.params]
        self.steps = 0

    @torch.no_grad()
    def step(self, gradients):
        self.steps += 1
        copies = self.copies.count
        norms = sum(gradient.reshape(copies, -1).square().sum(1) for gradient in gradients).sqrt()
        clips = (1.0 / (norms + 1e-6)).clamp(max=1.0)
        left = (self.total - self.steps + 1) / (self.total - self.warmups).clamp(min=1)
        factors = torch.where(self.steps <= self.warmups, self.steps / self.warmups, left)
        along = lambda value, param: value.view(copies, *[1] * (param.dim() - 1))
        for at, (param, gradient) in enumerate(zip(self.params, gradients)):
            gradient = gradient * along(clips, param)
            self.means[at].lerp_(gradient, 0.1)
            self.squares[at].mul_(0.999).addcmul_(gradient, gradient, value=0.001)
            root = (self.squares[at] / (1 - 0.999**self.steps)).sqrt_().add_(1e-8)
            rate = along(self.rates[at] * factors, param)
            if self.decays[at]:
                param.mul_(1 - rate * self.decays[at])
            param.sub_(self.means[at] / root * rate / (1 - 0.9**self.steps))


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("task", choices=[name for name, task in TASKS.items() if task[1] == "classify"])
    parser.add_argument("--model", required=True, help="folder of a BERT")
    parser.add_argument("--train", required=True)
    parser.add_argument("--validation", required=True)
    parser.add_argument("--settings", nargs="+", required=True, metavar="LR,LAYER_DECAY,SMOOTHING,WARMUP")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--epochs", type=int, required=True)
    parser.add_argument("--device", default="cuda")
    args = parser.parse_args()
    torch.backends.cuda.matmul.allow_tf32 = True
    _, _, columns, _, metric, _, _, max_len = TASKS[args.task]
    settings = [[float(part) for part in setting.split(",")] for setting in args.settings]
    runs = [(*setting, seed) for setting in settings for seed in args.seeds]
    rates, decays, smoothings, warmups, seeds = zip(*runs)
    copies = Copies(args.model, seeds, args.device)
    tokenizer = AutoTokenizer.from_pretrained(args.model)

    def encoded(path):
        rows = table(path, columns)
        found = tokenizer(*[[row[at] for row in rows] for at in range(len(columns) - 1)], truncation=True, max_length=max_len)
        lens = torch.tensor([len(ids) for ids in found["input_ids"]])
        padded = lambda name: torch.tensor([of + [0] * (int(lens.max()) - len(of)) for of in found[name]], device=args.device)
        labels = torch.tensor([int(row[-1]) for row in rows], device=args.device)
        return padded("input_ids"), padded("token_type_ids"), padded("attention_mask").bool(), labels, lens

    train, validation = encoded(args.train), encoded(args.validation)

    def part(of, places):
        longest, on_device = int(of[4][places].max()), places.to(args.device)
        return *(values[on_device][..., :longest] for values in of[:3]), of[3][on_device]

    count = len(train[4])
    optimizer = AdamW(copies, rates, decays, warmups, math.ceil(count / args.batch) * args.epochs)
    orders = [torch.Generator().manual_seed(100 + seed) for seed in seeds]
    torch.manual_seed(seeds[0])
    smoothing = torch.tensor(smoothings, device=args.device).unsqueeze(1)
    by_length = torch.argsort(validation[4])
    scores, since = [[] for _ in runs], time.perf_counter()
    for epoch in range(args.epochs):
        shuffled = []
        for generator in orders:
            order = torch.randperm(count, generator=generator)
            some = order.split(args.batch * 32)
            shuffled.append(torch.cat([of[torch.argsort(train[4][of], stable=True)] for of in some]))
        shuffled = torch.stack(shuffled)
        starts = list(range(0, count, args.batch))
        random.Random(epoch).shuffle(starts)
        for start in starts:
            *inputs, labels = part(train, shuffled[:, start : start + args.batch])
            logs = F.log_softmax(copies.logits(*inputs, True), -1)
            right = logs.gather(-1, labels.unsqueeze(-1)).squeeze(-1)
            loss = -((1 - smoothing) * right + smoothing * logs.mean(-1)).mean(1).sum()
            optimizer.step(torch.autograd.grad(loss, optimizer.params))
        found = []
        with torch.no_grad():
            for places in by_length.split(128):
                *inputs, _ = part(validation, places.expand(len(runs), -1))
                found.append(copies.logits(*inputs, False).argmax(-1))
        found, truth = torch.cat(found, 1).tolist(), validation[3].cpu()[by_length].tolist()
        for of, labels in zip(scores, found):
            of.append(metric_of(metric, truth, labels))
        print(f"epoch {epoch + 1}, {time.perf_counter() - since:.0f} s", flush=True)
    for at, setting in enumerate(args.settings):
        best = [max(of) for of in scores[at * len(args.seeds) : (at + 1) * len(args.seeds)]]
        mean, spread = torch.tensor(best).mean(), torch.tensor(best).std() if len(best) > 1 else 0.0
        print(f"{args.task} {setting} {metric} {mean:.4f} ± {spread:.4f}: " + ", ".join(f"{value:.4f}" for value in best))


if __name__ == "__main__":
    main()
