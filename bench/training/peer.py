"""Training steps in eager PyTorch, driven over stdin and stdout; the protocol stands in README.md.

Letters: B sequences, T tokens of the longest one, M predicted tokens, D width, H heads, K width per head, V classes.
"""

import argparse
import platform
import resource
import sys
import time
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn


@dataclass(frozen=True)
class Case:
    """One model and how much of its input is hidden."""

    classes: int  # items or word pieces, V; the embedding has one row more, the blank
    max_len: int
    layers: int
    width: int
    heads: int
    ffn: int
    mask_prob: float
    dropout: float


CASES = {
    "bert4rec": Case(classes=3420, max_len=200, layers=2, width=64, heads=2, ffn=256, mask_prob=0.2, dropout=0.2),
    "masked-language": Case(
        classes=8192, max_len=128, layers=4, width=256, heads=4, ffn=1024, mask_prob=0.15, dropout=0.1
    ),
}
# Of ModernBERT: what stands for a hidden token is the last row of the vocabulary.
MODERNBERT = Case(classes=8192, max_len=1024, layers=4, width=256, heads=4, ffn=384, mask_prob=0.3, dropout=0.0)
EPS = 1e-12
SEED = 1
# What Python and PyTorch need before there is a model; its CUDA build loads much that a CPU never uses.
BASE_MIB = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if platform.system() == "Darwin" else 1024) / 2**20


class Block(nn.Module):
    """A post-norm Transformer layer, as in BERT."""

    def __init__(self, case: Case):
        super().__init__()
        self.heads = case.heads
        self.dropout = case.dropout
        self.qkv = nn.Linear(case.width, 3 * case.width)
        self.output = nn.Linear(case.width, case.width)
        self.mixer_norm = nn.LayerNorm(case.width, EPS)
        self.up = nn.Linear(case.width, case.ffn)
        self.down = nn.Linear(case.ffn, case.width)
        self.ffn_norm = nn.LayerNorm(case.width, EPS)

    def forward(self, x, may_attend):
        batch, tokens, width = x.shape
        query, key, value = self.qkv(x).view(batch, tokens, 3, self.heads, -1).permute(2, 0, 3, 1, 4)  # [B, H, T, K]
        mixed = F.scaled_dot_product_attention(query, key, value, attn_mask=may_attend, dropout_p=self.dropout)
        mixed = self.output(mixed.transpose(1, 2).reshape(batch, tokens, width))
        x = self.mixer_norm(x + F.dropout(mixed, self.dropout))
        hidden = self.down(F.gelu(self.up(x)))
        return self.ffn_norm(x + F.dropout(hidden, self.dropout))


class Encoder(nn.Module):
    """Item and position embedding, layers, and a head tied to the item embedding."""

    def __init__(self, case: Case):
        super().__init__()
        self.case = case
        self.item = nn.Embedding(case.classes + 1, case.width)
        self.position = nn.Embedding(case.max_len, case.width)
        self.norm = nn.LayerNorm(case.width, EPS)
        self.blocks = nn.ModuleList(Block(case) for _ in range(case.layers))
        self.transform = nn.Linear(case.width, case.width)
        self.head_norm = nn.LayerNorm(case.width, EPS)
        self.bias = nn.Parameter(torch.zeros(case.classes))
        for parameter in self.parameters():
            if parameter.dim() == 2:
                nn.init.trunc_normal_(parameter, std=0.02, a=-0.04, b=0.04)

    def forward(self, batch):
        tokens, may_attend, rows, labels = batch
        x = self.item(tokens) + self.position.weight[: tokens.shape[1]]
        x = F.dropout(self.norm(x), self.case.dropout)
        for block in self.blocks:
            x = block(x, may_attend)
        # Only predicted tokens reach the head: scores are [M, V], never [B*T, V].
        x = self.head_norm(F.gelu(self.transform(x.flatten(0, 1)[rows])))
        return F.cross_entropy(F.linear(x, self.item.weight[: self.case.classes], self.bias), labels)


class ModernBert(nn.Module):
    """ModernBERT of transformers, which scores predicted tokens only."""

    def __init__(self, case: Case):
        from transformers import ModernBertConfig, ModernBertForMaskedLM

        super().__init__()
        self.model = ModernBertForMaskedLM(
            ModernBertConfig(
                vocab_size=case.classes + 1, hidden_size=case.width, intermediate_size=case.ffn,
                num_hidden_layers=case.layers, num_attention_heads=case.heads, max_position_embeddings=case.max_len,
                local_attention=128, global_attn_every_n_layers=3, sparse_prediction=True, reference_compile=False,
                pad_token_id=0, bos_token_id=1, eos_token_id=2, cls_token_id=1, sep_token_id=2,
                attn_implementation="sdpa",
            )
        )

    def forward(self, batch):
        tokens, may_attend, rows, labels = batch
        targets = torch.full_like(tokens, -100)
        targets.view(-1)[rows] = labels
        mask = None if may_attend is None else may_attend[:, 0, 0].long()
        return self.model(input_ids=tokens, attention_mask=mask, labels=targets).loss


def make_batch(lengths, case: Case, generator):
    """Pads to the longest sequence; a batch of equal lengths carries no mask and so takes the quicker path."""
    longest = max(lengths)
    tokens = torch.randint(case.classes, (len(lengths), longest), generator=generator)
    rows = []
    for sequence, length in enumerate(lengths):
        masked = max(1, round(case.mask_prob * length))
        rows.append(torch.randperm(length, generator=generator)[:masked].sort().values + sequence * longest)
    rows = torch.cat(rows)
    labels = tokens.flatten()[rows].clone()
    tokens.view(-1)[rows] = case.classes
    may_attend = None
    if min(lengths) < longest:
        may_attend = (torch.arange(longest) < torch.tensor(lengths)[:, None])[:, None, None, :]  # [B, 1, 1, T]
    return tokens, may_attend, rows, labels


def main():
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--case", choices=[*CASES, "modernbert"], required=True)
    arguments.add_argument("--batches", required=True, help="file of sequence lengths, one batch a line")
    arguments.add_argument("--threads", type=int, required=True)
    arguments = arguments.parse_args()

    torch.set_num_threads(arguments.threads)
    torch.manual_seed(SEED)
    case = CASES.get(arguments.case, MODERNBERT)
    generator = torch.Generator().manual_seed(SEED)
    with open(arguments.batches, encoding="utf-8") as lines:
        batches = [make_batch([int(length) for length in line.split()], case, generator) for line in lines]
    model = (Encoder if arguments.case in CASES else ModernBert)(case).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.01, fused=True)
    parameters = sum(parameter.numel() for parameter in model.parameters())
    print(f"ready parameters={parameters} base_mib={BASE_MIB:.0f} name=torch-{torch.__version__}", flush=True)

    for line in sys.stdin:
        command = line.split()
        if command[0] != "step":
            sys.exit(f'expected "step BATCH", found {line.strip()!r}')
        batch = batches[int(command[1])]
        start = time.perf_counter()
        optimizer.zero_grad(set_to_none=True)
        loss = model(batch)
        loss.backward()
        optimizer.step()
        loss = loss.item()
        ms = (time.perf_counter() - start) * 1e3
        print(f"ms={ms:.3f} loss={loss:.4f}", flush=True)


if __name__ == "__main__":
    main()
