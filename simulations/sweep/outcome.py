"""From a sweep's rows to `sweep.json`: means with intervals, frontiers, what differs from the reference."""

import os
import platform
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any

from simulations.sweep.frontier import Point, costs_that_vary, pareto, points_of
from simulations.sweep.plan import Cell, Sweep, cells, matching, varying
from simulations.sweep.significance import Outcome, compared
from simulations.sweep.table import Row


def assemble(sweep: Sweep, rows: Sequence[Row]) -> tuple[dict[str, Any], list[Point]]:
    """Return `sweep.json`'s content, and the points that its pictures are drawn from."""
    planned = cells(sweep.file)
    points = points_of(rows, varying([cell.settings.given for cell in planned]), sweep.file.score)
    said = compared({point.cell: point.scores for point in points}, _baseline(sweep, points))
    best = {cost: pareto(points, cost) for cost in costs_that_vary(points)}
    done = {point.cell: point for point in points}
    failed = [{"cell": row["cell"], "folder": row["folder"], "sentence": row["failed"]} for row in rows if row["failed"]]
    result = {
        "schema": 1,
        "name": sweep.file.name,
        "title": sweep.file.title or sweep.file.name,
        "sweep_digest": sweep.digest,
        "card": sweep.file.card,
        "engine": sweep.file.engine,
        "seeds": sweep.file.seeds,
        "score": sweep.file.score,
        "privacy": _privacy(rows),
        "cells": [_cell(cell, done[cell.number], said, best) for cell in planned if cell.number in done],
        "failed": failed,
        "reference": None if said is None else _reference(said, planned),
        "machine": f"{os.cpu_count()} cores, {platform.machine()}",
        "versions": {"promptward": version("promptward"), "torch": version("torch")},
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    return result, points


def _baseline(sweep: Sweep, points: Sequence[Point]) -> int | None:
    """Return the named baseline's cell; None without one, or where it failed."""
    named = matching(sweep.file)
    return named[0] if named and any(point.cell == named[0] for point in points) else None


def _privacy(rows: Sequence[Row]) -> dict[str, Any] | None:
    """Return in what sense the epsilons of all cells are meant; None where no cell is private."""
    private = next((row for row in rows if row["failed"] is None and row["private"]), None)
    return private and {key: private[key] for key in ("unit", "adjacency", "delta", "accountant")}


def _cell(cell: Cell, point: Point, said: Outcome | None, best: dict[str, set[int]]) -> dict[str, Any]:
    tested = said.against.get(cell.number) if said else None
    return {
        "cell": cell.number,
        "words": cell.words,
        "folder": cell.folder,
        "settings": dict(point.told),
        "mean": point.mean,
        "std": float(point.scores.std(ddof=1)) if len(point.scores) > 1 else None,
        "ci95_over_seeds": None if point.half is None else [point.mean - point.half, point.mean + point.half],
        "values": point.scores.tolist(),
        "costs": dict(point.costs),
        "pareto": [cost for cost, cells_ in best.items() if cell.number in cells_],
        "against": None if tested is None else asdict(tested) | {"significant": tested.significant},
    }


def _reference(said: Outcome, planned: Sequence[Cell]) -> dict[str, Any]:
    words = next(cell.words for cell in planned if cell.number == said.reference)
    return {"cell": said.reference, "words": words, "named": said.named, "tests": said.tests, "silent": said.silent}
