"""The hospital's books: the ledger, what passed the gate, what left the edge, and what may have to be sent again."""

import fcntl
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from client.chain import is_torn, read_chain
from client.checkup import Examined
from client.edge import Settings
from client.outbox import Outbox
from client.site import load_site
from client.transcript import read_transcript
from shared.errors import PromptwardError
from shared.findings import Check, Finding
from shared.wire import sha256

PATIENCE = 1.0  # seconds; a hospital that takes part holds its ledger for the time of one line
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
    path = it.files.ledger
    processes = running_on(path)
    if _held(path):
        yield Finding("one process", "wrong", f"{path}: another process holds this file", "find it with: lsof, and end it")
    elif processes:
        said = f"{path}: process {processes[0]} takes part with this ledger now"
        yield Finding("one process", "warning", said, "do not start promptward join a second time")
    else:
        yield Finding("one process", "ok", "no other process of this user works with the ledger")


def _egress(it: Examined) -> Iterator[Finding]:
    path = it.files.ledger.with_suffix(".egress.jsonl")
    left = [str(entry.body.get("sha256")) for entry in read_chain(path, torn=True)]
    yield from _paid("egress log", path, left, it)


def _transcript(it: Examined) -> Iterator[Finding]:
    path = it.files.transcript
    lines = read_transcript(path, torn=True)
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
    if not it.events:
        yield Finding("outbox", "ok", f"{outbox.folder}: nothing was released yet")
        return
    last = it.events[-1]
    kept = outbox.find(last.run, last.round)
    if kept is not None and sha256(kept) == last.payload:
        yield Finding("outbox", "ok", f"{outbox.folder}: the payload of round {last.round} is kept for a resend")
    else:
        said = f"{outbox.folder}: the payload that the ledger paid for in round {last.round} is not here"
        yield Finding(
            "outbox", "warning", said, "put the folder back beside the ledger; if it is asked for again, the site refuses"
        )


def _torn(check: str, path: Path) -> Iterator[Finding]:
    if is_torn(path):
        said = f"{path}: the last line is not whole: it was being written when the process died, and nothing that it stood for left"
        yield Finding(check, "warning", said, "nothing to do: promptward join cuts it off")


def _open_to_others(check: str, path: Path) -> Iterator[Finding]:
    if path.exists() and path.stat().st_mode & 0o077:
        yield Finding(check, "warning", f"{path}: others on this machine can open this file", f"run: chmod 600 '{path}'")


def running_on(ledger: Path) -> list[int]:
    """Return the ids of this user's processes that take part with this ledger; none where the system does not show processes."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            words = (folder / "cmdline").read_bytes().decode(errors="replace").split("\0")
            theirs = _ledger_of(words)
        except (OSError, ValueError, KeyError, TypeError, PromptwardError):  # it has ended, or is another user's
            continue
        if theirs == ledger:
            found.append(int(folder.name))
    return sorted(found)


def _ledger_of(words: Sequence[str]) -> Path | None:
    """Return the ledger that a process of ours was started for, by its command line."""
    if "client.edge" in words:
        return Path(Settings.load(Path(words[words.index("client.edge") + 1])).ledger)
    if "client.agent" in words:
        return load_site(Path(words[words.index("client.agent") + 1])).ledger.path
    return None


def _held(path: Path) -> bool:
    """Say whether another process keeps the file locked."""
    if not path.exists():
        return False
    give_up = time.monotonic() + PATIENCE
    while True:
        with path.open("rb") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() > give_up:
                    return True
            else:
                return False
        time.sleep(PATIENCE / 10)
