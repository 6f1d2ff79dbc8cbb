"""A hospital's records: CSV, Parquet or JSONL rows become sentences, grouped by patient."""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shared.backbones.protocol import Records
from shared.errors import InputError
from shared.template import RecordText, is_absent

Row = Mapping[str, Any]


@dataclass(frozen=True)
class Cohort:
    """The records of a site's patients.

    Attributes:
        texts: one sentence a record; empty where the records are images.
        labels: label index of each record.
        patients: patient index of each record, ``0 .. size - 1``.
        size: number of patients; private, never sent.
        images: float32 (R, C, H, W), normalised as the model wants it, where the records are images.
        names: of the patients, as the table has them; private; empty where patients are made up.
    """

    texts: tuple[str, ...]
    labels: tuple[int, ...]
    patients: tuple[int, ...]
    size: int
    images: NDArray[np.float32] | None = field(default=None, repr=False)
    names: tuple[str, ...] = field(default=(), repr=False)

    @property
    def records(self) -> Records:
        """What the model reads: the images where there are some, else the texts."""
        return self.texts if self.images is None else self.images


@dataclass(frozen=True)
class ColumnMap:
    """How a table's columns map to the card: see `client.site.DataTable`. Rows of `part` are read; `table` is for messages."""

    label: str
    labels: Mapping[str, str]
    columns: Mapping[str, str]
    patient: str | None = None
    split: str | None = None
    part: str = "train"
    table: str = "data"


def joined(parts: Sequence[Records]) -> Records:
    """Return the records of several cohorts, one after the other: all texts, or all images of one size."""
    images = [part for part in parts if isinstance(part, np.ndarray)]
    return np.concatenate(images) if images else [text for part in parts for text in part]


def read_rows(path: Path) -> list[Row]:
    """Read a table as rows; the kind follows from the ending .csv, .parquet or .jsonl.

    Raises `InputError` naming the file, and for JSONL the line.
    """
    readers = {".csv": _read_csv, ".parquet": _read_parquet, ".jsonl": _read_jsonl}
    reader = readers.get(path.suffix.lower())
    if reader is None:
        raise InputError(f"{path}: files ending in '{path.suffix}' are not read; use {', '.join(readers)}.")
    if not path.is_file():
        raise InputError(f"{path}: there is no such file; check [data] path.")
    try:
        return reader(path)
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: cannot be read as {path.suffix[1:]} ({str(error).splitlines()[0]}).") from None


def cohort(rows: Sequence[Row], how: ColumnMap, text: RecordText, labels: Sequence[str], max_records: int, source: str) -> Cohort:
    """Turn rows into a cohort.

    Args:
        rows: the table.
        how: column and label mapping, and which part of the rows to read; without a split column every row is `train`.
        text: the card's template.
        labels: the card's labels.
        max_records: records kept per patient, the first in file order (a rule that no value decides).
        source: file name for messages.

    Raises:
        InputError: missing column, empty or unknown label, a cell that the template cannot say.
    """
    fields = {name: how.columns.get(name, name) for name in text.names}
    unknown = sorted(set(how.columns) - set(fields))
    if unknown:
        raise InputError(f"{source}: [data.columns] maps '{unknown[0]}', which the task card does not use; remove it.")
    records: list[tuple[str, int, int]] = []
    numbers: dict[str, int] = {}
    kept: Counter[str] = Counter()
    for entry in entries(rows, how, labels, list(fields.values()), source):
        number = numbers.setdefault(entry.owner, len(numbers))
        kept[entry.owner] += 1
        if kept[entry.owner] <= max_records:
            records.append((_say(entry, how, text, source), entry.label, number))
    texts, targets, patients = zip(*records, strict=True) if records else ((), (), ())
    return Cohort(texts, targets, patients, len(numbers), names=tuple(numbers))


@dataclass(frozen=True)
class Entry:
    """A row of the part that is read: its number from 1, its cells, its patient, and its label's index in the card."""

    line: int
    row: Row
    owner: str
    label: int


