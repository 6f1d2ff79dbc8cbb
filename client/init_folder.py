"""What `promptward init FOLDER` finds in a folder of images or of texts: a row for each file, with its label and its patient.

Labels come from a manifest, or from the folders that the files lie in; patients from the manifest, from a rule for file names that
a person gives, or from DICOM. Nothing here is public: the rows stay in the hospital's own table.
"""

import csv
import io
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from client.asker import Asker
from client.images import PICTURES, VOLUMES
from client.records import Row, read_rows
from client.uploads import DICM
from shared.errors import InputError
from shared.template import is_absent

TABLES = (".csv", ".parquet", ".jsonl")
PARTS = ("train", "test")
FILE, PATIENT, LABEL, SPLIT, TEXT = "file", "patient", "label", "split", "text"
RULE = (
    "Whose is a file? 'file': each is a patient of its own; 'dicom': whom its tag PatientID names; "
    "else a regular expression with one group, such as '([^_]+)_', that finds the patient in its name."
)


@dataclass(frozen=True)
class Wanted:
    """What the command line says of a folder: see `client.init_arguments`."""

    folder: Path
    manifest: Path | None = None
    file: str = FILE
    label: str | None = None
    patient: str | None = None
    split: str | None = None
    rule: str | None = None


@dataclass(frozen=True)
class Found:
    """A folder's files, one a row.

    Attributes:
        images: whether they are images; otherwise texts, whose rows hold them.
        rows: with the columns that the other attributes name.
        file, label, patient, split: names of columns; `patient` and `split` may be absent.
        manifest: the table that lay in the folder and still holds; None: `table` is to be written.
        assumed: what was taken for granted, a sentence each.
    """

    images: bool
    rows: Sequence[Row]
    file: str
    label: str
    patient: str | None
    split: str | None
    manifest: Path | None
    assumed: tuple[str, ...]

    @property
    def table(self) -> bytes:
        """The rows as CSV."""
        out = io.StringIO()
        writer = csv.DictWriter(out, list(self.rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(self.rows)
        return out.getvalue().encode()

    @property
    def several(self) -> bool:
        """Whether a patient may have several pictures or texts."""
        patients = [row.get(self.patient) for row in self.rows] if self.patient else []
        deep = (*VOLUMES, ".dcm", ".dicom")
        return len(set(patients)) < len(patients) or (
            self.images and any(str(r[self.file]).lower().endswith(deep) for r in self.rows)
        )


def find_files(wanted: Wanted, ask: Asker) -> Found:
    """Return the files of a folder.

    Raises:
        InputError: an empty folder, images beside texts, a manifest that names a missing file, fewer than two labels, a name in
            which the rule finds no patient, or a text that is not UTF-8.
    """
    if not wanted.folder.is_dir():
        raise InputError(f"{wanted.folder}: there is no such folder; check the path, or name a table by --csv.")
    every = [p.relative_to(wanted.folder) for p in sorted(wanted.folder.rglob("*")) if p.is_file() and not p.name.startswith(".")]
    pictures = [path for path in every if _is_picture(wanted.folder, path)]
    texts = [path for path in every if path.suffix.lower() == ".txt"]
    if pictures and texts:
        raise InputError(f"{wanted.folder}: it holds images ({pictures[0]}) and texts ({texts[0]}); give each a folder of its own.")
    if not pictures and not texts:
        raise InputError(f"{wanted.folder}: it holds no .png, .jpg, .dcm, .nii, .nii.gz or .txt file; name a folder that does.")
    manifest = wanted.manifest or _only_table(wanted.folder, every)
    _require_use(wanted, manifest)
    if manifest is None:
        found = _from_folders(wanted, pictures or texts, bool(pictures), ask)
    else:
        found = _from_manifest(wanted, manifest, bool(pictures), ask)
    return found if found.images else _with_texts(wanted.folder, found)


def _require_use(wanted: Wanted, manifest: Path | None) -> None:
    """Refuse an option that would say nothing."""
    if manifest is not None and wanted.rule:
        raise InputError(f"--patient-rule: {manifest} is the manifest, so its column names the patient; give --patient instead.")
    given = (("--label", wanted.label), ("--patient", wanted.patient), ("--split", wanted.split))
    if manifest is None and (unused := [option for option, column in given if column]):
        raise InputError(
            f"{unused[0]}: {wanted.folder} holds no manifest, so there are no columns; remove it, or name a --manifest."
        )


def _is_picture(folder: Path, path: Path) -> bool:
    """Say whether a file is one by its ending, or by the mark of DICOM where it has none."""
    if path.suffix:
        return path.name.lower().endswith((*PICTURES, *VOLUMES, ".dcm", ".dicom"))
    with (folder / path).open("rb") as file:
        return file.read(132)[128:] == DICM


def _only_table(folder: Path, every: Sequence[Path]) -> Path | None:
    tables = [path for path in every if len(path.parts) == 1 and path.suffix.lower() in TABLES]
    if len(tables) > 1:
        raise InputError(f"{folder}: it holds several tables ({', '.join(map(str, tables))}); name the manifest by --manifest.")
    return folder / tables[0] if tables else None


def _from_manifest(wanted: Wanted, manifest: Path, images: bool, ask: Asker) -> Found:
    rows = read_rows(manifest)
    have = list(dict.fromkeys(name for row in rows for name in row))
    label = ask("--label", f"Which column of {manifest.name} shall be predicted?", wanted.label)
    patient = wanted.patient or (PATIENT if PATIENT in have else None)
    for column, option in ((wanted.file, "--file-column"), (label, "--label"), (patient, "--patient"), (wanted.split, "--split")):
        if column is not None and column not in have:
            there = ", ".join(have) or "no rows"
            raise InputError(f"{manifest}: there is no column '{column}' ({option}); the table has {there}.")
    for number, row in enumerate(rows, start=1):
        if is_absent(row[wanted.file]) or not (wanted.folder / str(row[wanted.file]).strip()).is_file():
            raise InputError(
                f"{manifest}: row {number}: there is no file '{row[wanted.file]}' in {wanted.folder}; mend the manifest."
            )
    whose = (
        f"column '{patient}' names the patient" if patient else "no column names the patient, so every file is one, except DICOM's"
    )
    return Found(images, rows, wanted.file, label, patient, wanted.split, manifest, (f"{manifest.name}: {whose}.",))


def _from_folders(wanted: Wanted, files: Sequence[Path], images: bool, ask: Asker) -> Found:
    dealt = all(path.parts[0] in PARTS and len(path.parts) > 2 for path in files)
    depth = 1 if dealt else 0
    if loose := next((path for path in files if len(path.parts) < depth + 2), None):
        raise InputError(f"{wanted.folder}: '{loose}' lies in no folder of a label; sort the files into one folder a label.")
    labels = list(dict.fromkeys(path.parts[depth] for path in files))
    if len(labels) < 2:
        raise InputError(f"{wanted.folder}: there is one label only ('{labels[0]}'); sort the files into a folder for each label.")
    all_dicom = all(path.suffix.lower() in (".dcm", ".dicom", "") for path in files)
    rule = ask("--patient-rule", RULE, wanted.rule, "dicom" if all_dicom else None)
    whose = _patients(wanted.folder, rule)
    rows = [
        {FILE: str(path), PATIENT: whose(path), LABEL: path.parts[depth]} | ({SPLIT: path.parts[0]} if dealt else {})
        for path in files
    ]
    assumed = [f"labels are the folders' names: {', '.join(labels)}.", _rule_in_words(rule, rows)]
    assumed += ["folders train and test say which patients are kept for tests."] if dealt else []
    return Found(images, rows, FILE, LABEL, PATIENT, SPLIT if dealt else None, None, tuple(assumed))


def _patients(folder: Path, rule: str) -> Callable[[Path], str]:
    """Return the patient of a file by the rule."""
    if rule == "file":
        return str
    if rule == "dicom":
        return lambda path: _patient_id(folder / path)
    try:
        pattern = re.compile(rule)
    except re.error as error:
        raise InputError(
            f"--patient-rule '{rule}': this is no regular expression ({error}); write 'file', 'dicom' or one."
        ) from None
    if pattern.groups != 1:
        raise InputError(
            f"--patient-rule '{rule}': it has {pattern.groups} groups; put the patient's part in one pair of brackets."
        )

    def whose(path: Path) -> str:
        found = pattern.search(path.name)
        if found is None or not found[1]:
            raise InputError(f"--patient-rule '{rule}': it finds no patient in '{path}'; mend the rule, or rename the file.")
        return found[1]

    return whose


def _patient_id(path: Path) -> str:
    import pydicom  # noqa: PLC0415 (in the extra `images`)

    try:
        found = str(pydicom.dcmread(path, stop_before_pixels=True).get("PatientID", "") or "").strip()
    except (OSError, pydicom.errors.InvalidDicomError) as error:
        raise InputError(f"{path}: cannot be read as DICOM ({error}); mend it, or give another --patient-rule.") from None
    if not found:
        raise InputError(f"{path}: tag PatientID (0010,0020) is missing or empty; fill it, or give another --patient-rule.")
    return found


def _rule_in_words(rule: str, rows: Sequence[Row]) -> str:
    known = {"file": "each file is a patient of its own", "dicom": "DICOM's PatientID names the patient"}
    said = known.get(rule, f"'{rule}' finds the patient in a file's name")
    return f"{said}: {len({row[PATIENT] for row in rows})} patients of {len(rows)} files."


def _with_texts(folder: Path, found: Found) -> Found:
    """Return the rows with what the files say, as a table of its own."""
    rows = []
    used = {found.file, found.label, found.patient, found.split, PATIENT, TEXT, LABEL, SPLIT}
    for row in found.rows:
        path = folder / str(row[found.file]).strip()
        try:
            said = " ".join(path.read_text(encoding="utf-8").split())
        except UnicodeDecodeError:
            raise InputError(f"{path}: this is not UTF-8 text; convert it.") from None
        if not said:
            raise InputError(f"{path}: this file is empty; fill it or take it out.")
        kept: dict[str, Any] = {PATIENT: row[found.patient]} if found.patient else {PATIENT: row[found.file]}
        more = {name: cell for name, cell in row.items() if name not in used}  # such as the hospital
        rows.append(kept | {TEXT: said, LABEL: row[found.label]} | ({SPLIT: row[found.split]} if found.split else {}) | more)
    return Found(False, rows, FILE, LABEL, PATIENT, SPLIT if found.split else None, None, found.assumed)
