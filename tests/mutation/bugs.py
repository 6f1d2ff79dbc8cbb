"""The bugs that are put into a copy of the tree: each is one textual change, and names the test files that must convict it."""

import shutil
import tomllib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
PACKAGES = ("shared", "client", "server", "simulations", "audits", "tests")
FILES = ("pyproject.toml", "promptward.py")


@dataclass(frozen=True)
class Bug:
    """One bug of docs/pitfalls.md.

    Attributes:
        pitfall: its number there.
        what: the bug in a line.
        file: where it is put in; `old`, which occurs there exactly once, becomes `new`.
        tests: test files under tests/ of which one test, at least, must fail.
    """

    pitfall: int
    what: str
    file: str
    old: str
    new: str
    tests: tuple[str, ...]


def bugs() -> list[Bug]:
    """Return every bug, by pitfall."""
    tables = [table for name in ("mechanism", "hospital") for table in tomllib.loads((HERE / f"{name}.toml").read_text())["bug"]]
    return sorted((Bug(**table | {"tests": tuple(table["tests"])}) for table in tables), key=lambda bug: bug.pitfall)


def copy_tree(source: Path, target: Path) -> Path:
    """Copy what the tests need, compiled files included, and return `target`."""
    for package in PACKAGES:
        shutil.copytree(source / package, target / package)
    for name in FILES:
        shutil.copy2(source / name, target / name)
    return target


def inject(bug: Bug, tree: Path) -> None:
    """Put the bug into a copy; raise `ValueError` when the text it changes is not there exactly once."""
    path = tree / bug.file
    text = path.read_text(encoding="utf-8")
    if text.count(bug.old) != 1:
        raise ValueError(f"{bug.file} holds {text.count(bug.old)} times, not once: {bug.old!r}; mend the bug '{bug.what}'")
    path.write_text(text.replace(bug.old, bug.new), encoding="utf-8")


def named_files(of: Iterable[Bug]) -> list[str]:
    """Return the test files that the bugs name, each once."""
    return sorted({name for bug in of for name in bug.tests})
