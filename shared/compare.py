"""Two prompts side by side, and which trained prompts are near a new task: from public facts, without any patient.

Letters in shape comments: P prompt rows, L labels, D hidden size.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from shared.card import TaskCard
from shared.library import Entry
from shared.prompt import Array
from shared.reading import Reader, Reading, logits_of


@dataclass(frozen=True)
class Near:
    """How near a library prompt is to a task; every part lies between 0 and 1.

    Attributes:
        name: the prompt's.
        usable: empty, or why the task's card could not start from it.
        reads: probability that the prompt gives the new card's label texts their own labels, averaged; one over the number of
            labels is chance. 0 where the numbers of labels differ.
        texts: how alike the label texts are: shared words over all words, averaged over labels.
        fields: template fields that both have, over all fields.
    """

    name: str
    usable: str
    reads: float
    texts: float
    fields: float

    @property
    def score(self) -> float:
        """The mean of the three; 0 for one that cannot be used."""
        return 0.0 if self.usable else (self.reads + self.texts + self.fields) / 3


def geometry(first: Entry, second: Entry) -> dict[str, Any]:
    """Return what the two tensors have in common; distances only where both were trained on the same model."""
    same = first.fingerprint == second.fingerprint
    found: dict[str, Any] = {"same_backbone": same, "same_layer": first.facts["layer"] == second.facts["layer"]}
    found |= {"same_task": first.facts.get("task_digest") == second.facts.get("task_digest")}
    found |= {"labels": [first.labels, second.labels]}
    if same:
        found["rows"] = _pairs(first.prompt[: first.rows], second.prompt[: second.rows])
        found["label_rows"] = _pairs(first.prompt[first.rows :], second.prompt[second.rows :])
    return found


def agreement(first: Sequence[str], second: Sequence[str]) -> float | None:
    """Return the share of rows of which two prompts predict the same label; None without rows."""
    return float(np.mean([a == b for a, b in zip(first, second, strict=True)])) if first else None


def nearness(card: TaskCard, entry: Entry, reader: Reader | None) -> Near:
    """Return how near a prompt is to a card; `reader` is None where the prompt cannot read."""
    why = unusable(card, entry)
    known = entry.task.card if entry.task else None
    texts = _texts(card, known) if known and len(known.labels) == len(card.labels) else 0.0
    fields = _shared(set(card.record_text.names), set(known.record_text.names)) if known else 0.0
    reads = _reads(card, reader) if reader and not why and len(reader.labels) == len(card.labels) else 0.0
    return Near(entry.name, why, reads, texts, fields)


def unusable(card: TaskCard, entry: Entry) -> str:
    """Return why a card cannot start from a prompt, or nothing."""
    if entry.fingerprint != card.backbone.fingerprint:
        return "another model"
    if entry.facts["layer"] != card.prompt.layer:
        return f"layer {entry.facts['layer']}, the card has {card.prompt.layer}"
    return "" if entry.rows == card.prompt.rows else f"{entry.rows} rows, the card has {card.prompt.rows}"


def _reads(card: TaskCard, reader: Reader) -> float:
    logits = logits_of([reader], [Reading(label.text, 0) for label in card.labels])
    shares: Tensor = torch.stack(logits).softmax(-1)  # (L, L)
    return float(shares.diagonal().mean())


def _texts(card: TaskCard, known: TaskCard) -> float:
    pairs = zip(card.labels, known.labels, strict=True)
    return float(np.mean([_shared(set(a.text.lower().split()), set(b.text.lower().split())) for a, b in pairs]))


def _shared(first: set[str], second: set[str]) -> float:
    return len(first & second) / len(first | second) if first | second else 0.0


def _pairs(first: Array, second: Array) -> list[dict[str, float]]:
    """Return cosine and distance of rows (P, D) with the same number; rows that only one has are left out."""
    return [
        {"cosine": float(a @ b / max(np.linalg.norm(a) * np.linalg.norm(b), 1e-12)), "distance": float(np.linalg.norm(a - b))}
        for a, b in zip(first, second, strict=False)
    ]
