"""Files that are there whole or not at all; those that hold secrets are readable by their owner alone from the first byte."""

import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from shared.errors import InputError


def write_new(path: Path, content: bytes, mode: int = 0o644) -> None:
    """Create a file, whole or not at all; raise `InputError` when one is there already, which is never overwritten."""
    with _said(path):
        try:
            # The mode is given on creation: a file that is made first and closed to others afterwards could be read in between.
            number = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
        except FileExistsError:
            raise InputError(
                f"{path}: this is there already and was not overwritten; move it away, or name another place."
            ) from None
        try:
            with os.fdopen(number, "wb") as file:
                file.write(content)
        except BaseException:
            path.unlink()
            raise


def write_private(path: Path, content: bytes) -> None:
    """Create a file that nobody but its owner can read (0600), whatever the umask; see `write_new`."""
    write_new(path, content, 0o600)


def write_json(path: Path, content: object) -> None:
    """Write or replace a JSON file: a reader sees the old one or the new one, never half of it."""
    new = path.with_suffix(".new")
    new.write_text(json.dumps(content, indent=2) + "\n")
    new.replace(path)


def read_bytes(path: Path) -> bytes:
    """Return the file's bytes; raise `InputError` when it is missing or cannot be read."""
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise InputError(f"{path}: there is no such file; check the path.") from None
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); check the path and who owns it.") from None


def read_private(path: Path) -> bytes:
    """Return a private key file's bytes; raise `InputError` when others than its owner could read it too."""
    content = read_bytes(path)
    if path.stat().st_mode & 0o077:
        raise InputError(f"{path}: others on this machine can read this private key; run: chmod 600 '{path}'.")
    return content


@contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """Give a folder to fill, which only its owner can enter (0700); it gets the name `path` when the block has ended well.

    Raises `InputError` when `path` is there already or cannot be written; then, and when the block fails, nothing is left.
    """
    if path.exists() or path.is_symlink():
        raise InputError(f"{path}: this is there already and nothing in it was changed; name a new folder.")
    with _said(path):
        parent = path.absolute().parent
        parent.mkdir(parents=True, exist_ok=True)
        unfinished = Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=parent))
        try:
            yield unfinished
            unfinished.rename(path)
        except BaseException:
            shutil.rmtree(unfinished)
            raise


@contextmanager
def _said(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise InputError(f"{path}: cannot be written ({error.strerror}); mend that, or name another place.") from None
