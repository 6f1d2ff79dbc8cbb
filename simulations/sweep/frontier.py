"""A sweep's cells as points: mean score with its interval, costs, and which no other cell beats (Pareto)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from simulations.sweep.significance import Doubles, half_width
from simulations.sweep.table import Row

COSTS: Mapping[str, str] = {
    "epsilon": "epsilon of the worst site (smaller protects more)",
    "bytes": "bytes that a site sends in the whole training",
    "seconds": "seconds of one training, all sites together, on this machine",
}
UNLIKE = 1.05  # costs are drawn where the largest is so many times the smallest: less is Flower's clock in a message


@dataclass(frozen=True)
class Point:
    """One cell.

    Attributes:
        cell: its number.
        told: the settings in which the sweep's cells differ, as they were run.
        scores: (S,), one for each seed.
        half: half of the 95 % interval over seeds (Student's t); None for one seed.
        costs: epsilon, bytes and seconds, means over seeds (epsilon: the most); a cost that is not known is absent.
    """

    cell: int
    told: Mapping[str, Any]
    scores: Doubles
    half: float | None
    costs: Mapping[str, float]

    @property
    def mean(self) -> float:
        """The mean over seeds."""
        return float(self.scores.mean())


def points_of(rows: Sequence[Row], keys: Sequence[str], score: str) -> list[Point]:
    """Return the points of the cells that have a score for every seed, in the cells' order."""
    by_cell: dict[int, list[Row]] = {}
    for row in rows:
        if row["failed"] is None:
            by_cell.setdefault(row["cell"], []).append(row)
    return [_point(mine, keys, score) for mine in by_cell.values() if all(row[score] is not None for row in mine)]


def costs_that_vary(points: Sequence[Point]) -> list[str]:
    """Return the costs that differ between cells by more than chance."""
    known = {cost: [point.costs[cost] for point in points if cost in point.costs] for cost in COSTS}
    return [cost for cost, values in known.items() if len(values) > 1 and max(values) > UNLIKE * min(values)]


def pareto(points: Sequence[Point], cost: str) -> set[int]:
    """Return the cells that no other beats: none has at least the score for at most the cost, and more or less of one."""
    known = [(point.cell, point.mean, point.costs[cost]) for point in points if cost in point.costs]
    return {cell for cell, mean, paid in known if not any(m >= mean and c <= paid and (m > mean or c < paid) for _, m, c in known)}


def _point(rows: Sequence[Row], keys: Sequence[str], score: str) -> Point:
    scores = np.array([row[score] for row in rows], dtype=np.float64)
    told = {key: _level(rows[0], key) for key in keys}
    paid = {
        "epsilon": [row["epsilon_reached"] for row in rows],
        "bytes": [row["bytes_up_per_site"] for row in rows],
        "seconds": [row["seconds"] for row in rows if row["seconds"] is not None],
    }
    costs = {
        name: float(max(found) if name == "epsilon" else np.mean(found))
        for name, found in paid.items()
        if found and None not in found
    }
    return Point(rows[0]["cell"], told, scores, half_width(scores), costs)


def _level(row: Row, key: str) -> Any:
    return "none" if key == "epsilon" and not row["private"] else row[key]
