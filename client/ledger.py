"""The ledger: a hospital's append-only, hash-chained record of every release. Epsilon is recomputed from it, never stored.

A line is a JSON object whose `chain` is the SHA-256 of the previous line's `chain` and of its own other fields. A line is
written and flushed to disk before the bytes it pays for may leave.
"""

import fcntl
import hashlib
import json
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from shared.errors import InputError
from shared.privacy.accounting import Release, Spent, spent

GENESIS = "0" * 64


@dataclass(frozen=True)
class Event:
    """One charge: what is needed to recompute epsilon, and which bytes it paid for.

    `releases` is the number of noised sums inside the one payload (local steps of the round).
    """

    task: str
    run: str
    round: int
    asked: str  # SHA-256 of the prompt that the coordinator sent
    payload: str  # SHA-256 of the update that may leave
    releases: int
    sample_rate: float
    noise_multiplier: float
    clip_norm: float
    max_records: int
    delta: float
    unit: str = "patient"
    adjacency: str = "add-or-remove-one"


@dataclass(frozen=True)
class Line:
    """An event with its time, its place in the chain and the chain's new head."""

    number: int
    time: float
    event: Event
    chain: str


def link(head: str, number: int, when: float, event: Event) -> str:
    """Return the chain's new head after this line."""
    body = json.dumps([number, when, asdict(event)], sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(f"{head}{body}".encode()).hexdigest()


def read_ledger(path: Path) -> list[Line]:
    """Read and verify a ledger; a file that is not there is an empty ledger.

    Raises `InputError` naming file and line where the chain breaks or a line cannot be read.
    """
    lines: list[Line] = []
    head = GENESIS
    text = path.read_text(encoding="utf-8") if path.exists() else ""
    for number, raw in enumerate(text.splitlines(), start=1):
        try:
            data = json.loads(raw)
            line = Line(data["number"], data["time"], Event(**data["event"]), data["chain"])
        except (ValueError, KeyError, TypeError):
            raise InputError(f"{path}: line {number} is not a ledger line; restore the file from the hospital's backup.") from None
        if line.number != number or line.chain != link(head, number, line.time, line.event):
            raise InputError(f"{path}: the chain breaks at line {number}; the ledger was changed after it was written.")
        lines.append(line)
        head = line.chain
    return lines


def releases(lines: list[Line]) -> list[Release]:
    """Return every release that the lines charge."""
    return [Release(e.sample_rate, e.noise_multiplier) for line in lines for e in [line.event] for _ in range(e.releases)]


class Ledger:
    """An open ledger. One process at a time may hold it.

    Args:
        path: the JSONL file; created on the first charge.
        durable: wait for the disk at every charge. False only in simulations, where no patient is at stake.
        clock: seconds since 1970.
    """

    def __init__(self, path: Path, durable: bool = True, clock: Callable[[], float] = time.time) -> None:
        """Read and verify what is there."""
        self.path, self._durable, self._clock = path, durable, clock
        self.lines = read_ledger(path)

    @property
    def head(self) -> str:
        """The chain's head, `GENESIS` when nothing was charged."""
        return self.lines[-1].chain if self.lines else GENESIS

    def spent(self, delta: float) -> Spent:
        """Return what all charges together spent."""
        return spent(releases(self.lines), delta)

    def find(self, task: str, run: str, round_: int) -> Event | None:
        """Return the charge of this round, if there is one."""
        return next((e for e in (line.event for line in reversed(self.lines)) if (e.task, e.run, e.round) == (task, run, round_)), None)

    def charge(self, event: Event) -> Line:
        """Append an event and wait for the disk; only after this returns may the payload leave."""
        with self._exclusive() as file:
            number, when = len(self.lines) + 1, self._clock()
            line = Line(number, when, event, link(self.head, number, when, event))
            data = {"number": number, "time": when, "event": asdict(event), "chain": line.chain}
            os.write(file, (json.dumps(data, sort_keys=True) + "\n").encode())
            if self._durable:
                os.fsync(file)
        self.lines.append(line)
        return line

    @contextmanager
    def _exclusive(self) -> Iterator[int]:
        """Hold the file alone, and refuse when it grew behind our back."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        file = os.open(self.path, os.O_CREAT | os.O_APPEND | os.O_WRONLY, 0o600)
        try:
            fcntl.flock(file, fcntl.LOCK_EX)
            if self._durable and len(read_ledger(self.path)) != len(self.lines):
                raise InputError(f"{self.path}: another process writes to this ledger; stop it, then start again.")
            yield file
        finally:
            os.close(file)
