"""A sweep's tidy tables: one row for each training, and one for each training and site."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from shared.privacy.planned import epsilon_of_plan
from simulations.evaluate import majority_baselines
from simulations.federation import Federation
from simulations.result import SeedOutcome
from simulations.sweep.plan import Cell

Row = dict[str, Any]

COLUMNS: Mapping[str, str] = {  # of results.csv and results.parquet, with pandas' types; docs/sweeps.md says what each means
    "cell": "Int64",
    "folder": "string",
    "seed": "Int64",
    "failed": "string",
    "sites": "Int64",
    "partition": "string",
    "split": "Int64",
    "private": "boolean",
    "epsilon": "Float64",
    "bands": "Int64",
    "rows": "Int64",
    "layer": "Int64",
    "position": "string",
    "deep": "boolean",
    "rounds": "Int64",
    "aggregation": "string",
    "tolerate": "Int64",
    "quorum": "Int64",
    "optimizer": "string",
    "learning_rate": "Float64",
    "momentum": "Float64",
    "local_steps": "Int64",
    "local_learning_rate": "Float64",
    "local_proximal": "Float64",
    "dropout": "Float64",
    "stragglers": "Float64",
    "late_joiners": "Float64",
    "pooled_auc": "Float64",
    "pooled_accuracy": "Float64",
    "pooled_balanced_accuracy": "Float64",
    "mean_of_sites_accuracy": "Float64",
    "majority_pooled": "Float64",
    "majority_mean_of_sites": "Float64",
    "epsilon_reached": "Float64",
    "delta": "Float64",
    "accountant": "string",
    "unit": "string",
    "adjacency": "string",
    "noise_multiplier": "Float64",
    "bytes_up_per_site": "Int64",
    "seconds": "Float64",
    "train_patients": "Int64",
    "test_records": "Int64",
}
SITE_COLUMNS: Mapping[str, str] = {
    "cell": "Int64",
    "seed": "Int64",
    "site": "string",
    "train_patients": "Int64",
    "test_records": "Int64",
    "accuracy": "Float64",
    "balanced_accuracy": "Float64",
    "auc": "Float64",
    "majority_accuracy": "Float64",
    "epsilon_reached": "Float64",
    "delta": "Float64",
    "rounds_contributed": "Int64",
}


def rows_of(cell: Cell, federation: Federation, result: Mapping[str, Any], outcomes: Sequence[SeedOutcome]) -> list[Row]:
    """Return a row for each seed of a cell."""
    common = {"cell": cell.number, "folder": cell.folder, "failed": None} | _settings(cell, federation, result)
    return [common | {"seed": outcome.seed} | _scores(federation, outcome) | _costs(federation, outcome) for outcome in outcomes]


def failed_row(cell: Cell, sentence: str) -> Row:
    """Return the one row of a cell that failed: what was asked for, and why there is no more."""
    asked = {key: value for key, value in cell.settings.given.items() if key in COLUMNS and value != "none"}
    return {"cell": cell.number, "folder": cell.folder, "failed": sentence} | asked


def site_rows_of(cell: Cell, federation: Federation, outcomes: Sequence[SeedOutcome]) -> list[Row]:
    """Return a row for each seed and site of a cell."""
    return [_site(cell, federation, outcome, name) for outcome in outcomes for name in federation.pools]


def write_tables(rows: Sequence[Row], sites: Sequence[Row], out: Path) -> None:
    """Write both tables as CSV and as Parquet; every column is there, empty where a value does not exist."""
    import pandas as pd  # noqa: PLC0415 (a second to import)

    for name, found, columns in (("results", rows, COLUMNS), ("per_site", sites, SITE_COLUMNS)):
        frame = pd.DataFrame(list(found), columns=list(columns)).astype(dict(columns))
        frame.to_csv(out / f"{name}.csv", index=False)
        frame.to_parquet(out / f"{name}.parquet", index=False)


def _settings(cell: Cell, federation: Federation, result: Mapping[str, Any]) -> Row:
    """Return what the cell was run with: the card's own values where the sweep says nothing."""
    card, schedule, private = federation.task.card, federation.schedule, federation.private
    asked = cell.settings.epsilon if isinstance(cell.settings.epsilon, float) else card.privacy.epsilon
    prompt = {name: getattr(card.prompt, name) for name in ("layer", "position", "deep", "rows")}
    plan = ("rounds", "aggregation", "tolerate", "optimizer", "learning_rate", "momentum")
    local = ("local_steps", "local_learning_rate", "local_proximal")
    return {
        "sites": len(card.hospitals),
        "partition": result["partition"],
        "split": result["split"],
        "private": private,
        "epsilon": (asked or epsilon_of_plan(card)) if private else None,
        "bands": card.privacy.bands,
        "quorum": card.quorum,
        **prompt,
        **{name: getattr(card.plan, name) for name in (*plan, *local)},
        **vars(schedule),
    }


def _scores(federation: Federation, outcome: SeedOutcome) -> Row:
    scores = outcome.scores
    mean, pooled = majority_baselines(federation.tests)
    return {
        "pooled_auc": scores.pooled_auc,
        "pooled_accuracy": scores.pooled_accuracy,
        "pooled_balanced_accuracy": scores.pooled_balanced_accuracy,
        "mean_of_sites_accuracy": scores.mean_of_sites_accuracy,
        "majority_pooled": pooled,
        "majority_mean_of_sites": mean,
    }


def _costs(federation: Federation, outcome: SeedOutcome) -> Row:
    worst = max(outcome.spent.values(), key=lambda spent: spent.epsilon, default=None)
    return {
        "epsilon_reached": worst and worst.epsilon,
        "delta": worst and worst.delta,
        "accountant": worst and worst.accountant,
        "unit": "patient",
        "adjacency": federation.task.card.privacy.adjacency,
        "noise_multiplier": federation.mechanism.noise_multiplier,
        "bytes_up_per_site": sum(line["reply_bytes"] for line in outcome.lines),
        "seconds": outcome.seconds,
        "train_patients": sum(pool.patients for pool in federation.pools.values()),
        "test_records": sum(len(test.labels) for test in federation.tests.values()),
    }


def _site(cell: Cell, federation: Federation, outcome: SeedOutcome, name: str) -> Row:
    score, spent = outcome.scores.per_site[name], outcome.spent.get(name)
    missed = sum(name in line["left_out"] for line in outcome.lines)
    return {
        "cell": cell.number,
        "seed": outcome.seed,
        "site": name,
        "train_patients": federation.pools[name].patients,
        "test_records": score.n_test,
        "accuracy": score.accuracy,
        "balanced_accuracy": score.balanced_accuracy,
        "auc": score.auc,
        "majority_accuracy": score.majority_accuracy,
        "epsilon_reached": spent and spent.epsilon,
        "delta": spent and spent.delta,
        "rounds_contributed": federation.task.card.plan.rounds - missed,
    }
