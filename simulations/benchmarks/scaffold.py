"""What SCAFFOLD's control does on real patients: several local steps a round with and without it, the UCI study's four hospitals.

``python -m simulations.benchmarks.scaffold [--epsilon 3 100] [--rates .4 1.6] [--seeds 3] [--split 43] [--rounds 17] [--steps 4]``.
Both arms have the same draws, noise and numbers; only `[plan] control` differs. A rate is the coordinator's; a hospital's own is
that over the steps, so that the coordinator's step is what hospitals moved (a global step of 1 in Karimireddy et al. 2020).
"""

import argparse
import json
import tempfile
import tomllib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import tomli_w

from shared.card import Task
from simulations.comparison.figures import Score
from simulations.evaluate import score
from simulations.federation import Federation, Resident, Stopwatch, prepare, resident, run_seed
from simulations.heart import heart_study
from simulations.partition import Scheme
from simulations.study import deal_out

HEART = Task.load("heart-disease")
CONTROLS = ("none", "scaffold")


def card(control: str, epsilon: float, rate: float, steps: int, rounds: int) -> Task:
    """Return the demonstration's card with several local steps under the coordinator's plain step."""
    raw = tomllib.loads(HEART.text)
    plan = {"control": control, "local_steps": steps, "local_learning_rate": rate / steps, "rounds": rounds}
    raw["plan"] |= plan | {"optimizer": "sgd", "momentum": 0.0, "learning_rate": rate}
    raw["privacy"] = {key: value for key, value in raw["privacy"].items() if key != "noise_multiplier"} | {"epsilon": epsilon}
    return Task.parse(tomli_w.dumps(raw), "the benchmark's card")


def area(here: Federation, seed: int) -> float:
    """Train one seed and return the AUC on the test patients of all sites."""
    with tempfile.TemporaryDirectory() as out:
        prompt, _ = run_seed(here, seed, Path(out), Stopwatch(), lambda _: None)
    return score(prompt, here.tests, here.scorer).pooled_auc or float("nan")


def compared(held: Resident, epsilon: float, rate: float, plan: tuple[int, int], seeds: int) -> None:
    """Print a line a training, and the difference that the control makes, paired by seed, with Student's 95 % interval."""
    found: dict[str, list[float]] = {control: [] for control in CONTROLS}
    for control in CONTROLS:
        here = prepare(card(control, epsilon, rate, *plan), {}, private=True, held=held)
        for seed in range(seeds):
            found[control].append(area(here, seed))
            line = {"epsilon": epsilon, "rate": rate, "control": control, "seed": seed, "auc": round(found[control][-1], 4)}
            print(json.dumps(line | {"noise": round(here.mechanism.noise_multiplier, 3)}), flush=True)
    means = ", ".join(f"{control} {np.mean(areas):.4f}" for control, areas in found.items())
    gain = Score(np.subtract(found["scaffold"], found["none"]), np.zeros(2))
    low, high = gain.interval()
    print(
        f"epsilon {epsilon:g}, rate {rate:g}: {means}; scaffold gains {gain.mean:+.4f} [{low:+.4f}, {high:+.4f}] over {seeds} seeds"
    )


def main(words: Sequence[str] | None = None) -> None:
    """Compare at every epsilon and rate."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epsilon", type=float, nargs="+", default=[3.0, 100.0])
    parser.add_argument("--rates", type=float, nargs="+", default=[0.4])
    for name, usual in (("seeds", 3), ("split", 43), ("rounds", 17), ("steps", 4)):
        parser.add_argument(f"--{name}", type=int, default=usual)
    args = parser.parse_args(words)
    study = heart_study(HEART.card.files, args.split)
    held = resident(HEART.card, deal_out(study, HEART.card, Scheme("natural"), HEART.card.hospitals, args.split))
    for epsilon in args.epsilon:
        for rate in args.rates:
            compared(held, epsilon, rate, (args.steps, args.rounds), args.seeds)


if __name__ == "__main__":
    main()
