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

from client.disk import Lock, sync_folder
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


def read_chain(path: Path) -> list[Entry]:
    """Read and verify a chain; a file that is not there is an empty chain.

    A last line without its line end counts for nothing: it is being written at this moment, or was torn by a crash.
    Raises `InputError` naming file and line where a line cannot be read or the chain breaks.
    """
    entries: list[Entry] = []
    head = GENESIS
    content = path.read_bytes() if path.exists() else b""
    for number, raw in enumerate(content[: _whole(content)].split(b"\n")[:-1], start=1):
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
    """Say whether the last line has no line end."""
    content = path.read_bytes()
    return _whole(content) < len(content)


def _whole(content: bytes) -> int:
    """Return the length of the lines that are whole."""
    return content.rfind(b"\n") + 1


def _cut_torn_line(path: Path) -> None:
    if path.exists() and is_torn(path):
        os.truncate(path, _whole(path.read_bytes()))


class Chain:
    """An open chain; from opening to `close`, or the end of the process, no other process can open it.

    Args:
        path: the file; it is created, readable by its owner only, at the first line.
        durable: hold the lock, and wait for the disk at every line. False only where no patient is at stake, in simulations:
            thousands of sites would be thousands of open lock files.
        clock: seconds since 1970.
    """

    def __init__(self, path: Path, durable: bool = True, clock: Callable[[], float] = time.time) -> None:
        """Read and verify what is there.

        A last line without its line end was being written when the process died: nothing that it stood for has left, and it
        is cut off. Raises `RunError` when another process has the chain open, and leaves it alone.
        """
        self.path, self._durable, self._clock = path, durable, clock
        self._lock = Lock(path) if durable else None
        try:
            _cut_torn_line(path)
            self.entries = read_chain(path)
        except BaseException:
            self.close()
            raise
        self._size = path.stat().st_size if path.exists() else 0

    @property
    def head(self) -> str:
        """The chain's head, `GENESIS` when nothing was written."""
        return self.entries[-1].chain if self.entries else GENESIS

    def close(self) -> None:
        """Let other processes open the chain; nothing can be written here any more."""
        if self._lock:
            self._lock.close()

    def append(self, body: dict[str, Any]) -> Entry:
        """Write one line; when this returns, it is on the disk (if `durable`).

        Raises `RunError` when another process wrote to the file, or the disk does not take the line: then none of it stays, and
        the chain can be written to again as soon as there is room.
        """
        if self._lock and not self._lock.held:
            raise RunError(f"{self.path}: this process has closed the file, or was forked; open it again.")
        number = len(self.entries) + 1
        when = max(self._clock(), self.entries[-1].time if self.entries else 0.0)  # a clock set back does not turn time back
        entry = Entry(number, when, body, link(self.head, number, when, body))
        line = (json.dumps(vars(entry), sort_keys=True) + "\n").encode()
        try:
            with self._alone() as file:
                self._write(file, line)
        except OSError as error:
            raise RunError(f"{self.path}: a line could not be written ({error}); free disk space and start again.") from None
        self._size += len(line)
        self.entries.append(entry)
        return entry

    def _write(self, file: int, line: bytes) -> None:
        """Write the whole line or nothing of it."""
        try:
            if os.write(file, line) != len(line):
                raise OSError("the disk took only a part of the line")
            if self._durable:
                os.fsync(file)
                if self._size == 0:
                    sync_folder(self.path.parent)
        except OSError:
            os.ftruncate(file, self._size)
            raise

    @contextmanager
    def _alone(self) -> Iterator[int]:
        """Hold the file alone, and refuse when it changed behind our back: a second defence where locks do not work."""
        if self._size == 0:
            self.path.parent.mkdir(parents=True, exist_ok=True)
        file = os.open(self.path, os.O_CREAT | os.O_APPEND | os.O_WRONLY, 0o600)
        try:
            fcntl.flock(file, fcntl.LOCK_EX)
            if os.fstat(file).st_size != self._size:
                raise RunError(f"{self.path}: another process writes to this file; stop it, then start again.")
            yield file
        finally:
            os.close(file)
