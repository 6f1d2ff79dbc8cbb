"""Milliseconds a site and round beyond the backbone, at 1,000 sites: ``python -m simulations.benchmarks.overhead [ROUNDS]``.

The batched engine runs as `promptward simulate` runs it: draws, clipping, noise, ledgers, egress logs, checkpoints and transcript
on disk, scores aside. Time inside the model's gradients is taken off. Stock Flower on Ray follows in the same run, with sites
that return what they get, so that all its time is overhead.
"""

import itertools
import json
import statistics
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import torch

from shared.card import Task
from shared.scoring import Scorer
from simulations import batched
from simulations.benchmarks.turns import Seconds, conditions
from simulations.benchmarks.watch import cost, python
from simulations.federation import Federation, Stopwatch, prepare
from simulations.options import Changes, Options, varied
from simulations.partition import Scheme
from simulations.pools import together
from simulations.study import deal_out

SITES, STOCK_ROUNDS = 1000, 3


class Timed:
    """A scorer that adds up the time of its gradients."""

    def __init__(self, scorer: Scorer) -> None:
        """Wrap a scorer."""
        self._scorer, self.wall, self.cpu = scorer, 0.0, 0.0

    def __getattr__(self, name: str) -> Any:
        """Offer whatever else a scorer has."""
        return getattr(self._scorer, name)

    def record_gradients(self, *given: Any) -> torch.Tensor:
        """Return what the scorer does."""
        wall, cpu = time.perf_counter(), time.process_time()
        found = self._scorer.record_gradients(*given)
        self.wall, self.cpu = self.wall + time.perf_counter() - wall, self.cpu + time.process_time() - cpu
        return found


def federation(sites: int, patients: int, rounds: int) -> Federation:
    """Return that many sites with made-up patients, evenly dealt out."""
    card = Task.load("heart-disease")
    options = Options("iid", data=f"synthetic:{patients}", engine="batched")
    study = options.study(card)
    task = varied(card, Changes(sites=sites, rounds=rounds), options, study)
    dealt = deal_out(study, task.card, Scheme.parse("iid"), task.card.hospitals, options.split)
    return prepare(task, dealt, private=True, hold=together)


def beyond(sites: int, patients: int, rounds: int) -> list[Seconds]:
    """Return, for every round after the first, the seconds outside the model's gradients."""
    here = federation(sites, patients, rounds)
    timed, marks = Timed(here.scorer), list[tuple[float, float]]()

    def seen(_: object) -> None:
        marks.append((time.perf_counter() - timed.wall, time.process_time() - timed.cpu))

    with tempfile.TemporaryDirectory() as out:
        batched.run_seed(replace(here, scorer=cast(Scorer, timed)), 0, Path(out), Stopwatch(), seen)
    return [Seconds(b[0] - a[0], b[1] - a[1]) for a, b in itertools.pairwise(marks)]


def main(rounds: int) -> None:
    """Print both, in milliseconds a site and round."""
    torch.set_num_threads(1)
    ours = beyond(SITES, 3 * SITES, rounds)
    wall, cpu = (statistics.median(getattr(t, clock) for t in ours) * 1e3 / SITES for clock in ("wall", "cpu"))
    stock = cost(python("-m", "simulations.benchmarks.stock", "null", str(SITES), str(STOCK_ROUNDS)))
    ends = json.loads(stock.output.splitlines()[-1])
    theirs = statistics.median(b - a for a, b in itertools.pairwise(ends[1:])) * 1e3 / SITES
    print(conditions())
    print(f"Promptward: {wall:.2f} ms a site and round by the clock, {cpu:.2f} ms of processor time")
    print(f"stock Flower and Ray: {theirs:.2f} ms by the clock")
    print(f"RATIO overhead a site and round: {wall:.2f} ms, floor <= 0.5 ms; {theirs / wall:.1f} x less than stock")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 6)
