"""`promptward canaries`: make or show the canary file of an audit site."""

import argparse
import json
from pathlib import Path

from shared.canaries import Canaries, card_lines, new_canaries, read_canaries
from shared.card import Task


def run(args: argparse.Namespace) -> int:
    """Run the command."""
    canaries = _new(args) if args.action == "new" else read_canaries(args.file)
    path: Path = args.out if args.action == "new" else args.file
    table = canaries.table
    facts: dict[str, object] = {"file": str(path), "site": table.site, "task": table.task, "prompt": [table.rows, table.dim]}
    facts |= {"count": table.count, "segments": table.segments, "commitment": canaries.commitment}
    print(json.dumps(facts, indent=2) if args.json else _text(canaries, path))  # noqa: T201
    return 0


def _new(args: argparse.Namespace) -> Canaries:
    from shared.scoring import build  # noqa: PLC0415 (loads torch; `show` needs no model)

    task = Task.load(args.task)
    scorer, _ = build(task.card)
    return new_canaries(task.card, args.site, scorer.shape.shape, args.count, args.segments, args.out)


def _text(canaries: Canaries, path: Path) -> str:
    table = canaries.table
    return (
        f"{path}: {table.count} canaries of site '{table.site}' for task {table.task}, coins flipped {table.segments} times.\n"
        f"Keep it secret until the run has ended. Put '{table.site}' on the roster and these lines into the task card:\n\n"
        + card_lines(canaries)
    )
