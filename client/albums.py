"""Patients' pictures are read by one or several prompts: a patient's probabilities are the mean over the pictures that are kept."""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from client.images import Owners, Source, decoded
from client.prediction import Prediction, Question, answers
from client.records import ColumnMap, Row, patients_of
from shared.card import TaskCard
from shared.errors import InputError
from shared.pixels import ImageTable, Pixels
from shared.template import is_absent

CHUNK = 64  # files whose pictures are in memory at once


@dataclass(frozen=True)
class Album:
    """Files of pictures, one a row.

    Attributes:
        rows: the manifest.
        source: how the files are read, for a card.
        name: for messages.
        column: the column that names the file.
        patient: the column that names the patient; None: DICOM's PatientID counts, and any other file is a patient of its own.
        left_out: files that lie beside these and are no pictures.
        mend: what a user can do about files that cannot be read.
    """

    rows: Sequence[Row]
    source: Callable[[TaskCard], Source]
    name: str
    column: str
    patient: str | None
    left_out: tuple[str, ...] = ()
    mend: str = "add --skip-broken"

    @property
    def owners(self) -> list[str]:
        """The patient of each row; raise `InputError` naming a row without patient or file, or a column that is not there."""
        if not self.rows:
            raise InputError(f"{self.name}: there are no files; name at least one.")
        have = {name for row in self.rows for name in row}
        if absent := [column for column in (self.column, self.patient) if column and column not in have]:
            there = ", ".join(sorted(have))
            raise InputError(
                f"{self.name}: column '{absent[0]}' is missing; the manifest has {there}. Name it in [images] of --site."
            )
        empty = next((n for n, row in enumerate(self.rows, start=1) if is_absent(row.get(self.column))), None)
        if empty is not None:
            raise InputError(f"{self.name}: row {empty}: column '{self.column}' names no file; fill it or drop the row.")
        return patients_of(self.rows, ColumnMap("", {}, {}, self.patient), self.name)

    def part(self, numbers: Sequence[int]) -> "Album":
        """Return the files of some rows, numbered from 0."""
        return Album([self.rows[n] for n in numbers], self.source, self.name, self.column, self.patient)


@dataclass(frozen=True)
class Shown:
    """A picture that a prompt reads: the row of its file and the number of its patient, from 0; prepared, (C, H, W)."""

    row: int
    patient: int
    picture: Pixels
    question: int


@dataclass(frozen=True)
class Files:
    """What was found out about the files while they were read, filled in on the way; files are rows from 0.

    Attributes:
        broken: why a file cannot be read.
        of: each patient's files, broken ones left out.
        read: the files of which a picture was kept.
    """

    broken: dict[int, str] = field(default_factory=dict)
    of: dict[int, list[int]] = field(default_factory=dict)
    read: set[int] = field(default_factory=set)

    @property
    def surplus(self) -> list[int]:
        """Files of which nothing was read, because their patient has as many pictures already as the card takes."""
        return sorted({row for rows in self.of.values() for row in rows} - self.read)


@dataclass(frozen=True)
class Told:
    """What the prompts say of a patient.

    Attributes:
        rows: the patient's files, by row from 0.
        pictures: how many pictures were read: the most that any of the prompts takes.
        said: what each prompt says.
    """

    rows: tuple[int, ...]
    pictures: int
    said: tuple[Prediction, ...]


def predict_album(questions: Sequence[Question], album: Album) -> tuple[list[Told], Files]:
    """Return what is said of each patient, in order of appearance, and what was found out about the files.

    All prompts read a picture in the same mixed batch; those that prepare it alike share the array, so that the model reads it once
    below their layer. Of a patient a prompt reads the first `max_records` pictures, as in training, and gives the mean of their
    probabilities: a patient with many pictures counts as one.
    """
    said: dict[int, list[list[Prediction]]] = {}
    files = Files()
    for shown in shown_in(questions, album, files):
        for each, one in zip(shown, answers(questions, [(s.picture, s.question) for s in shown]), strict=True):
            said.setdefault(each.patient, [[] for _ in questions])[each.question].append(one)
    told = [Told(tuple(files.of[n]), max(map(len, found)), tuple(map(_mean, found))) for n, found in sorted(said.items())]
    return told, files


def shown_in(questions: Sequence[Question], album: Album, files: Files) -> Iterator[list[Shown]]:
    """Yield the pictures that each question reads, some files at a time, and fill in `files`."""
    owners, whose = album.owners, Owners(by_manifest=album.patient is not None)
    kept: Counter[tuple[int, int]] = Counter()
    views = list(_views(questions).items())
    for start in range(0, len(album.rows), CHUNK):
        numbers = range(start, min(start + CHUNK, len(album.rows)))
        shown = []
        for view, ((image, most), asking) in enumerate(views):
            source = album.source(questions[asking[0]].reader.task.card)
            for row, scan in zip(numbers, decoded([album.rows[n] for n in numbers], source, image), strict=True):
                if isinstance(scan, str):
                    files.broken[row] = scan
                    continue
                patient = whose.number(owners[row], scan)
                if view == 0:
                    files.of.setdefault(patient, []).append(row)
                pictures = scan.pictures[: most - kept[view, patient]]
                kept[view, patient] += len(pictures)
                files.read.update([row] if pictures else [])
                shown += [Shown(row, patient, picture, q) for picture in pictures for q in asking]
        yield shown


def _views(questions: Sequence[Question]) -> dict[tuple[ImageTable, int], list[int]]:
    """Return which questions see the same of a file: prepared alike, with as many pictures kept of a patient."""
    views: dict[tuple[ImageTable, int], list[int]] = defaultdict(list)
    for number, question in enumerate(questions):
        card = question.reader.task.card
        views[card.picture, card.privacy.max_records].append(number)
    return views


def _mean(said: Sequence[Prediction]) -> Prediction:
    """Return the mean of the probabilities over pictures."""
    mean = {label: float(np.mean([one.probabilities[label] for one in said])) for label in said[0].probabilities}
    return Prediction(max(mean, key=mean.__getitem__), mean)
