"""`promptward audit --self-test`: the detection matrix on the screen and in a file."""

import argparse
import json
import os
import time
from pathlib import Path

from rich.console import Console
from rich.table import Table

from audits.self_test import LAYERS, Row, SelfTest, as_facts, self_test
from shared.card import Task
from shared.errors import InputError

FILE = "self-test.json"


def run(args: argparse.Namespace) -> int:
    """Run the command; return 0 when every bug was found and no right hospital accused, beyond one in twenty runs."""
    if args.runs < 1:
        raise InputError(f"--runs {args.runs}: give a number of 1 or more.")
    task, start = Task.load(args.task), time.monotonic()
    found = self_test(task, args.runs, args.processes or min(2, os.cpu_count() or 1))
    facts = as_facts(found, task) | {"seconds": round(time.monotonic() - start, 1)}
    text = json.dumps(facts, indent=2)
    if args.out:
        _write(args.out, text)
    if args.json:
        print(text)  # noqa: T201
    else:
        show(found, task, facts["seconds"])
    return 0 if found.passed else 1


def _write(folder: Path, text: str) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / FILE).write_text(text + "\n", encoding="utf-8")
    except OSError as error:
        raise InputError(f"{folder}: cannot be written ({error.strerror}); name another folder with --out.") from None


def show(found: SelfTest, task: Task, seconds: float) -> None:
    """Print the matrix and its sum."""
    console = Console(highlight=False)
    table = Table(title=f"Which layer finds which bug ({task.card.name})", title_justify="left")
    for column in ("#", "sev.", "bug", *[layer.name for layer in LAYERS]):
        table.add_column(column)
    for row in found.rows:
        table.add_row(str(row.pitfall), row.severity, row.what, *[mark(row, layer.name) for layer in LAYERS])
    console.print(table)
    accused = sum(any(run.refuted.values()) for run in found.clean)
    console.print(f"{len(found.rows) - len(found.missed)} of {len(found.rows)} bugs were found, in {seconds:g} s.")
    console.print(f"{accused} of {len(found.clean)} runs on a right hospital raised a false alarm.")
    for missed in found.missed:
        console.print(f"Not found: {missed}")
    for alarm in found.alarms:
        console.print(f"False alarm: {alarm}")


def mark(row: Row, layer: str) -> str:
    """Return what the matrix shows: how many claims were refuted, none, or that the layer does not see this part."""
    claims = row.refuted.get(layer)
    return "·" if claims is None else str(len(claims)) if claims else "–"
