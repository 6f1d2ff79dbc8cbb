"""Choose learning rates for `promptward compare`, on splits that are not the published one: pooled AUC of each try, federated.

The best of a grid is no private choice: it is made on the patients' own scores, and no epsilon counts it.

python -m simulations.benchmarks.compare_tuning METHOD --rates .001 .01 --splits 100 101 [--rounds N]
"""

import argparse

import numpy as np
import torch

from shared.card import Task
from shared.privacy.source import SimulationSource
from simulations.comparison.methods import METHODS, Tuning
from simulations.comparison.planning import plan_of
from simulations.comparison.split import read_split
from simulations.comparison.training import train
from simulations.evaluate import auc
from simulations.options import Options
from simulations.partition import Scheme


def main() -> None:
    """Print a line a try."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("method", choices=list(METHODS))
    parser.add_argument("--rates", type=float, nargs="+", required=True)
    parser.add_argument("--splits", type=int, nargs="+", default=[100, 101, 102])
    parser.add_argument("--rounds", type=int)
    parser.add_argument("--clip", type=float)
    args = parser.parse_args()
    task = Task.load("heart-disease")
    found: dict[float, list[float]] = {}
    for seed in args.splits:
        split = read_split(task, Options(split=seed).study(task), Scheme.parse("natural"), seed)
        method = METHODS[args.method].build(split)
        sites = {name: split.patients(number) for number, name in enumerate(split.sites)}
        for rate in args.rates:
            plan = plan_of(task.card, Tuning(rate, args.clip, args.rounds), method.start.size)
            theta = train(method, split.records, sites, plan, SimulationSource(100 + seed), "tuning")
            area = auc(method.probabilities(torch.from_numpy(theta)), split.test_labels)
            assert area is not None
            found.setdefault(rate, []).append(area)
            print(f"{args.method} split {seed} rate {rate:g}: {area:.4f}", flush=True)
    for rate, areas in found.items():
        print(f"{args.method} rate {rate:g}: mean {np.mean(areas):.4f} of {len(areas)}")
    best = max(found, key=lambda rate: np.mean(found[rate]))
    edge = ", at the edge of the grid: one rate beyond may be better" if best in (min(found), max(found)) else ""
    print(f"{args.method}: best of {len(found)} rates {best:g}{edge}")


if __name__ == "__main__":
    main()
