"""Records a second of private training beside stock parts: ``python -m simulations.benchmarks.throughput [TURNS]``.

Batch 32, 64 tokens without padding, one thread. Three ways of ours: the prompt at the input in float32, like for like; the
demonstration's late prompt, whose lower layers were computed before; and the same in bfloat16. The last line of each late prompt
counts the reading of the lower layers too, once for as many uses of a record as the card's rounds and rate give.
"""

import statistics
import sys

import torch

from shared.card import Task
from shared.scoring import build
from simulations.benchmarks.steps import BATCH, batch, our_step, stock_step, varied_card
from simulations.benchmarks.turns import Seconds, conditions, in_turn, line, measured, ratios

OURS = {
    "input prompt, float32": (varied_card(0), ">= 1.4"),
    "late prompt, float32": (varied_card(), "none"),
    "late prompt, bfloat16": (varied_card(dtype="bfloat16"), ">= 15"),
}


def main(turns: int) -> None:
    """Print records a second, and the ratios of processor time with quartiles."""
    torch.set_num_threads(1)
    arms, reading = {"stock parts": stock_step(varied_card(0))}, {}
    for name, (task, _) in OURS.items():
        scorer, prompt = build(task.card)
        reading[name] = min((measured(lambda of=scorer: batch(of)) for _ in range(2)), key=lambda s: s.cpu)  # type: ignore[misc]
        arms[name] = our_step(task, scorer, prompt, *batch(scorer))
    times = in_turn(arms, turns)
    print(conditions())
    for name, found in times.items():
        cpu, wall = (statistics.median(getattr(t, clock) for t in found) for clock in ("cpu", "wall"))
        print(f"{name}: {BATCH / cpu:.0f} records a second of processor time, {BATCH / wall:.0f} by the clock")
    stock = times["stock parts"]
    for name, (task, floor) in OURS.items():
        print(line(f"throughput, {name}", ratios(stock, times[name]), floor))
        if name != "input prompt, float32":
            each = reading[name].cpu / uses(task)
            print(line(f"throughput, {name}, with reading", ratios(stock, [Seconds(0, t.cpu + each) for t in times[name]]), floor))


def uses(task: Task) -> float:
    """Return how often a record is used in a run, on the mean."""
    return task.card.plan.rounds * task.card.plan.local_steps * task.card.privacy.sample_rate


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 7)
