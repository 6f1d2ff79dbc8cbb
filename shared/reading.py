"""Several prompts read records side by side: below their layer the frozen model runs once, above it each record has its own prompt.

Letters in shape comments: B readings, P prompt rows, L labels (the most of any prompt), D hidden size, C H W of an image.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor
from torch.nn import functional

from shared.backbone import Hidden, Records, load_backbone
from shared.card import Task
from shared.errors import InputError
from shared.library import LABEL_ROWS, Entry
from shared.peft_format import CENTRE, FROZEN
from shared.pixels import Pixels
from shared.prompt import PromptShape
from shared.scoring import COSINE_SCALE, Scorer, build, with_tuning


@dataclass(frozen=True)
class Reader:
    """A prompt that is ready to read: its card, the resident model, the tensor (P+L, D) and its SHA-256."""

    name: str
    task: Task
    scorer: Scorer
    prompt: Tensor
    digest: str

    @property
    def labels(self) -> list[str]:
        """The names of its labels, in the order of its scores."""
        return [label.name for label in self.task.card.labels]


Record = str | Pixels  # a sentence, or a prepared picture (C, H, W)


@dataclass(frozen=True)
class Reading:
    """One record that one of the readers shall read."""

    record: Record
    reader: int


def open_reader(entry: Entry) -> Reader:
    """Load what a prompt needs to read; the same model is loaded once for all.

    Raises `InputError` when nobody kept the prompt's card, or the model on this machine is not the one it was trained on.
    """
    if entry.task is None:
        raise InputError(f"{entry.folder}: there is no task.toml in or beside this folder that it was trained for; put it there.")
    scorer = _scorer(entry, entry.task)
    if entry.prompt.shape != scorer.shape.shape:
        raise InputError(
            f"{entry.folder}: the prompt is {entry.prompt.shape}, its card says {scorer.shape.shape}; get a whole copy."
        )
    return Reader(entry.name, entry.task, scorer, torch.from_numpy(np.array(entry.prompt)), entry.digest)


def require_one_model(readers: Sequence[Reader]) -> None:
    """Raise `InputError` unless all prompts were trained on the same frozen model."""
    first = readers[0]
    for other in readers[1:]:
        if other.task.card.backbone.fingerprint != first.task.card.backbone.fingerprint:
            raise InputError(
                f"prompts '{first.name}' and '{other.name}' were trained on different models "
                f"({first.task.card.backbone.fingerprint[:12]}… and {other.task.card.backbone.fingerprint[:12]}…); use each alone."
            )


@torch.no_grad()
def logits_of(readers: Sequence[Reader], readings: Sequence[Reading], batch: int = 128) -> list[Tensor]:
    """Return the label scores (L,) of each reading by its own reader, in the order given.

    Prompts that stand at the same layer with as many rows and cut texts alike share batches; a sentence, or one array of a
    picture, that several of them read is computed once below that layer. Mixing changes nothing: no record sees another.
    """
    groups: dict[tuple[object, ...], list[int]] = defaultdict(list)
    for number, reading in enumerate(readings):
        scorer, record = readers[reading.reader].scorer, reading.record
        size = None if isinstance(record, str) else record.shape  # pictures of a batch have one size
        alike = (scorer.layer, scorer.shape.rows, scorer.deep, scorer.windows, size)
        groups[id(scorer.backbone), id(scorer.tuning), *alike].append(number)
    found: dict[int, Tensor] = {}
    for numbers in groups.values():
        found |= dict(zip(numbers, _mixed(readers, [readings[n] for n in numbers], batch), strict=True))
    return [found[number] for number in range(len(readings))]


def _mixed(readers: Sequence[Reader], readings: Sequence[Reading], batch: int) -> list[Tensor]:
    """Read with prompts of one model, layer and number of rows."""
    distinct = {_key(reading.record): reading.record for reading in readings}
    place = {key: number for number, key in enumerate(distinct)}
    shelf = _Shelf([readers[n] for n in sorted({reading.reader for reading in readings})])
    hidden = shelf.scorer.read(_records(list(distinct.values())))
    where = torch.tensor([place[_key(reading.record)] for reading in readings])  # (B,)
    which = torch.tensor([shelf.place(readers[reading.reader]) for reading in readings])  # (B,)
    order = hidden.lengths[where].argsort()  # records of a length together: little padding
    scores: list[Tensor] = [torch.empty(0)] * len(readings)
    for piece in torch.split(order, max(1, shelf.scorer.most(batch) // hidden.widest)):
        for number, row in zip(piece.tolist(), shelf.logits(hidden[where[piece]], which[piece]), strict=True):
            scores[number] = row[: readers[readings[number].reader].scorer.labels]
    return scores


def _key(record: Record) -> str | int:
    """Return what tells records apart: a sentence's words, or which array a picture is."""
    return record if isinstance(record, str) else id(record)


