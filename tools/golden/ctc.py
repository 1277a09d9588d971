"""Reference losses of sequences of labels: crates/nn/tests/golden/ctc.jsonl.

Needs torch. Scores and labels are made up here; losses, one a text, and the gradient of their sum are those of
torch.nn.functional.ctc_loss over log_softmax, the last column being that of no label.
"""

import json
from pathlib import Path

import torch
from torch.nn.functional import ctc_loss, log_softmax

OUT = Path(__file__).resolve().parents[2] / "crates/nn/tests/golden/ctc.jsonl"

CASES = [
    (3, [(1, []), (1, [0])]),
    (4, [(5, [0, 1, 2]), (3, [1, 1]), (9, [2, 0, 0, 1])]),
    (6, [(40, [0, 1, 2, 3, 4] * 3), (17, [3, 3, 3]), (2, [4, 0])]),
]


def rounded(tensor, digits):
    return [round(float(x), digits) for x in tensor.flatten()]


torch.manual_seed(7)
with OUT.open("w") as file:
    for width, texts in CASES:
        offsets, losses, logits, gradient = [0], [], [], []
        for tokens, labels in texts:
            scores = (torch.randn(tokens, width) * 2).mul(1e4).round().div(1e4).requires_grad_()
            lengths = torch.tensor([tokens]), torch.tensor([len(labels)])
            log = log_softmax(scores, 1).unsqueeze(1)
            loss = ctc_loss(log, torch.tensor([labels], dtype=torch.long), *lengths, blank=width - 1, reduction="sum")
            loss.backward()
            offsets.append(offsets[-1] + tokens)
            losses.append(round(float(loss.detach()), 6))
            logits += rounded(scores.detach(), 4)
            gradient += rounded(scores.grad, 7)
        case = {
            "width": width,
            "offsets": offsets,
            "labels": [labels for _, labels in texts],
            "logits": logits,
            "losses": losses,
            "gradient": gradient,
        }
        file.write(json.dumps(case) + "\n")
