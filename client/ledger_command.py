"""`promptward ledger show|verify|statement LEDGER`: what was spent, recomputed; is the chain whole; a statement for an officer."""

import argparse
import json
from collections import Counter
from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from client.chain import is_torn
from client.ledger import METRIC, Event, read_ledger, releases
from shared.errors import InputError
from shared.privacy.accounting import attacker, spent


def run(args: argparse.Namespace) -> int:
    """Run the command."""
    if not args.ledger.is_file():
        raise InputError(f"{args.ledger}: there is no such ledger; check the path.")
    if not 0 < args.delta < 1:
        raise InputError(f"--delta {args.delta:g}: give a number between 0 and 1.")
    events = read_ledger(args.ledger)
    if args.action == "verify":
        torn = is_torn(args.ledger)
        found = {"ledger": str(args.ledger), "events": len(events), "whole": True, "unfinished_last_line": torn}
        more = " A line after them is being written or was torn by a crash; it pays for nothing." if torn else ""
        _say(args.json, found, f"The chain is whole: {len(events)} events.{more}")
        return 0
    total = spent(releases(events), args.delta)
    if args.action == "statement":
        text = statement(events, args.delta)
        _say(args.json, {"statement": text}, "\n\n".join(text))
        return 0
    metrics = sum(event.kind == METRIC for event in events)
    tasks = Counter((event.task, "published accuracy" if event.kind == METRIC else event.run) for event in events)
    table = Table(
        title=f"epsilon {total.epsilon:.4f} at delta {total.delta:g}, unit {total.unit}, {total.adjacency}, {total.accountant}"
    )
    for name in ("task", "run", "releases"):
        table.add_column(name)
    for (task, name), times in tasks.items():
        table.add_row(task[:16], name, str(times))
    _say(args.json, vars(total) | {"events": len(events), "published_metrics": metrics}, table)
    return 0


def statement(events: Sequence[Event], delta: float) -> list[str]:
    """Return the privacy statement for a data-protection officer, one paragraph an entry, all of it from the ledger."""
    if not events:
        return ["Nothing was ever released under this ledger: epsilon is 0."]
    total = spent(releases(events), delta)
    mu, accuracy = attacker(releases(events), delta)
    metrics = sum(event.kind == METRIC for event in events)
    tasks = len({event.task for event in events})
    proven = f" All of them are proven for the integer noise as drawn; Rényi accounting at whole orders gives {total.rigorous:.4f}."
    return [
        f"{_number(len(events) - metrics, 'update')} of the prompt and {_number(metrics, 'published metric')}, with "
        f"{_number(total.releases, 'noised sum')} in them, were released for {_number(tasks, 'task')}.",
        f"Unit of privacy: one {total.unit}, with all of that {total.unit}'s records. Adjacency: {total.adjacency}. Together, over "
        f"all tasks, runs and restarts, they spent epsilon = {total.epsilon:.4f} at delta = {delta:g} (accountant: "
        f"{total.accountant}; cross-checks: PRV {total.prv:.4f}, RDP {total.rdp:.4f})."
        + (proven if all(event.grid for event in events) else ""),
        f"Someone who saw every payload, knew all other patients, and had to say whether one given patient is in the data would "
        f"be right at most {100 * accuracy:.1f} times in 100; a coin is right 50 times. The same bound as Gaussian differential "
        f"privacy with mu = {mu:.3f}.",
    ]


def _number(count: int, what: str) -> str:
    return f"{count} {what}" + ("" if count == 1 else "s")


def _say(as_json: bool, found: dict[str, object], shown: object) -> None:
    Console().print(json.dumps(found, indent=2) if as_json else shown, highlight=False, soft_wrap=as_json)
