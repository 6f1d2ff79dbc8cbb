"""Imports of large libraries, which make objects that stay."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def unswept() -> Iterator[None]:
    """Let Python not look for garbage meanwhile: among a million new objects that stay, that is a fifth of the time of imports."""
    before = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if before:
            gc.enable()
