"""What a hospital asks of its disk: that one process at a time has its files, and that a new file is there after a power cut."""

import contextlib
import fcntl
import os
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

from shared.errors import RunError


class Lock:
    """The right to write to a file, held from opening until `close` or the end of the process, SIGKILL included.

    It is a flock on `NAME.lock` beside the file. The file itself would not do: whoever puts a copy in its place would unlock
    it. The lock file stays when the lock is gone, because removing it would let two processes hold one each.
    A forked child has no part in it: it would write to the same file.
    """

    _file: int | None

    def __init__(self, path: Path) -> None:
        """Take the lock; raise `RunError` at once, naming the other process, when it is taken."""
        real, self._file = path.resolve(), None
        try:
            real.parent.mkdir(parents=True, exist_ok=True)
            self._file = os.open(real.with_name(real.name + ".lock"), os.O_CREAT | os.O_RDWR, 0o600)
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = _holder(self._file)
            self.close()
            raise RunError(f"{path}: another promptward process{holder} has this file open; stop it, then start again.") from None
        except OSError as error:
            self.close()
            raise RunError(f"{path}: cannot be opened for writing ({error}); give this user the right to its folder.") from None
        _write_pid(self._file)
        _held.add(self)

    @property
    def held(self) -> bool:
        """Whether this process may write."""
        return self._file is not None

    def close(self) -> None:
        """Let go; a second time does nothing."""
        if self._file is not None:
            os.close(self._file)
        self._file = None


def _holder(file: int | None) -> str:
    """Return ` (pid 123)` as the holder left it in the lock file, or nothing."""
    said = os.pread(file, 20, 0).decode(errors="replace").strip() if file is not None else ""
    return f" (pid {said})" if said.isdecimal() else ""


def _write_pid(file: int) -> None:
    with contextlib.suppress(OSError):  # a full disk: the lock is held all the same
        os.ftruncate(file, 0)
        os.pwrite(file, f"{os.getpid()}\n".encode(), 0)


_held: "weakref.WeakSet[Lock]" = weakref.WeakSet()


def _disown() -> None:
    """Take the locks from a forked child: closing its copies leaves the parent's lock as it is."""
    for lock in list(_held):
        lock.close()


os.register_at_fork(after_in_child=_disown)


def replace_file(path: Path, write: Callable[[BinaryIO], object], durable: bool) -> None:
    """Write or replace a file that only its owner can read (0600), whole or not at all; its folder is made where there is none.

    `durable` waits until it would be found after a power cut. Raises `OSError` when the disk does not take it: then the old file
    is as it was.
    """
    new = path.with_suffix(".new")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        number = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(number, "wb") as file:
            write(file)
            file.flush()
            if durable:
                os.fsync(number)
        new.replace(path)
        if durable:
            sync_folder(path.parent)
    except OSError:
        new.unlink(missing_ok=True)
        raise


def sync_folder(folder: Path) -> None:
    """Wait until a new or renamed file of this folder would be found after a power cut: the file's own fsync is not enough."""
    file = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(file)
    finally:
        os.close(file)
