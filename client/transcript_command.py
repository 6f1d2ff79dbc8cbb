"""`promptward transcript FILE`: what left this hospital, byte by byte, for the people who answer for it."""

import argparse
import json
from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from client.ledger import TRAINING, read_ledger
from client.transcript import ENDING, Sent, read_transcript
from client.transcript_fields import FRAMING, HEADERS, Field
from client.transcript_rounds import LIMIT, Round, headers_size, rounds_of
from shared.errors import InputError

SHOWN = 20  # rounds of a long run that the table shows; --json has them all
LONG = 48  # characters of a value that a table shows


def run(args: argparse.Namespace) -> int:
    """Run the command; return 1 when a round sent more beyond the tensor than it may."""
    path: Path = args.transcript
    if not path.is_file():
        raise InputError(f"{path}: there is no such transcript; it lies beside the ledger and ends in {ENDING}.")
    lines = read_transcript(path)
    rounds = rounds_of(lines, numbers_beside(path))
    picked = picked_rounds(rounds, args.round, args.last, path)
    found = summary(lines, rounds) | ({"picked": [_described(one) for one in picked]} if picked else {})
    if args.json:
        print(json.dumps(found, indent=2))  # noqa: T201
    else:
        _print(Console(), lines, rounds, picked)
    return int(any(one.beyond > LIMIT for one in rounds))


def numbers_beside(transcript: Path) -> dict[str, int]:
    """Return the round of each payload by the ledger beside the transcript; empty where there is none."""
    ledger = transcript.with_name(transcript.name.removesuffix(ENDING) + ".jsonl")
    if not transcript.name.endswith(ENDING) or not ledger.is_file():
        return {}
    return {event.payload: event.round for event in read_ledger(ledger) if event.kind == TRAINING}


def picked_rounds(rounds: Sequence[Round], number: int | None, last: bool, path: Path) -> list[Round]:
    """Return the rounds that were asked for, one that was sent again more than once; with `last`, the last that was answered.

    Raises `InputError` when it is not in the transcript.
    """
    if number is None:
        return [one for one in rounds if one.answered][-1:] if last else []
    picked = [one for one in rounds if one.number == number]
    if not picked:
        known = sorted({one.number for one in rounds if one.number is not None})
        told = f"it has {known[0]} to {known[-1]}" if known else "the ledger that numbers them is not beside it"
        raise InputError(f"{path}: there is no round {number} in it; {told}.")
    return picked


def summary(lines: Sequence[Sent], rounds: Sequence[Round]) -> dict[str, Any]:
    """Return everything but the fields, as `--json` prints it."""
    return {
        "calls": per_call(lines),
        "rounds": [_facts(one) for one in rounds],
        "refused": [{"call": call, "reason": reason, "times": times} for (call, reason), times in refusals(lines).items()],
        "delivered": [line.delivered for line in lines if line.delivered],
        "bytes": sum(line.times * len(line.content) for line in lines),
        "header_bytes": sum(map(headers_size, lines)),
        "most_beyond_tensor": max((one.beyond for one in rounds), default=0),
        "limit_beyond_tensor": LIMIT,
    }


def per_call(lines: Iterable[Sent]) -> dict[str, dict[str, int]]:
    """Return how often each call left, with its bytes and those of its headers."""
    found: dict[str, Counter[str]] = {}
    for line in lines:
        if line.content:
            counted = {"times": line.times, "bytes": line.times * len(line.content), "header_bytes": headers_size(line)}
            found.setdefault(line.call, Counter()).update(counted)
    return {call: dict(counted) for call, counted in found.items()}


def refusals(lines: Iterable[Sent]) -> Counter[tuple[str, str]]:
    """Return what did not leave or was not let in, and how often."""
    return Counter((line.call, line.refused) for line in lines if line.refused)


def _facts(one: Round) -> dict[str, Any]:
    return {
        "round": one.number,
        "from": _time(one.lines[0].when) if one.lines else None,
        "to": _time(one.lines[-1].when) if one.lines else None,
        "calls": len(one.lines),
        "bytes": one.size,
        "tensor_bytes": one.tensor,
        "beyond_tensor": one.beyond,
        "header_bytes": one.headers,
        "payload": one.payload,
        "delivered": one.delivered,
    }


def _described(one: Round) -> dict[str, Any]:
    fields = [{"call": call, **vars(field), "meaning": field.meaning} for call, field in one.fields]
    return _facts(one) | {"fields": fields, "headers": [dict(line.headers) for line in one.lines]}


