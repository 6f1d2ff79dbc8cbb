"""A prompt that starts from a trained one: `init = "prompt:NAME_OR_FOLDER@SHA256"` in a card.

The digest pins the start, so every party begins with the same tensor or stops. What the start tells of the patients that
trained it was paid for in their hospitals' ledgers; starting from it is post-processing and costs nothing more.
Letters in shape comments: P prompt rows, L labels, D hidden size.
"""

from dataclasses import dataclass

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor
from torch.nn import functional

from shared.card import TaskCard
from shared.errors import InputError
from shared.library import LABEL_ROWS, Entry, find
from shared.peft_format import CENTRE

PREFIX = "prompt:"


@dataclass(frozen=True)
class Start:
    """Rows (P, D), label rows (L, D) where the trained prompt has as many labels as the card, else None; and its centre (D,)."""

    rows: Tensor
    label_rows: Tensor | None
    centre: Tensor | None


def trained_start(card: TaskCard) -> Start:
    """Return what a card with `init = "prompt:..."` starts from; raise `InputError` where it does not fit the card.

    Label rows follow their names where both cards have the same names, else their order: the trained prompt's first label
    starts the card's first label. They are normalised, as fresh ones are.
    """
    where, _, pinned = card.prompt.init.removeprefix(PREFIX).rpartition("@")
    entry = find(where)
    if entry.digest != pinned:
        raise InputError(f"[prompt] init: prompt '{where}' has SHA-256 {entry.digest}, the card pins {pinned}; get the pinned one.")
    _fits(card, entry)
    prompt = torch.from_numpy(np.array(entry.prompt))  # (P+L, D)
    rows, label_rows = prompt[: entry.rows], prompt[entry.rows :]
    if not card.prompt.label_rows or len(label_rows) != len(card.labels):
        return Start(rows, None, None)
    wanted = [label.name for label in card.labels]
    order = [entry.labels.index(name) for name in wanted] if sorted(wanted) == sorted(entry.labels) else list(range(len(wanted)))
    kept = entry.folder / LABEL_ROWS
    centre = load_file(kept).get(CENTRE) if kept.is_file() else None
    return Start(rows, functional.normalize(label_rows[order], dim=-1), centre)


def _fits(card: TaskCard, entry: Entry) -> None:
    """Raise `InputError` unless the model, the layer and the number of rows are the card's."""
    if entry.fingerprint != card.backbone.fingerprint:
        raise InputError(
            f"[prompt] init: prompt '{entry.name}' was trained on the model {entry.fingerprint}, the card names "
            f"{card.backbone.fingerprint}; a prompt means nothing to another model."
        )
    said, facts = card.prompt, entry.facts
    if facts.get("tune"):
        raise InputError(
            f"[prompt] init: '{entry.name}' holds changes of the model, which are no prompt; name the prompt that it went on from."
        )
    asked = {"layer": said.layer, "deep": said.deep, "position": said.position}
    found = {"layer": facts["layer"], "deep": facts.get("deep", False), "position": facts.get("position", "before")}
    if not said.deep:  # rows of every layer are counted together
        asked, found = asked | {"rows": said.rows}, found | {"rows": entry.rows}
    for what, wanted in asked.items():
        if found[what] != wanted:
            raise InputError(f"[prompt] init: prompt '{entry.name}' has {what} {found[what]}, the card {wanted}; make them equal.")