def entries(rows: Sequence[Row], how: ColumnMap, labels: Sequence[str], wanted: Sequence[str], source: str) -> list[Entry]:
    """Return the rows of the part `how.part` in file order; raise `InputError` where a column, label or patient is missing.

    `wanted` are the columns that hold the record itself.
    """
    _check_columns(rows, how, wanted, source)
    _check_labels(how, labels, source)
    owners, values = patients_of(rows, how, source), labels_of(rows, how, source)
    found = []
    for line, (row, owner, value) in enumerate(zip(rows, owners, values, strict=True), start=1):
        if _part(row, how, source, line) == how.part:
            found.append(Entry(line, row, owner, labels.index(how.labels[value])))
    return found


def patients_of(rows: Sequence[Row], how: ColumnMap, source: str) -> list[str]:
    """Return the patient of each row; without a patient column every row is a patient of its own."""
    if how.patient is None:
        return [str(line) for line in range(1, len(rows) + 1)]
    empty = next((line for line, row in enumerate(rows, start=1) if is_absent(row.get(how.patient))), None)
    if empty is not None:
        raise InputError(f"{source}: row {empty}: column '{how.patient}' names no patient; every record needs one.")
    return [str(row[how.patient]).strip() for row in rows]


def labels_of(rows: Sequence[Row], how: ColumnMap, source: str) -> list[str]:
    """Return the raw label of each row; raise `InputError` naming the row of an empty or unmapped one."""
    values = []
    for line, row in enumerate(rows, start=1):
        value = row.get(how.label)
        if is_absent(value):
            raise InputError(f"{source}: row {line}: label column '{how.label}' is empty; fill it or drop the row.")
        if str(value).strip() not in how.labels:
            mapped = ", ".join(how.labels)
            raise InputError(f"{source}: row {line}: label '{value}' is not mapped; [{how.table}.labels] knows {mapped}.")
        values.append(str(value).strip())
    return values


def _read_csv(path: Path) -> list[Row]:
    import pandas as pd  # noqa: PLC0415 (a second to import)

    frame = pd.read_csv(path, dtype=str, keep_default_na=False, na_values=["", "NA", "NaN", "nan", "null"])
    return frame.astype(object).where(frame.notna(), None).to_dict("records")  # type: ignore[no-any-return]


def _read_parquet(path: Path) -> list[Row]:
    import pyarrow.parquet as pq  # noqa: PLC0415

    return pq.read_table(path).to_pylist()  # type: ignore[no-any-return]


def _read_jsonl(path: Path) -> list[Row]:
    rows: list[Row] = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except ValueError as error:
            raise InputError(f"{path}: line {number} is not JSON ({error}); mend or remove it.") from None
        if not isinstance(row, dict):
            raise InputError(f"{path}: line {number} is not a JSON object; write one object a line.")
        rows.append(row)
    return rows


def _check_columns(rows: Sequence[Row], how: ColumnMap, wanted: Sequence[str], source: str) -> None:
    if not rows:
        raise InputError(f"{source}: the table has no rows; give at least one patient.")
    have = {name for row in rows for name in row}
    needed = [*wanted, how.label, *(c for c in (how.patient, how.split) if c)]
    absent = next((column for column in needed if column not in have), None)
    if absent is not None:
        there = ", ".join(sorted(have))
        mend = "Map it in [data] or [data.columns]." if how.table == "data" else f"Name the column in [{how.table}]."
        raise InputError(f"{source}: column '{absent}' is missing; the table has {there}. {mend}")


def _part(row: Row, how: ColumnMap, source: str, line: int) -> str:
    value = "train" if how.split is None else str(row.get(how.split)).strip()
    if value not in ("train", "test"):
        raise InputError(f"{source}: row {line}: column '{how.split}' says '{value}'; write train or test.")
    return value


def _check_labels(how: ColumnMap, labels: Sequence[str], source: str) -> None:
    wrong = next((name for name in how.labels.values() if name not in labels), None)
    if wrong is not None:
        known = ", ".join(labels)
        raise InputError(f"{source}: [{how.table}.labels] maps to '{wrong}', which is no label of the task card ({known}).")


def _say(entry: Entry, how: ColumnMap, text: RecordText, source: str) -> str:
    try:
        return text.render({name: entry.row.get(how.columns.get(name, name)) for name in text.names})
    except InputError as error:
        raise InputError(f"{source}: row {entry.line}: {error}") from None
