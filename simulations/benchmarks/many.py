"""100 sites, 20 rounds, beside stock Flower, Ray and Opacus: ``python -m simulations.benchmarks.many [ROUNDS]``.

Both train one prompt on the heart-disease patients, dealt out evenly, one private step a site and round, and both are timed from
the start of the process to its end, with the memory of all their processes. Stock parts run for ROUNDS rounds (default 3), and
the rest of the twenty is reckoned from the median round; ``python -m simulations.benchmarks.many 20`` runs them all.

Stock parts score nobody. Ours scores the test patients once, at the end (`--curve 1`), for its report; the figure with its usual
learning curve of seven rounds stands beside it.
"""

import itertools
import json
import statistics
import sys
import tempfile
from pathlib import Path

from simulations.benchmarks.turns import conditions
from simulations.benchmarks.watch import cost, python
from simulations.options import SCORED

SITES, ROUNDS = 100, 20


def main(stock_rounds: int) -> None:
    """Print seconds, processor time and memory of all, and the ratios. Both use all cores: ours by threads, stock by actors."""
    with tempfile.TemporaryDirectory() as folder:
        ours = {
            (precision, curve): cost(_simulate(precision, curve, Path(folder)), {})
            for precision in ("float32", "bfloat16")
            for curve in (1, SCORED)
        }
    words = python("-m", "simulations.benchmarks.stock", "opacus", str(SITES), str(stock_rounds))
    stock = cost(words, {"OMP_NUM_THREADS": "1"})
    ends = json.loads(stock.output.splitlines()[-1])
    each = statistics.median(b - a for a, b in itertools.pairwise(ends[1:]))
    wall = stock.wall + (ROUNDS - stock_rounds) * each
    said = "measured" if stock_rounds == ROUNDS else f"{stock_rounds} rounds measured, {each:.1f} s each, the rest reckoned"
    print(conditions())
    print(f"stock Flower, Ray, Opacus: {wall:.0f} s ({said}), {stock.memory / 1e6:.0f} MB")
    for (precision, curve), mine in ours.items():
        spent = f"{mine.wall:.1f} s, {mine.cpu:.1f} s of processor time, {mine.memory / 1e6:.0f} MB"
        print(f"Promptward, {precision}, --curve {curve}: {spent}")
    for (precision, curve), mine in ours.items():
        told = f"{wall / mine.wall:.1f} x less time, floor >= 20; {stock.memory / mine.memory:.2f} x less memory, floor >= 5"
        print(f"RATIO whole simulation, {SITES} sites x {ROUNDS} rounds, {precision}, --curve {curve}: {told}")


def _simulate(precision: str, curve: int, folder: Path) -> list[str]:
    words = ["--sites", str(SITES), "--rounds", str(ROUNDS), "--engine", "batched", "--precision", precision, "--curve", str(curve)]
    return [*python("-m", "promptward", "simulate"), *words, "--out", str(folder / f"{precision}-{curve}")]


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 3)
