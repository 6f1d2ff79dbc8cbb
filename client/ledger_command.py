"""`promptward ledger show|verify LEDGER`: what was spent, recomputed from the events; is the chain whole."""

import argparse
import json
from collections import Counter

from rich.console import Console
from rich.table import Table

from client.ledger import read_ledger, releases
from shared.errors import InputError
from shared.privacy.accounting import spent


def run(args: argparse.Namespace) -> int:
    """Run the command."""
    if not args.ledger.is_file():
        raise InputError(f"{args.ledger}: there is no such ledger; check the path.")
    if not 0 < args.delta < 1:
        raise InputError(f"--delta {args.delta:g}: give a number between 0 and 1.")
    events = read_ledger(args.ledger)
    if args.action == "verify":
        found = {"ledger": str(args.ledger), "events": len(events), "whole": True}
        _say(args.json, found, f"The chain is whole: {len(events)} events.")
        return 0
    total = spent(releases(events), args.delta)
    tasks = Counter((event.task, event.run) for event in events)
    table = Table(
        title=f"epsilon {total.epsilon:.4f} at delta {total.delta:g}, unit {total.unit}, {total.adjacency}, {total.accountant}"
    )
    for name in ("task", "run", "rounds"):
        table.add_column(name)
    for (task, name), rounds in tasks.items():
        table.add_row(task[:16], name, str(rounds))
    _say(args.json, vars(total) | {"events": len(events)}, table)
    return 0


def _say(as_json: bool, found: dict[str, object], shown: object) -> None:
    Console().print(json.dumps(found, indent=2) if as_json else shown, highlight=False, soft_wrap=as_json)
