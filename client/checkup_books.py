"""The hospital's books: the ledger, what passed the gate, what left the edge, and what may have to be sent again."""

import fcntl
from collections.abc import Iterator, Sequence
from pathlib import Path

from client.chain import is_torn, read_chain
from client.checkup import Examined
from client.ledger import TRAINING
from client.opening import egress_log
from client.outbox import Outbox
from client.transcript import read_transcript
from shared.findings import Check, Finding
from shared.wire import sha256

NEWEST = "put the newest copy of the ledger back from the hospital's backup"


def books_checks(it: Examined) -> list[Check]:
    """Return the checks of what a hospital keeps of earlier rounds."""
    return [
        Check("ledger", lambda: _ledger(it), NEWEST),
        Check("one process", lambda: _alone(it)),
        Check("egress log", lambda: _egress(it), NEWEST, needs=("ledger",)),
        Check("transcript", lambda: _transcript(it), NEWEST, needs=("ledger",)),
        Check("outbox", lambda: _outbox(it), needs=("ledger",)),
    ]


def _ledger(it: Examined) -> Iterator[Finding]:
    path = it.files.ledger
    if not path.exists():
        yield Finding("ledger", "ok", f"{path}: not there yet; the first round makes it")
        return
    yield Finding("ledger", "ok", f"{path}: the chain is whole, {len(it.events)} charges")
    yield from _torn("ledger", path)
    yield from _open_to_others("ledger", path)


def _alone(it: Examined) -> Iterator[Finding]:
    """See whether somebody has the ledger's lock, without taking it from anybody who starts just now."""
    path = it.files.ledger
    held = [file for file in (path, egress_log(path), it.files.transcript) if held_by_another(file)]
    if held:
        said = f"{held[0]}: another promptward process has this file open: this hospital takes part now"
        yield Finding("one process", "warning", said, "stop it before you start promptward join; a second one would refuse")
    else:
        yield Finding("one process", "ok", "no other process has the ledger open")


def _egress(it: Examined) -> Iterator[Finding]:
    path = egress_log(it.files.ledger)
    left = [str(entry.body.get("sha256")) for entry in read_chain(path)]
    yield from _paid("egress log", path, left, it)


def _transcript(it: Examined) -> Iterator[Finding]:
    path = it.files.transcript
    lines = read_transcript(path)
    yield from _paid("transcript", path, [line.payload for line in lines if line.payload], it)


def _paid(check: str, path: Path, payloads: Sequence[str], it: Examined) -> Iterator[Finding]:
    """Compare what left with what the ledger paid for."""
    unpaid = set(payloads) - {event.payload for event in it.events}
    if unpaid:
        said = f"{path}: it shows a payload ({min(unpaid)[:16]}) that is not on {it.files.ledger}"
        yield Finding(check, "wrong", said, NEWEST)
        return
    told = f"the chain is whole, and the ledger paid for all {len(set(payloads))} payloads in it"
    yield Finding(check, "ok", f"{path}: {told if path.exists() else 'not there yet; the first round makes it'}")
    yield from _torn(check, path)
    yield from _open_to_others(check, path)


def _outbox(it: Examined) -> Iterator[Finding]:
    """See that the last payload could be sent again: without it, a coordinator that lost it could not have it a second time."""
    outbox = Outbox(it.files.ledger.with_suffix(".outbox"))
    last = next((event for event in reversed(it.events) if event.kind == TRAINING), None)
    if last is None:
        yield Finding("outbox", "ok", f"{outbox.folder}: nothing was released yet")
        return
    kept = outbox.find(last.run, last.round)
    if kept is not None and sha256(kept) == last.payload:
        yield Finding("outbox", "ok", f"{outbox.folder}: the payload of round {last.round} is kept for a resend")
    else:
        said = f"{outbox.folder}: the payload that the ledger paid for in round {last.round} is not here"
        yield Finding(
            "outbox", "warning", said, "put the folder back beside the ledger; if it is asked for again, the site refuses"
        )


def _torn(check: str, path: Path) -> Iterator[Finding]:
    if path.exists() and is_torn(path):
        said = f"{path}: the last line is not whole: it was being written when the process died, and nothing that it stood for left"
        yield Finding(check, "warning", said, "nothing to do: promptward join cuts it off")


def _open_to_others(check: str, path: Path) -> Iterator[Finding]:
    if path.exists() and path.stat().st_mode & 0o077:
        yield Finding(check, "warning", f"{path}: others on this machine can open this file", f"run: chmod 600 '{path}'")


def held_by_another(path: Path) -> bool:
    """Say whether a process holds the lock of this file; see `client.disk.Lock`."""
    lock = path.resolve().with_name(path.name + ".lock")
    if not lock.exists():
        return False
    with lock.open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False