def _records(distinct: Sequence[Record]) -> Records:
    """Return records of one kind as a model reads them: sentences, or a stack (B, C, H, W)."""
    pictures = [record for record in distinct if not isinstance(record, str)]
    return np.stack(pictures) if pictures else [record for record in distinct if isinstance(record, str)]


class _Shelf:
    """The tensors of several prompts as one; fewer label rows than others have are filled up with zeros."""

    def __init__(self, readers: Sequence[Reader]) -> None:
        """Put the prompts side by side."""
        self._places = {id(reader): number for number, reader in enumerate(readers)}
        most = max(reader.scorer.labels for reader in readers)
        first = readers[0].scorer
        self._prompts = torch.stack([_filled(reader, most) for reader in readers])  # (R, P+L, D)
        self._centres = torch.stack([reader.scorer.centre for reader in readers])  # (R, D)
        self._scales = torch.tensor([reader.scorer.scale for reader in readers]).unsqueeze(-1)  # (R, 1)
        biases = [reader.scorer.bias for reader in readers]
        self._biases = [torch.zeros(most) if b is None else functional.pad(b, (0, most - len(b))) for b in biases]  # (L,) each
        shape = PromptShape(first.shape.rows, most, first.shape.dim)
        self.scorer = replace(first, shape=shape, scale=1.0, fixed_labels=None)

    def place(self, reader: Reader) -> int:
        """Return where a reader stands."""
        return self._places[id(reader)]

    def logits(self, hidden: Hidden, which: Tensor) -> Tensor:
        """Return label scores (B, L): record b is read by prompt which[b]."""
        if hidden.windows is not None:
            return hidden.averaged(self.logits(hidden.apart, which[hidden.owner]))
        bias = torch.stack(self._biases)[which]  # (B, L)
        scorer = replace(self.scorer, centre=self._centres[which], bias=bias)  # centre (B, D)
        return scorer.logits(hidden, self._prompts[which]) * self._scales[which]


def _filled(reader: Reader, labels: int) -> Tensor:
    """Return rows and label rows, fixed ones too, with zeros below up to the number of labels: (P+L, D)."""
    whole = reader.prompt if reader.scorer.fixed_labels is None else torch.cat([reader.prompt, reader.scorer.fixed_labels])
    return functional.pad(whole, (0, 0, 0, labels - reader.scorer.labels))


def _scorer(entry: Entry, task: Task) -> Scorer:
    """Return the scorer with the centre that was kept beside the prompt: nothing of the training needs to be repeated."""
    of, said = task.card.backbone, task.card.prompt
    backbone = load_backbone(of.source, of.fingerprint, of.dtype, of.max_tokens, said.readout, said.position)
    if not said.label_rows or not backbone.cosine:
        return build(task.card)[0]
    rows = said.rows * (backbone.depth - said.layer if said.deep else 1)
    shape = PromptShape(rows, len(task.card.labels), backbone.dim)
    kept, windows = load_file(entry.folder / LABEL_ROWS), task.card.windows
    scorer = Scorer(backbone, shape, said.layer, said.scale or COSINE_SCALE, kept[CENTRE], deep=said.deep, windows=windows)
    return scorer if task.card.tune is None else with_tuning(scorer, task.card, kept[FROZEN])
