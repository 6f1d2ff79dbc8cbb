"""From a trained prompt to the card that goes on with conventional fine-tuning, by the same hospitals and the same gate.

The prompt's rows stay as they were trained; what moves starts with no change, so round 1 begins at the prompted model. The new
card has a digest of its own, and its releases add to what the prompt's have spent of the same patients.
"""

import tomllib
from pathlib import Path
from typing import Any

import tomli_w

from shared.backbones.tuning import Kind
from shared.card import Task
from shared.errors import InputError
from shared.files import write_new
from shared.library import Entry
from shared.scoring import build


def write_card(entry: Entry, where: str, kind: Kind, rank: int, path: Path) -> dict[str, Any]:
    """Write the card to a new file, and return what a person should know of it.

    Args:
        entry: the trained prompt, with the card that it was trained for.
        where: how the card names it: a library's name, or a folder.
        kind: what moves: `lora`, or all weights of the prompt's `layers`.
        rank: of LoRA.
        path: of the new card.

    Raises:
        InputError: nobody kept the prompt's card, the prompt is already a handed-over one, or the file is there.
    """
    if entry.task is None:
        raise InputError(f"{entry.folder}: there is no task.toml beside this prompt, so nothing says what it was trained for.")
    if entry.task.card.tune is not None:
        raise InputError(f"{entry.folder}: this was handed over before; name the prompt that it started from.")
    start = str(Path(where).resolve()) if Path(where).exists() else where
    text = f"# Goes on from the prompt '{entry.name}' with {kind}; docs/handover.md.\n" + tomli_w.dumps(
        _handed(entry, start, kind, rank)
    )
    task = Task.parse(text, str(path))
    scorer, _ = build(task.card)
    write_new(path, task.text.encode())
    now = scorer.shape.nbytes
    return {
        "card": str(path),
        "task_digest": task.digest,
        "starts_from": task.card.prompt.init,
        "moves": f"{kind} in {len(scorer.backbone.layers[scorer.layer :])} of {scorer.backbone.depth} layers",
        "bytes_a_round": now,
        "times_the_prompt": round(now / entry.prompt.nbytes, 1),
    }


def _handed(entry: Entry, start: str, kind: Kind, rank: int) -> dict[str, Any]:
    assert entry.task  # noqa: S101 (for the type checker)
    raw = tomllib.loads(entry.task.text)
    raw["name"] = f"{raw['name'][:50]}-{kind}"
    raw["prompt"] = raw.get("prompt", {}) | {"init": f"prompt:{start}@{entry.digest}"}
    raw["tune"] = {"kind": kind} | ({"rank": rank, "alpha": 2.0 * rank} if kind == "lora" else {})
    return raw
