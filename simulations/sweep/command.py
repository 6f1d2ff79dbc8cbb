"""`promptward sweep`: from a file to a folder with a run directory for each cell, two tables and a page."""

import argparse
import json
import time
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from client.disk import Lock
from shared.errors import InputError, PromptwardError, RunError
from shared.files import write_json
from shared.toml import read_text
from simulations.sweep.outcome import assemble
from simulations.sweep.page import closing_table, write_page
from simulations.sweep.plan import Cell, Sweep, cells, in_words
from simulations.sweep.runs import Memory, run_cell
from simulations.sweep.table import Row, failed_row, rows_of, site_rows_of, write_tables

BEGUN, FILE, MARK = "begun.json", "sweep.toml", "cell.json"


def run(args: argparse.Namespace) -> int:
    """Run the command."""
    console = Console(stderr=True)
    sweep, out = _asked(args)
    memory = Memory(sweep)
    if args.dry_run:
        _show(sweep, args.json)
        return 0
    planned = cells(sweep.file)
    trainings = len(planned) * sweep.file.seeds
    console.print(
        f"{len(planned)} cells x {sweep.file.seeds} seeds = {trainings} trainings; how long, is known after the first.",
        highlight=False,
    )
    try:
        with closing(_begin(sweep, memory, out)):
            result = _sweep(sweep, memory, out, console)
    except OSError as error:
        raise RunError(f"{out}: writing failed ({error}); make room and give the same command again.") from None
    except KeyboardInterrupt:
        raise RunError(f"Stopped; go on with: promptward sweep --resume {out}") from None
    if args.json:
        print(json.dumps(result, indent=2))  # noqa: T201 (the result, on standard output)
    else:
        Console().print(closing_table(result))
    console.print(f"Report: {out / 'sweep.html'}", highlight=False, soft_wrap=True)
    return 1 if result["failed"] else 0


def _sweep(sweep: Sweep, memory: Memory, out: Path, console: Console) -> dict[str, Any]:
    """Run what is not finished, and write tables, page and `sweep.json`."""
    found = _all(sweep, memory, cells(sweep.file), out, console)
    rows, sites = ([row for each in found for row in each[name]] for name in ("rows", "sites"))
    result, points = assemble(sweep, rows)
    write_tables(rows, sites, out)
    write_page(result, points, out / "sweep.html")
    write_json(out / "sweep.json", result)
    return result


def _asked(args: argparse.Namespace) -> tuple[Sweep, Path]:
    if (args.sweep is None) == (args.resume is None):
        raise InputError("name a sweep file, or a folder with --resume; give one of them.")
    if args.resume is None:
        sweep = Sweep.load(args.sweep)
        return sweep, args.out or Path("runs") / f"sweep-{sweep.file.name}"
    if args.out is not None:
        raise InputError("--resume goes on in its own folder; leave --out away.")
    try:
        home = Path(json.loads((args.resume / BEGUN).read_text())["home"])
    except (OSError, ValueError, KeyError, TypeError):
        raise InputError(f"{args.resume}: this is no sweep's folder; name the folder that --out named.") from None
    return Sweep.parse(read_text(args.resume / FILE), str(args.resume / FILE), home), args.resume


def _show(sweep: Sweep, as_json: bool) -> None:
    """Print the cells."""
    planned = cells(sweep.file)
    if as_json:
        listed = [{"cell": cell.number, "folder": cell.folder, "settings": cell.settings.given} for cell in planned]
        print(json.dumps({"seeds": sweep.file.seeds, "cells": listed}, indent=2))  # noqa: T201 (the result)
        return
    keys = list(planned[0].told)
    table = Table(
        box=SIMPLE_HEAD, title=f"{len(planned)} cells x {sweep.file.seeds} seeds = {len(planned) * sweep.file.seeds} trainings"
    )
    for name in ("cell", *keys):
        table.add_column(name, justify="right")
    for cell in planned:
        table.add_row(str(cell.number), *(in_words(cell.told[key]) for key in keys))
    Console().print(table)


def _begin(sweep: Sweep, memory: Memory, out: Path) -> Lock:
    """Make the folder, or check that it is this sweep's; hold it against a second process."""
    facts = {"sweep": sweep.digest, "card": memory.card.digest, "data": memory.data_digest()}
    known = out / BEGUN
    if known.exists():
        before = json.loads(known.read_text())
        changed = next((name for name, digest in facts.items() if before.get(name) != digest), None)
        if changed is not None:
            what = {"sweep": "file", "card": "card", "data": "data"}[changed]
            raise InputError(f"{out}: the sweep's {what} changed since this folder was begun; name another with --out.")
        return Lock(known)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise InputError(f"{out}: this exists and is no sweep's folder; name another with --out.")
    out.mkdir(parents=True, exist_ok=True)
    lock = Lock(known)
    (out / FILE).write_text(sweep.text, encoding="utf-8")
    write_json(known, facts | {"home": str(sweep.home)})
    return lock


def _all(sweep: Sweep, memory: Memory, planned: Sequence[Cell], out: Path, console: Console) -> list[dict[str, list[Row]]]:
    """Run the cells that are not finished; return the rows of all, in their order."""
    found: dict[int, dict[str, list[Row]]] = {}
    waiting = []
    for cell in planned:
        kept = _kept(out / "cells" / cell.folder / MARK)
        if kept is None:
            waiting.append(cell)
        else:
            found[cell.number] = kept
    if found:
        console.print(f"{len(found)} cells are finished already.", highlight=False)
    waiting.sort(key=lambda cell: (memory.place(cell), cell.number))
    began = time.perf_counter()
    for done, cell in enumerate(waiting, start=1):
        found[cell.number] = _one(memory, cell, out, console)
        seconds = time.perf_counter() - began
        left = seconds / done * (len(waiting) - done)
        console.print(
            f"cell {cell.number} ({cell.words}): {_in_short(found[cell.number], sweep.file.score)}; "
            f"{done} of {len(waiting)}, about {_duration(left)} left",
            highlight=False,
            markup=False,
            soft_wrap=True,
        )
    return [found[cell.number] for cell in planned]


def _one(memory: Memory, cell: Cell, out: Path, console: Console) -> dict[str, list[Row]]:
    """Run one cell and mark it finished; one that fails leaves its sentence, and is tried again by the next start."""
    folder = out / "cells" / cell.folder
    watched = console if console.is_terminal else Console(quiet=True)
    try:
        federation, result, outcomes = run_cell(memory, cell, folder, watched)
    except PromptwardError as error:
        folder.mkdir(parents=True, exist_ok=True)
        write_json(folder / "failed.json", {"failed": str(error)})
        return {"rows": [failed_row(cell, str(error))], "sites": []}
    done = {"rows": rows_of(cell, federation, result, outcomes), "sites": site_rows_of(cell, federation, outcomes)}
    (folder / "failed.json").unlink(missing_ok=True)
    write_json(folder / MARK, done)  # last: whole or not there
    return done


def _kept(mark: Path) -> dict[str, list[Row]] | None:
    return json.loads(mark.read_text()) if mark.exists() else None


def _in_short(found: dict[str, list[Row]], score: str) -> str:
    first: dict[str, Any] = found["rows"][0]
    if first["failed"]:
        return f"failed: {first['failed']}"
    values = [row[score] for row in found["rows"] if row[score] is not None]
    return f"{score} {sum(values) / len(values):.3f}" if values else f"no {score}"


def _duration(seconds: float) -> str:
    """Return a time in words.

    >>> _duration(42), _duration(600), _duration(9000)
    ('42 s', '10 min', '2.5 h')
    """
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
