"""What `promptward predict` found, of rows of a table or of pictures, in one form that is shown and written alike."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from client.album_files import album_of
from client.albums import Album, Files, Told, predict_album
from client.images import require_whole
from client.occlusion import Explanation, explain
from client.patches import explain_album
from client.prediction import Prediction, Question, absent_columns, predict, unread
from client.records import Row, read_rows
from client.site import ImagesTable
from shared.errors import InputError

PICTURE_ENDINGS = (".png", ".jpg", ".jpeg", ".dcm", ".dicom", ".nii", ".gz")


@dataclass(frozen=True)
class Wish:
    """What was asked for beside the predictions.

    Attributes:
        key: a column to repeat.
        why: how many rows or patients to explain.
        skip_broken: go on without pictures that cannot be read.
        site: the hospital's `[images]`.
    """

    key: str | None = None
    why: int = 0
    skip_broken: bool = False
    site: ImagesTable | None = None


@dataclass(frozen=True)
class Outcome:
    """What was found.

    Attributes:
        lines: a line for each row or patient: what names it, and what each prompt says.
        reasons: of the first of them.
        missing: columns that a prompt knows and the table lacks.
        broken: files that cannot be read (name, reason).
        left_out: files in the folder that are no pictures, and files of patients who have more pictures than the card takes.
        cut: by prompt, rows that are longer than it reads.
    """

    lines: Sequence[Mapping[str, Any]]
    reasons: Sequence[Explanation] = ()
    missing: Mapping[str, Sequence[str]] = field(default_factory=dict)
    broken: Sequence[tuple[str, str]] = ()
    left_out: Mapping[str, Sequence[str]] = field(default_factory=dict)
    cut: Mapping[str, int] = field(default_factory=dict)


def outcome_of(questions: Sequence[Question], path: Path, wish: Wish) -> Outcome:
    """Read `path` with all questions: a table where they read sentences; a manifest, a picture or a folder where they see.

    Raises `InputError` for an input of the other kind, or one that cannot be read.
    """
    if questions[0].sees:
        return _of_album(questions, album_of(path, wish.site, skip_broken=wish.skip_broken), wish)
    if path.is_dir() or path.suffix.lower() in PICTURE_ENDINGS:
        name = questions[0].reader.name
        raise InputError(f"{path}: prompt '{name}' reads the rows of a table, not pictures; give a .csv, .parquet or .jsonl file.")
    return _of_table(questions, read_rows(path), str(path), wish)


def _of_table(questions: Sequence[Question], rows: Sequence[Row], source: str, wish: Wish) -> Outcome:
    absent = {q.reader.name: absent_columns(rows, q, source) for q in questions}
    _require_column(rows, wish.key, source)
    found = predict(questions, rows, source)
    named = [{"row": n} | ({wish.key: row.get(wish.key)} if wish.key else {}) for n, row in enumerate(rows, start=1)]
    lines = [name | _scores(questions, said) for name, said in zip(named, found, strict=True)]
    reasons = [said for n, row in enumerate(rows[: wish.why], start=1) for said in explain(questions, row, source, n)]
    return Outcome(lines, reasons, absent, cut={q.reader.name: unread(q, rows, source) for q in questions})


def _of_album(questions: Sequence[Question], album: Album, wish: Wish) -> Outcome:
    _require_column(album.rows, wish.key, album.name)
    told, files = predict_album(questions, album)
    broken = [(_file(album, row), reason) for row, reason in sorted(files.broken.items())]
    require_whole(broken, len(album.rows), album.source(questions[0].reader.task.card), album.mend)
    lines: list[dict[str, Any]] = [
        _named(album, n, patient, wish.key) | _scores(questions, patient.said) for n, patient in enumerate(told, start=1)
    ]
    blank = dict.fromkeys(_scores(questions, told[0].said)) if told else {}
    for row, reason in sorted(files.broken.items()):  # a line of their own, so that whoever reads the file misses nobody
        name = _named(album, len(lines) + 1, Told((row,), 0, ()), wish.key)
        lines.append(name | blank | {"broken": reason})
    return Outcome(lines, explain_album(questions, album, told[: wish.why]), {}, broken, _left_out(album, files))


def _left_out(album: Album, files: Files) -> dict[str, Sequence[str]]:
    found = {"no picture": album.left_out, "over max_records": [_file(album, row) for row in files.surplus]}
    return {why: names for why, names in found.items() if names}


def _file(album: Album, row: int) -> str:
    return str(album.rows[row][album.column])


def _named(album: Album, number: int, patient: Told, key: str | None) -> dict[str, Any]:
    """Return what names a patient's line: the manifest's patient where it has that column, the files, and how much was read."""
    first = album.rows[patient.rows[0]]
    given = {column: first.get(column) for column in dict.fromkeys((album.patient, key)) if column}
    files = "; ".join(_file(album, row) for row in patient.rows)
    return {"row": number} | given | {"files": files, "pictures": patient.pictures}


def _scores(questions: Sequence[Question], said: Sequence[Prediction]) -> dict[str, Any]:
    line: dict[str, Any] = {}
    for question, prediction in zip(questions, said, strict=True):
        name = question.reader.name
        line[f"{name}.label"] = prediction.label
        line |= {f"{name}.{label}": round(share, 6) for label, share in prediction.probabilities.items()}
    return line


def _require_column(rows: Sequence[Row], column: str | None, source: str) -> None:
    if column is not None and all(column not in row for row in rows):
        raise InputError(f"{source}: there is no column '{column}' to repeat; mend --id.")
