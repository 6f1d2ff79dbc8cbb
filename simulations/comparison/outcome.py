"""What a comparison ends with: `compare.json`, and the same as a tidy `compare.csv` with a line a training."""

import csv
import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from shared.card import Task
from simulations.comparison.figures import HeldOut, Score
from simulations.comparison.method import Method
from simulations.comparison.methods import PROMPT, Known
from simulations.comparison.planning import spent_by
from simulations.comparison.runs import Run, Setting
from simulations.comparison.training import Plan
from simulations.comparison.verdict import Contrast

VERSIONS = ("promptward", "torch", "transformers", "peft", "opacus", "dp-accounting", "scikit-learn", "numpy")
METRICS = ("pooled_auc", "mean_of_sites_accuracy", "pooled_accuracy")


@dataclass(frozen=True)
class Row:
    """A method in a setting: its plan, its trainings with seeds 0, 1, ..., and their scores. Without a plan it is a reference."""

    name: str
    title: str
    setting: Setting
    numbers: int
    plan: Plan | None
    runs: Sequence[Run]
    conventional: bool = False

    @property
    def sent(self) -> int:
        """What a site sends in the whole training, in bytes: nothing where it does not take part in one with others."""
        return 4 * self.numbers * self.plan.rounds if self.plan and self.setting == "federated" else 0

    def scores(self, tested: HeldOut, seeds: int | None = None) -> dict[str, Score]:
        """Return each metric over the first `seeds` trainings."""
        runs = [run.probabilities for run in self.runs[:seeds]]
        return {
            "pooled_auc": tested.pooled_auc(runs),
            "mean_of_sites_accuracy": tested.mean_of_sites(runs),
            "pooled_accuracy": tested.accuracy(runs),
        }

    def told(self, tested: HeldOut, task: Task) -> dict[str, Any]:
        """Return the row of `compare.json`."""
        metrics = {name: _spread(score) for name, score in self.scores(tested).items()}
        head = {"method": self.name, "title": self.title, "setting": self.setting, "seeds": len(self.runs)}
        return (
            head
            | _planned(self.plan, task)
            | {
                "numbers": self.numbers,
                "bytes_up_per_site_round": 4 * self.numbers if self.sent else 0,
                "bytes_up_per_site": self.sent,
                "seconds": sum(run.seconds for run in self.runs) / len(self.runs),
                "metrics": metrics,
            }
        )


def row_of(name: str, known: Known, setting: Setting, method: Method, plan: Plan, runs: Sequence[Run]) -> Row:
    """Return the row of a trained method."""
    return Row(name, known.title, setting, method.start.size, plan, runs, known.conventional)


def contrasts(rows: Sequence[Row], tested: HeldOut) -> list[Contrast]:
    """Return every row against the card's prompt, federated, on the seeds that both have; none where that was not trained."""
    ours = next((row for row in rows if (row.name, row.setting) == (PROMPT, "federated")), None)
    found = []
    for row in rows if ours else ():
        assert ours  # noqa: S101 (for the type checker)
        if row is not ours:
            both = min(len(ours.runs), len(row.runs)) if row.plan else None  # a reference is the same for every seed
            gain = row.scores(tested, both)["pooled_auc"].minus(ours.scores(tested, both)["pooled_auc"])
            against = row.conventional and row.setting == "federated"
            found.append(Contrast(f"{row.title} ({row.setting})", gain, (ours.sent, row.sent), against))
    return found


def assemble(rows: Sequence[Row], tested: HeldOut, task: Task, facts: Mapping[str, Any]) -> dict[str, Any]:
    """Return `compare.json`'s content; `facts` are what was asked and what follows from the whole."""
    return {
        "schema": 1,
        "task": task.card.name,
        "title": task.card.title,
        "task_digest": task.digest,
        "unit": "patient",
        "adjacency": task.card.privacy.adjacency,
        "delta": task.card.privacy.delta,
        "accountant": "PLD",
        "sample_rate": task.card.privacy.sample_rate,
        "noise_source": "seeded for simulation",
        "test_records": len(tested.labels),
        **facts,
        "rows": [row.told(tested, task) for row in rows],
        "versions": {name: version(name) for name in VERSIONS} | {"python": platform.python_version()},
        "machine": f"{os.cpu_count()} cores, {platform.machine()}",
    }


def write_csv(rows: Sequence[Row], tested: HeldOut, task: Task, path: Path) -> None:
    """Write a line for each training."""
    lines = []
    for row in rows:
        scores = row.scores(tested)
        for seed, run in enumerate(row.runs):
            head = {"method": row.name, "setting": row.setting, "seed": seed}
            values = {name: float(scores[name].seeds[seed]) for name in METRICS}
            size = {"numbers": row.numbers, "bytes_up_per_site": row.sent, "seconds": run.seconds}
            lines.append(head | values | _planned(row.plan, task) | size)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(lines[0]))
        writer.writeheader()
        writer.writerows(lines)


def _planned(plan: Plan | None, task: Task) -> dict[str, Any]:
    keys = ("epsilon", "noise_multiplier", "clip_norm", "learning_rate", "rounds", "path")
    if plan is None:
        return dict.fromkeys(keys)
    of, path = plan.mechanism, "exact" if plan.mechanism.exact else "float"
    return dict(
        zip(
            keys,
            (spent_by(plan, task.card), of.noise_multiplier, of.clip_norm, plan.rule.learning_rate, plan.rounds, path),
            strict=True,
        )
    )


def _spread(score: Score) -> dict[str, Any]:
    return {
        "mean": score.mean,
        "std": score.std,
        "ci95": list(score.interval()),
        "half_width_seeds": score.over_seeds(),
        "half_width_patients": score.over_patients(),
        "values": score.seeds.tolist(),
    }
