"""`promptward prompts ACTION`: the prompt library."""

import argparse
import json
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from client.guard_release import ask_guard
from client.own_prompt import write_own_prompt
from client.predict_outcome import Wish, outcome_of
from client.prediction import Question
from client.site import load_site
from shared.card import Task
from shared.compare import agreement, geometry, nearness
from shared.errors import InputError
from shared.handover import write_card
from shared.hub_folder import README, figures_of, write_hub_folder
from shared.library import Entry, add, default_library, export, find, names, open_entry, remove
from shared.model_card import model_card
from shared.peft_format import FACTS
from shared.peft_rows import adopt
from shared.reading import open_reader, require_one_model

Found = Mapping[str, Any]


def run(args: argparse.Namespace) -> int:
    """Run the action."""
    actions: dict[str, Callable[[argparse.Namespace, Path], Found]] = {
        "list": _list,
        "show": _show,
        "compare": _compare,
        "export": _export,
        "push": _push,
        "import": _import,
        "rm": _remove,
        "nearest": _nearest,
        "guard": _guard,
        "handover": _handover,
        "personal": _personal,
    }
    found = actions[args.action](args, args.library or default_library())
    if args.json:
        print(json.dumps({"schema": 1} | dict(found), indent=2))  # noqa: T201
    else:
        _print(found)
    return 0


def _list(args: argparse.Namespace, library: Path) -> Found:
    entries = [open_entry(library / name) for name in names(library)]
    return {"library": str(library), "prompts": [_line(entry) for entry in entries]}


def _line(entry: Entry) -> dict[str, Any]:
    card = model_card(entry)
    return {key: card[key] for key in ("name", "task", "labels", "layer", "rows", "epsilon", "backbone_fingerprint")}


def _show(args: argparse.Namespace, library: Path) -> Found:
    return model_card(find(args.prompt, library))


def _compare(args: argparse.Namespace, library: Path) -> Found:
    first, second = find(args.first, library), find(args.second, library)
    found = geometry(first, second)
    if args.input:
        found["agreement"] = _agreement(first, second, args.input)
    return {"first": first.name, "second": second.name} | found


def _agreement(first: Entry, second: Entry, path: Path) -> float | None:
    readers = [open_reader(first), open_reader(second)]
    require_one_model(readers)
    if readers[0].labels != readers[1].labels:
        raise InputError(f"'{first.name}' and '{second.name}' have different labels, so they cannot agree; leave --input out.")
    questions = [Question(replace(reader, name=str(n)), {}) for n, reader in enumerate(readers)]
    lines = outcome_of(questions, path, Wish()).lines
    return agreement(*([line[f"{n}.label"] for line in lines] for n in range(2)))


def _export(args: argparse.Namespace, library: Path) -> Found:
    entry = _to_hand_on(args, library)
    export(entry, args.folder)
    return {"exported": entry.name, "folder": str(args.folder), "sha256": entry.digest}


def _to_hand_on(args: argparse.Namespace, library: Path) -> Entry:
    entry = find(args.prompt, library)
    own = entry.facts.get("personal")
    if own and not args.personal:
        raise InputError(
            f"'{entry.name}' is {own['site']}'s own prompt; handing it on costs no epsilon, but is that site's decision: "
            "add --personal where it has decided so."
        )
    return entry


def _push(args: argparse.Namespace, library: Path) -> Found:
    entry = _to_hand_on(args, library)
    figures = figures_of(args.figures, entry) if args.figures else None
    written = write_hub_folder(entry, args.folder, args.base_model, figures)
    then = f"read {args.folder / README}, then upload by hand: hf upload ORG/{entry.name} {args.folder}"
    return {"prompt": entry.name, "folder": str(args.folder), "sha256": entry.digest, "written": written, "next": then}


def _import(args: argparse.Namespace, library: Path) -> Found:
    notes = {key: value for key, value in (("licence", args.licence), ("intended_use", args.intended_use)) if value}
    if (args.folder / FACTS).is_file():
        if args.backbone:
            raise InputError(f"{args.folder}: this prompt names its own model; leave --backbone out.")
        entry = open_entry(args.folder)
        return _added(entry, args.name, notes, library)
    if not args.backbone:
        raise InputError(f"{args.folder}: there is no {FACTS}; for rows trained with PEFT name their model by --backbone.")
    with tempfile.TemporaryDirectory() as folder:
        adopt(args.folder, args.backbone, Path(folder))
        return _added(open_entry(Path(folder)), args.name or args.folder.resolve().name.lower(), notes, library)


def _added(entry: Entry, name: str | None, notes: Found, library: Path) -> Found:
    lineage = [*_lineage(entry, library), entry.facts["init"]] if str(entry.facts.get("init", "")).startswith("prompt:") else []
    more = {"lineage": lineage} if lineage else {}
    new = add(entry, name or str(entry.facts["task"]), {**more, **notes}, library)
    return {"imported": new.name, "folder": str(new.folder), "init": new.init, "card_kept": new.task is not None}


def _lineage(entry: Entry, library: Path) -> list[str]:
    """Return what the prompt that this one started from had started from, where it is here."""
    where = str(entry.facts["init"]).removeprefix("prompt:").rpartition("@")[0]
    try:
        return list(find(where, library).notes.get("lineage", []))
    except InputError:
        return []  # it need not be on this machine


def _remove(args: argparse.Namespace, library: Path) -> Found:
    remove(args.prompt, library)
    return {"removed": args.prompt}


def _nearest(args: argparse.Namespace, library: Path) -> Found:
    card = Task.load(args.task).card
    found = []
    for name in names(library):
        entry = open_entry(library / name)
        usable = entry.task is not None and entry.fingerprint == card.backbone.fingerprint
        near = nearness(card, entry, open_reader(entry) if usable else None)
        found.append({**asdict(near), "score": near.score, "init": entry.init})
    return {"task": card.name, "prompts": sorted(found, key=lambda line: -float(line["score"]))}


def _guard(args: argparse.Namespace, library: Path) -> Found:
    return ask_guard(load_site(args.site), Task.load(args.task), args.fresh)


def _handover(args: argparse.Namespace, library: Path) -> Found:
    return write_card(find(args.prompt, library), args.prompt, args.kind, args.rank, args.card)


def _personal(args: argparse.Namespace, library: Path) -> Found:
    return write_own_prompt(load_site(args.site), Task.load(args.task), args.folder, args.run)


def _print(found: Found) -> None:
    """Print plain facts as lines and lists of facts as tables."""
    console = Console()
    for key, value in found.items():
        if isinstance(value, list) and value and isinstance(value[0], Mapping):
            console.print(_table(key, value))
        else:
            console.print(f"{key.replace('_', ' '):22}{_text(value)}", highlight=False, soft_wrap=True, markup=False)


def _table(title: str, lines: list[Found]) -> Table:
    table = Table(*(str(key).replace("_", " ") for key in lines[0]), title=title.replace("_", " "))
    for line in lines:
        table.add_row(*(_text(value) for value in line.values()))
    return table


def _text(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.3f}"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        return ", ".join(map(_text, value)) or "none"
    text = "unknown" if value is None else str(value)
    return text[:12] + "…" if len(text) == 64 else text