def _print(console: Console, lines: Sequence[Sent], rounds: Sequence[Round], picked: Sequence[Round]) -> None:
    for one in picked:
        console.print(fields_table(one))
        console.print(headers_table(one))
        over = "" if one.beyond <= LIMIT else ": TOO MUCH"
        _say(console, f"{one.size:,} bytes: {one.tensor:,} of the tensor, {one.beyond:,} beyond it (at most {LIMIT:,}{over}).")
    if picked:
        return
    console.print(_calls_table(lines))
    console.print(_rounds_table(rounds))
    for (call, reason), times in refusals(lines).items():
        _say(console, f"Refused, {times} times, {call}: {reason}")
    total, headers = sum(line.times * len(line.content) for line in lines), sum(map(headers_size, lines))
    _say(
        console, f"{total:,} bytes left in all, and {headers:,} of headers. The chain is whole. Pick a round: --last or --round N."
    )


def _calls_table(lines: Sequence[Sent]) -> Table:
    table = _table("What left, by call", ("call", "times", "bytes", "headers"))
    for call, counted in per_call(lines).items():
        table.add_row(call, *(f"{counted[key]:,}" for key in ("times", "bytes", "header_bytes")))
    return table


def _rounds_table(rounds: Sequence[Round]) -> Table:
    told = "" if len(rounds) <= SHOWN else f", the last {SHOWN} of {len(rounds)}"
    table = _table(f"What left, by round{told}", ("round", "at (UTC)", "bytes", "tensor", "beyond", "headers", "payload"))
    for one in rounds[-SHOWN:]:
        counts = (f"{number:,}" for number in (one.size, one.tensor, one.beyond, one.headers))
        state = f"{(one.payload or 'none')[:16]} {'delivered' if one.delivered else 'not delivered'}"
        table.add_row(str(one.number or "?"), _time(one.lines[-1].when) if one.lines else "", *counts, state)
    return table


def fields_table(one: Round) -> Table:
    """Return one row for each field of each kind of call: what left in this round beyond headers."""
    table = _table(f"Round {one.number or '?'}: every field that left", ("call", "field", "times", "bytes", "value", "what it is"))
    grouped: dict[tuple[str, str], list[Field]] = {}
    for call, field in one.fields:
        grouped.setdefault((call, _place(field.path)), []).append(field)
    before = ""
    for (call, path), fields in grouped.items():
        sizes, values = sum(field.size for field in fields), list(dict.fromkeys(field.value for field in fields))
        shown = "" if call == before else call
        row = (shown, path, str(len(fields)), f"{sizes:,}", _short(values), fields[0].meaning)
        table.add_row(*map(Text, row))
        before = call
    return table


def _place(path: str) -> str:
    """Return a field's row in the table: one for all of a tree, and one for a call's framing.

    >>> _place("message_object_trees.children.children.object_id"), _place("node.(framing)")
    ('message_object_trees.object_id', '(framing)')
    """
    return FRAMING if path.endswith(FRAMING) else path.replace("children.", "")


def headers_table(one: Round) -> Table:
    """Return the headers that went with every call of the round; values are not kept, only their sizes."""
    table = _table("Headers of these calls", ("header", "bytes", "what it is"))
    total: Counter[str] = Counter()
    for line in one.lines:
        total.update({name: len(name) + size for name, size in line.headers.items()})
    for name, size in total.items():
        table.add_row(name, f"{size:,}", HEADERS.get(name, "NOT KNOWN: ask the developers of Promptward"))
    return table


def _table(title: str, columns: Sequence[str]) -> Table:
    table = Table(title=Text(title))
    for name in columns:
        table.add_column(
            name, justify="right" if name in ("times", "bytes", "tensor", "beyond", "headers") else "left", overflow="fold"
        )
    return table


def _short(values: Sequence[str]) -> str:
    first = values[0] if len(values[0]) <= LONG else f"{values[0][:LONG]}..."
    return first if len(values) == 1 else f"{first} and {len(values) - 1} more"


def _time(when: float) -> str:
    return f"{datetime.fromtimestamp(when, UTC):%Y-%m-%d %H:%M:%S}"


def _say(console: Console, sentence: str) -> None:
    console.print(sentence, highlight=False, markup=False, soft_wrap=True)
