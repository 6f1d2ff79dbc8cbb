"""What `promptward init` writes beside the card: the site file and the study file of a table or a folder."""

import argparse
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tomli_w

from client.init_folder import TEXT, Found
from client.records import Row
from client.suggest import plain
from shared.card import Task
from shared.errors import InputError
from shared.privacy.planned import epsilon_of_plan


@dataclass(frozen=True)
class Given:
    """The records that `init` was shown.

    Attributes:
        rows: one a record.
        label: the column of the label.
        source: for messages.
        found: the folder, where it was one.
    """

    rows: Sequence[Row]
    label: str
    source: Path
    found: Found | None = None

    @property
    def images(self) -> bool:
        """Whether records are images."""
        return self.found is not None and self.found.images


def _data(args: argparse.Namespace, given: Given, labels: Sequence[str], columns: dict[str, str]) -> dict[str, dict[str, Any]]:
    """Return `[data]`, or `[images]`, of a site or study file."""
    found = given.found
    named = {"patient": found.patient, "split": found.split} if found else {"patient": args.patient, "split": args.split}
    path = str((found.manifest or args.out / table_name(given)).resolve()) if found else str(args.csv.resolve())
    common = {"label": given.label, "labels": {value: value for value in labels}} | {k: v for k, v in named.items() if v}
    if found and found.images:
        return {"images": {"manifest": path, "folder": str(args.folder.resolve()), "file": found.file} | common}
    return {"data": {"path": path, "columns": columns} | common}


def table_name(given: Given) -> str:
    """Return what the table that is written of a folder is called."""
    return "manifest.csv" if given.images else "notes.csv"


def site_file(args: argparse.Namespace, given: Given, task: Task, site: str, columns: dict[str, str]) -> bytes:
    """Return a site file's text; raise `InputError` for a site that is not on the card's roster."""
    if site not in task.card.plan.sites:
        raise InputError(f"--site '{site}' is not on the card's roster ({', '.join(task.card.plan.sites)}).")
    epsilon = math.ceil(epsilon_of_plan(task.card) * 100.1) / 100
    content = {
        "schema": 1,
        "site": site,
        **_data(args, given, [one.name for one in task.card.labels], columns),
        "ledger": {"path": "ledger.jsonl"},
        "policy": {"epsilon": epsilon, "delta": task.card.privacy.delta, "tasks": [task.digest]},
    }
    head = "# The hospital's own file: it stays here. [policy] epsilon is what this task plans to spend; you decide.\n"
    head += "# The digest in [policy] tasks is the card's: whenever the card is edited, write its new one (sha256sum task.toml).\n"
    return (head + tomli_w.dumps(content)).encode()


def study_file(args: argparse.Namespace, given: Given, task: Task, columns: dict[str, str]) -> bytes:
    """Return a study file's text: the same records, for `promptward simulate --data`."""
    [(table, data)] = _data(args, given, [one.name for one in task.card.labels], columns).items()
    site = {"site": args.site_column} if args.site_column else {}
    return tomli_w.dumps({"schema": 1, table: data | site}).encode()


def columns_of(task: Task, given: Given) -> dict[str, str]:
    """Map an existing card's fields to columns of the same plain name; raise `InputError` naming a field that has none."""
    if given.images != (task.card.image is not None):
        kinds = ("images", "sentences") if given.images else ("sentences", "images")
        raise InputError(
            f"{given.source}: these records are {kinds[0]} and card '{task.card.name}' reads {kinds[1]}; name another."
        )
    if given.images:
        return {}
    names = task.card.record_text.names
    if given.found and len(names) == 1:
        return {name: TEXT for name in names if name != TEXT}
    have = {plain(name): name for row in given.rows for name in row}
    absent = [name for name in names if plain(name) not in have]
    if absent:
        raise InputError(f"the card reads '{absent[0]}' and the table has no such column ({', '.join(have.values())}); rename one.")
    found = {name: have[plain(name)] for name in names}
    return {name: column for name, column in found.items() if name != column}
