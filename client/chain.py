"""A hash-chained file: one JSON object a line, each carrying the SHA-256 of all that stands before it.

The ledger and the egress log are kept this way: a line that was changed, dropped or added later breaks the chain.
"""

import fcntl
import hashlib
import json
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from shared.errors import InputError, RunError

GENESIS = "0" * 64


@dataclass(frozen=True)
class Entry:
    """One line: its number from 1, its time in seconds since 1970, its body, and the chain's head after it."""

    number: int
    time: float
    body: dict[str, Any]
    chain: str


def link(head: str, number: int, when: float, body: dict[str, Any]) -> str:
    """Return the chain's head after a line that follows `head`."""
    text = json.dumps([number, when, body], sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(f"{head}{text}".encode()).hexdigest()


def read_chain(path: Path, torn: bool = False) -> list[Entry]:
    """Read and verify a chain; a file that is not there is an empty chain.

    With `torn`, a last line without its line end is left out, as `Chain` would cut it off; the file is not touched.

    Raises `InputError` naming file and line where a line cannot be read or the chain breaks.
    """
    entries: list[Entry] = []
    head = GENESIS
    text = path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""
    if torn:
        text = text[: text.rfind("\n") + 1]
    for number, raw in enumerate(text.splitlines(), start=1):
        try:
            entry = Entry(**json.loads(raw))
            expected = link(head, number, entry.time, entry.body)
        except (ValueError, TypeError):
            raise InputError(f"{path}: line {number} cannot be read; restore the file from the hospital's backup.") from None
        if entry.number != number or entry.chain != expected:
            raise InputError(f"{path}: the chain breaks at line {number}; the file was changed after it was written.")
        entries.append(entry)
        head = entry.chain
    return entries


def is_torn(path: Path) -> bool:
    """Say whether the last line has no line end: it was being written when the process died, or is being written now."""
    return path.exists() and not path.read_bytes().endswith(b"\n") and path.stat().st_size > 0


def _cut_torn_line(path: Path) -> None:
    content = path.read_bytes() if path.exists() else b""
    whole = content.rfind(b"\n") + 1
    if whole < len(content):
        os.truncate(path, whole)


class Chain:
    """An open chain; one process writes to it.

    Args:
        path: the file; it is created, readable by its owner only, at the first line.
        durable: wait for the disk at every line. False only where no patient is at stake, in simulations.
        clock: seconds since 1970.
    """

    def __init__(self, path: Path, durable: bool = True, clock: Callable[[], float] = time.time) -> None:
        """Read and verify what is there.

        A last line without its line end was being written when the process died: nothing that it stood for has left, and it
        is cut off.
        """
        self.path, self._durable, self._clock = path, durable, clock
        _cut_torn_line(path)
        self.entries = read_chain(path)
        self._size = path.stat().st_size if path.exists() else 0

    @property
    def head(self) -> str:
        """The chain's head, `GENESIS` when nothing was written."""
        return self.entries[-1].chain if self.entries else GENESIS

    def append(self, body: dict[str, Any]) -> Entry:
        """Write one line; when this returns, it is on the disk (if `durable`).

        Raises `RunError` when another process wrote to the file, or the disk does not take the line.
        """
        number = len(self.entries) + 1
        when = max(self._clock(), self.entries[-1].time if self.entries else 0.0)  # a clock set back does not turn time back
        entry = Entry(number, when, body, link(self.head, number, when, body))
        line = (json.dumps(vars(entry), sort_keys=True) + "\n").encode()
        try:
            with self._alone() as file:
                if os.write(file, line) != len(line):
                    raise OSError("the disk took only a part of the line")
                if self._durable:
                    os.fsync(file)
        except OSError as error:
            raise RunError(f"{self.path}: a line could not be written ({error}); free disk space and start again.") from None
        self._size += len(line)
        self.entries.append(entry)
        return entry

    @contextmanager
    def _alone(self) -> Iterator[int]:
        """Hold the file alone, and refuse when it changed behind our back."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        file = os.open(self.path, os.O_CREAT | os.O_APPEND | os.O_WRONLY, 0o600)
        try:
            fcntl.flock(file, fcntl.LOCK_EX)
            if os.fstat(file).st_size != self._size:
                raise RunError(f"{self.path}: another process writes to this file; stop it, then start again.")
            yield file
        finally:
            os.close(file)
