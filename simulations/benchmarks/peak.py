"""The share of this machine's matrix product peak in an input-prompt step: ``python -m simulations.benchmarks.peak [TURNS]``.

The peak is the best of three products of two 2048 x 2048 matrices, measured again before every step, in the same dtype on one
thread. A step is forward and backward of 32 records of 64 tokens, four prompt rows among them; per token 4N operations are
counted, with N the weights of the linear layers: attention's own products, which are work too, are not.
"""

import sys

import torch
from torch import nn

from shared.scoring import build
from simulations.benchmarks.steps import BATCH, ROWS, TOKENS, batch, varied_card
from simulations.benchmarks.turns import conditions, line, measured

SIDE = 2048
FLOORS = {"float32": ">= 0.75", "bfloat16": ">= 0.50"}


def peak(dtype: torch.dtype) -> float:
    """Return operations a second of processor time, of the best of three products."""
    a, b = torch.randn(SIDE, SIDE).to(dtype), torch.randn(SIDE, SIDE).to(dtype)
    return 2 * SIDE**3 / min(measured(lambda: a @ b).cpu for _ in range(3))


def shares(dtype: str, turns: int) -> list[float]:
    """Return the share of the peak in each step."""
    task = varied_card(0, dtype, TOKENS - ROWS)
    scorer, prompt = build(task.card)
    hidden, labels = batch(scorer)
    given, every = torch.from_numpy(prompt), scorer.backbone.model.encoder.modules()
    linear = sum(module.weight.numel() for module in every if isinstance(module, nn.Linear))
    work = 4 * linear * BATCH * (hidden.mask.shape[1] + ROWS)
    found = []
    for _ in range(turns + 1):  # the first warms up
        best = peak(getattr(torch, dtype))
        found.append(work / measured(lambda: scorer.record_gradients(hidden, labels, given)).cpu / best)
    return found[1:]


def main(turns: int) -> None:
    """Print the shares with quartiles."""
    torch.set_num_threads(1)
    print(conditions())
    for dtype, floor in FLOORS.items():
        print(f"{dtype}: peak {peak(getattr(torch, dtype)) / 1e9:.0f} GFLOP/s")
        print(line(f"share of peak, {dtype}", shares(dtype, turns), floor))


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 15)
