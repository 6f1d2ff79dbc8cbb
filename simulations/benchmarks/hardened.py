"""What do integers and discrete noise cost? `python -m simulations.benchmarks.hardened [--pairs N] [--short N]`.

Runs the demonstration's federation on the exact path and on the float path in turn, in one process: a pair is one seed on
either, and the path that goes first changes from pair to pair, so that a machine that warms up or slows down favours
neither. Nothing but the card's `mechanism` differs between the two. Scores come from pairs of whole runs. Time is held
against its floor in many pairs of the first rounds only: on a machine with other work, the shorter the two runs of a pair
and the more pairs, the less a burst of that work can tell.
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import mean, median, quantiles, stdev

from shared.card import Task
from shared.privacy.noise import discrete_gaussian
from shared.privacy.source import SecureSource, SimulationSource, Source
from simulations.evaluate import score
from simulations.federation import Federation, Stopwatch, prepare, run_seed
from simulations.options import Options
from simulations.partition import Scheme
from simulations.study import deal_out

PATHS = {"exact": "discrete-gaussian", "float": "gaussian"}
SHORT = 3  # rounds of a short run
COORDINATES = 7680  # a prompt of 20 rows on all-MiniLM-L6-v2
MOST_OVERHEAD, MOST_NOISE_S = 0.15, 0.3


@dataclass(frozen=True)
class Outcome:
    """One seed on one path: wall seconds of the run, seconds of processor time in it, and the scores."""

    wall_s: float
    cpu_s: float
    accuracy: float
    auc: float


def federation_of(path: str) -> Federation:
    """Return the demonstration's federation on this path."""
    text = Task.load("heart-disease").text
    mechanism = f'clip_norm = 2.0\nmechanism = "{PATHS[path]}"'
    assert text.count("clip_norm = 2.0") == 1
    task = Task.parse(text.replace("clip_norm = 2.0", mechanism), "the benchmark's card")
    study = Options().study(task)
    return prepare(task, deal_out(study, task.card, Scheme("natural"), task.card.plan.sites, Options().split), private=True)


def shortened(federation: Federation) -> Federation:
    """Return the same federation for the first rounds of its plan only."""
    text = federation.task.text
    assert text.count("rounds = 34") == 1
    return replace(federation, task=Task.parse(text.replace("rounds = 34", f"rounds = {SHORT}"), "the benchmark's card"))


def measure(federation: Federation, seed: int) -> Outcome:
    """Run one seed from its first round to its published prompt, files included, and score it off the clock."""
    with tempfile.TemporaryDirectory() as folder:
        wall, cpu = time.perf_counter(), time.process_time()
        prompt, _ = run_seed(federation, seed, Path(folder), Stopwatch(), lambda _: None)
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    scores = score(prompt, federation.tests, federation.scorer)
    return Outcome(wall, cpu, scores.mean_of_sites_accuracy, scores.pooled_auc or float("nan"))


def alternate(federations: dict[str, Federation], pairs: int) -> dict[str, list[Outcome]]:
    """Run `pairs` seeds on every path, in turn; one run of each path before them is not counted."""
    for federation in federations.values():
        measure(federation, pairs)
    found: dict[str, list[Outcome]] = {path: [] for path in federations}
    for seed in range(pairs):
        for path in list(federations)[:: 1 if seed % 2 else -1]:
            found[path].append(measure(federations[path], seed))
    return found


def noise_seconds(repeats: int = 5) -> dict[str, float]:
    """Return the median seconds that discrete noise for a prompt of 7,680 numbers takes, by each of the two samplers."""
    sources: dict[str, Source] = {"a hospital's (OpenDP)": SecureSource(), "a simulation's (table)": SimulationSource(0)}
    found = {}
    for name, source in sources.items():
        seconds = []
        for number in range(repeats):
            start = time.perf_counter()
            discrete_gaussian(COORDINATES, 47_400.0, source.stream("noise", number))
            seconds.append(time.perf_counter() - start)
        found[name] = median(seconds)
    return found


def ratios(found: dict[str, list[Outcome]], part: str) -> list[float]:
    """Return exact over float, pair by pair, of `wall_s` or `cpu_s`."""
    return [getattr(e, part) / getattr(f, part) for e, f in zip(found["exact"], found["float"], strict=True)]


def gap(found: dict[str, list[Outcome]], part: str) -> tuple[float, float]:
    """Return how far the paths' means of a score lie apart, and the float path's standard deviation over seeds."""
    exact, floats = ([getattr(outcome, part) for outcome in found[path]] for path in PATHS)
    return abs(mean(exact) - mean(floats)), stdev(floats)


def said(name: str, found: dict[str, list[Outcome]]) -> list[str]:
    """Return the times of some pairs as text."""
    lines = [
        f"{name}, {path}: wall {median(o.wall_s for o in outcomes):.2f} s, processor {median(o.cpu_s for o in outcomes):.2f} s"
        for path, outcomes in found.items()
    ]
    for part in ("wall_s", "cpu_s"):
        low, middle, high = quantiles(ratios(found, part), n=4)
        lines.append(f"{name}, exact / float, {part}: median {middle:.3f}, quartiles {low:.3f} and {high:.3f}")
    return lines


def scores(found: dict[str, list[Outcome]]) -> list[str]:
    """Return the scores of both paths as text."""
    return [
        f"{path}: mean of sites' accuracies {mean(o.accuracy for o in outcomes):.4f} ± {stdev(o.accuracy for o in outcomes):.4f}, "
        f"AUC {mean(o.auc for o in outcomes):.4f} ± {stdev(o.auc for o in outcomes):.4f}"
        for path, outcomes in found.items()
    ]


def main(arguments: Sequence[str]) -> int:
    """Run the benchmark; exit code 1 where a floor is missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=5, help="of whole runs, at least 2")
    parser.add_argument("--short", type=int, default=20, help=f"pairs of {SHORT} rounds, at least 2")
    asked = parser.parse_args(arguments)
    noise = noise_seconds()
    federations = {path: federation_of(path) for path in PATHS}
    short = alternate({path: shortened(federation) for path, federation in federations.items()}, asked.short)
    whole = alternate(federations, asked.pairs)
    floors = {
        f"at most {MOST_OVERHEAD:.0%} more wall time": median(ratios(short, "wall_s")) <= 1 + MOST_OVERHEAD,
        "accuracy within the float path's spread over seeds": gap(whole, "accuracy")[0] <= gap(whole, "accuracy")[1],
        "AUC within the float path's spread over seeds": gap(whole, "auc")[0] <= gap(whole, "auc")[1],
        f"at most {MOST_NOISE_S} s of noise": max(noise.values()) <= MOST_NOISE_S,
    }
    noised = [f"discrete noise for {COORDINATES:,} coordinates, {name}: {seconds:.3f} s" for name, seconds in noise.items()]
    figures = [*said(f"{asked.short} pairs of {SHORT} rounds", short), *said(f"{asked.pairs} pairs of whole runs", whole)]
    kept = [f"{'holds' if holds else 'MISSED'}: {floor}" for floor, holds in floors.items()]
    print("\n".join([*figures, *scores(whole), *noised, *kept]))
    return 0 if all(floors.values()) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
