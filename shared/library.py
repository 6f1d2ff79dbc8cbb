"""The prompt library: a folder of trained prompts, one sub-folder each, in PEFT's format with our card beside it.

An entry holds the files that a run leaves in `prompt/`, byte for byte, the run's `task.toml`, and `library.json`: what people
add, such as licence, intended use and lineage. Nothing in it is executed; weights are safetensors.
"""

import json
import os
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from shared.arrays import sha256
from shared.card import Name, Task
from shared.errors import InputError
from shared.files import new_folder
from shared.peft_adapter import CONFIG, WEIGHTS
from shared.peft_format import FACTS, load_prompt
from shared.prompt import Array

PLACE = "PROMPTWARD_LIBRARY"  # environment variable: the library's folder
CARD, NOTES, LABEL_ROWS = "task.toml", "library.json", "label_rows.safetensors"
FILES = (CONFIG, WEIGHTS, LABEL_ROWS, FACTS)


@dataclass(frozen=True)
class Entry:
    """One prompt of a library, or any prompt folder.

    Attributes:
        name: what people call it: the folder's name in a library.
        folder: where it is.
        prompt: the tensor (P+L, D).
        facts: `promptward.json`.
        notes: `library.json`; empty for a folder that is in no library.
        task: the card it was trained for; None where nobody kept it.
    """

    name: str
    folder: Path
    prompt: Array
    facts: Mapping[str, Any]
    notes: Mapping[str, Any]
    task: Task | None

    @property
    def digest(self) -> str:
        """The SHA-256 of the tensor: what a card pins and a ledger names."""
        return sha256(self.prompt)

    @property
    def fingerprint(self) -> str:
        """The fingerprint of the frozen model that it was trained on."""
        return str(self.facts["backbone_fingerprint"])

    @property
    def labels(self) -> list[str]:
        """Its labels; none for rows that came without."""
        return [str(label) for label in self.facts["labels"]]

    @property
    def rows(self) -> int:
        """The number P of prompt rows."""
        return len(self.prompt) - int(self.facts.get("label_rows", len(self.labels)))

    @property
    def init(self) -> str:
        """What a card writes to start from it."""
        return f"prompt:{self.name}@{self.digest}"


def default_library() -> Path:
    """Return the library's folder: $PROMPTWARD_LIBRARY, or ~/.local/share/promptward/prompts."""
    return Path(os.environ.get(PLACE) or Path.home() / ".local/share/promptward/prompts")


def open_entry(folder: Path) -> Entry:
    """Read a prompt folder; its card is the one in it, or the one beside it as in a run directory.

    Raises `InputError` when the folder is not whole, or the card is not the prompt's.
    """
    prompt, facts = load_prompt(folder)
    notes = _json(folder / NOTES) if (folder / NOTES).is_file() else {}
    for beside in (folder / CARD, folder.resolve().parent / CARD):
        if beside.is_file() and facts.get("task_digest"):
            task = Task.load(str(beside))
            if task.digest == facts["task_digest"]:
                return Entry(folder.name, folder, prompt, facts, notes, task)
    return Entry(folder.name, folder, prompt, facts, notes, None)


def find(name_or_folder: str, library: Path | None = None) -> Entry:
    """Return the entry of that name, or the prompt in that folder; raise `InputError` naming what there is."""
    library = library or default_library()
    for folder in (library / name_or_folder, Path(name_or_folder).expanduser()):
        if (folder / FACTS).is_file():
            return open_entry(folder)
    there = ", ".join(names(library)) or "nothing"
    raise InputError(f"prompt '{name_or_folder}': no such folder, and the library {library} holds {there}; name one of them.")


def names(library: Path) -> list[str]:
    """Return the names in a library, sorted; a library that is not there is empty."""
    return sorted(path.parent.name for path in library.glob(f"*/{FACTS}")) if library.is_dir() else []


def add(entry: Entry, name: str, notes: Mapping[str, Any], library: Path) -> Entry:
    """Put a copy of a prompt into the library under a name; its files stay byte for byte.

    Raises `InputError` for a name that cannot be one or is taken: nothing is overwritten.
    """
    if not re.fullmatch(_pattern(), name):
        raise InputError(f"'{name}' cannot be a prompt's name; use lower-case letters, digits and hyphens.")
    if (library / name).exists():
        raise InputError(f"the library {library} has a prompt '{name}' already; give another --name, or remove that one first.")
    with new_folder(library / name) as folder:
        for file in FILES:
            if (entry.folder / file).is_file():
                shutil.copyfile(entry.folder / file, folder / file)
        if entry.task is not None:
            (folder / CARD).write_bytes(entry.task.text.encode())
        if kept := {**entry.notes, **notes}:
            (folder / NOTES).write_text(json.dumps(kept, indent=2, sort_keys=True) + "\n")
    return open_entry(library / name)


def export(entry: Entry, target: Path) -> None:
    """Copy an entry's files, byte for byte, into a new folder; raise `InputError` when it is there already."""
    with new_folder(target) as folder:
        copy_files(entry, folder)


def copy_files(entry: Entry, folder: Path) -> None:
    """Copy an entry's files into a folder, byte for byte; the card may lie beside the entry, as in a run directory."""
    for file in (*FILES, NOTES):
        if (entry.folder / file).is_file():
            shutil.copyfile(entry.folder / file, folder / file)
    if entry.task is not None:
        (folder / CARD).write_bytes(entry.task.text.encode())


def remove(name: str, library: Path) -> None:
    """Take a prompt out of the library; raise `InputError` when it is not in it."""
    if name not in names(library):
        raise InputError(f"the library {library} has no prompt '{name}'; it holds {', '.join(names(library)) or 'nothing'}.")
    shutil.rmtree(library / name)


def _pattern() -> str:
    return str(Name.__metadata__[0].pattern)  # type: ignore[attr-defined]


def _json(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: cannot be read as JSON ({error}); mend or remove it.") from None
    if not isinstance(found, dict):
        raise InputError(f"{path}: this is not a JSON object; mend or remove it.")
    return found
