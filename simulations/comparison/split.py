"""One task and one split, as every method of a comparison sees it: all sites' patients, site after site."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from client.records import Cohort, joined
from shared.backbone import Records
from shared.card import Task, TaskCard, TemplateTable
from shared.errors import InputError
from shared.template import FieldTable
from simulations.partition import Scheme
from simulations.study import SitePatients, Study, deal_out

Cells = Sequence[Sequence[str]]  # (B, fields)
MARK = "\x1f"  # between two cells of a row that is read as a text


@dataclass(frozen=True)
class Split:
    """Training and test patients of all sites.

    Letters: B training records, N training patients, M test records, S sites.

    Attributes:
        task: the card.
        sites: names.
        train: B records.
        labels: (B,), of training records.
        records: for each of N patients, the numbers of that patient's training records.
        first: (S + 1,), the first patient of each site, and N.
        test: M records.
        test_labels: (M,).
        test_site: (M,), position in `sites`.
        raw: the table's own cells of training and of test records.
        words: the same cells as the card's template says them.
    """

    task: Task
    sites: tuple[str, ...]
    train: Records
    labels: Tensor
    records: tuple[Tensor, ...]
    first: NDArray[np.int64]
    test: Records
    test_labels: NDArray[np.int64]
    test_site: NDArray[np.int64]
    raw: tuple[Cells, Cells]
    words: tuple[Cells, Cells]

    @property
    def digest(self) -> str:
        """SHA-256 of the table as it was dealt out: another cell, label, patient or site gives another."""
        parts = [self.raw, self.words, self.labels.tolist(), self.test_labels.tolist(), self.test_site.tolist()]
        owned = [[mine.tolist() for mine in self.records], self.first.tolist(), self.sites]
        return hashlib.sha256(json.dumps([parts, owned]).encode()).hexdigest()

    def patients(self, site: int) -> NDArray[np.int64]:
        """Return the numbers of a site's patients."""
        return np.arange(self.first[site], self.first[site + 1])

    def records_of(self, site: int) -> NDArray[np.int64]:
        """Return the numbers of a site's training records."""
        return torch.cat([self.records[patient] for patient in self.patients(site)]).numpy()


def read_split(task: Task, study: Study, scheme: Scheme, seed: int) -> Split:
    """Deal out a study as `promptward simulate` does; raise `InputError` where it cannot be compared on."""
    card = task.card
    dealt = deal_out(study, card, scheme, card.hospitals, seed)
    train, test = [site.train for site in dealt.values()], [site.test for site in dealt.values()]
    absent = set(range(len(card.labels))) - {label for part in test for label in part.labels}
    if absent:
        name = card.labels[absent.pop()].name
        raise InputError(f"{study.source}: no test patient has the label '{name}', so no AUC exists; choose another --split.")
    starts = np.cumsum([0, *(len(part.labels) for part in train)])
    return Split(
        task=task,
        sites=tuple(dealt),
        train=joined([part.records for part in train]),
        labels=torch.tensor([label for part in train for label in part.labels]),
        records=tuple(mine for part, start in zip(train, starts, strict=False) for mine in _owned(part, int(start))),
        first=np.cumsum([0, *(part.size for part in train)]),
        test=joined([part.records for part in test]),
        test_labels=np.array([label for part in test for label in part.labels]),
        test_site=np.repeat(np.arange(len(test)), [len(part.labels) for part in test]),
        raw=_cells(deal_out(study, _as_table(card, {}), scheme, card.hospitals, seed)),
        words=_cells(deal_out(study, _as_table(card, card.record_text.fields), scheme, card.hospitals, seed)),
    )


def _owned(cohort: Cohort, start: int) -> list[Tensor]:
    owners = np.array(cohort.patients)
    return [torch.from_numpy(np.flatnonzero(owners == patient)) + start for patient in range(cohort.size)]


def _as_table(card: TaskCard, fields: Mapping[str, FieldTable]) -> TaskCard:
    """Return the card with a template that says each field, and a mark between two."""
    text = MARK.join(f"{{{name}}}" for name in card.record_text.names)
    return card.model_copy(update={"template": TemplateTable(text=text, fields=dict(fields))})


def _cells(dealt: Mapping[str, SitePatients]) -> tuple[Cells, Cells]:
    train = [text.split(MARK) for site in dealt.values() for text in site.train.texts]
    return train, [text.split(MARK) for site in dealt.values() for text in site.test.texts]
