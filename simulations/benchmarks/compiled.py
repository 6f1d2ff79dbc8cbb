"""What `torch.compile` would bring to the private step: ``python -m simulations.benchmarks.compiled [TURNS] [MODE]``.

Forward and backward of 32 records of 64 tokens without padding, one thread: as it is, and through `torch.compile` with fixed shapes
and the whole of it in one graph. Both give the same gradients, which is checked. MODE is torch's: default, or
max-autotune-no-cudagraphs. The seconds of compiling are counted once for each shape; real batches have several. It is what
`promptward simulate --compile` does, which docs/benchmarks.md says nobody needs on a processor.
"""

import sys

import torch
from torch import Tensor
from torch.nn import functional

from shared.backbone import Hidden
from shared.compiled import require_compiler
from shared.scoring import build
from simulations.benchmarks.steps import batch, varied_card
from simulations.benchmarks.turns import conditions, in_turn, line, measured, ratios

CARDS = {
    "input prompt, float32": (0, "float32", 1e-4),
    "late prompt, float32": (5, "float32", 1e-4),
    "input prompt, bfloat16": (0, "bfloat16", 0.1),
    "late prompt, bfloat16": (5, "bfloat16", 0.1),
}


def measure(name: str, turns: int, mode: str) -> None:
    """Print what compiling took and the ratio of processor times of one card."""
    layer, dtype, tolerance = CARDS[name]
    scorer, start = build(varied_card(layer, dtype).card)
    hidden, labels = batch(scorer)
    prompt = torch.from_numpy(start)  # (P+L, D)

    def loss(states: Tensor, mask: Tensor, labels: Tensor, prompts: Tensor) -> Tensor:
        return functional.cross_entropy(scorer.logits(Hidden(states, mask), prompts), labels, reduction="sum")

    compiled = torch.compile(loss, dynamic=False, fullgraph=True, mode=mode)

    def fast() -> Tensor:
        each = prompt.expand(len(hidden), -1, -1).clone().requires_grad_()  # (B, P+L, D)
        return torch.autograd.grad(compiled(hidden.states, hidden.mask, labels, each), each)[0]

    def plain() -> Tensor:
        return scorer.record_gradients(hidden, labels, prompt)

    first = measured(fast)
    torch.testing.assert_close(fast(), plain(), atol=tolerance, rtol=tolerance)
    times = in_turn({"plain": plain, "compiled": fast}, turns)
    print(f"{name}: compiling and the first step took {first.wall:.0f} s")
    print(line(f"torch.compile, {name}, {mode}", ratios(times["plain"], times["compiled"]), "none"), flush=True)


def main(turns: int, mode: str) -> None:
    """Print seconds and ratios."""
    require_compiler()
    torch.set_num_threads(1)
    print(conditions())
    for name in CARDS:
        measure(name, turns, mode)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 15, sys.argv[2] if len(sys.argv) > 2 else "default")
