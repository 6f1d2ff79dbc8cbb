"""Image records: a manifest names files, patients and labels; files are decoded in parallel and prepared as the card says."""

from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
from rich.console import Console
from rich.progress import track

from client.dicom import read_dicom
from client.nifti import read_nifti
from client.records import Cohort, ColumnMap, Row, entries
from client.scan import Scan, ScanPolicy, UnreadableError
from shared.errors import InputError
from shared.pixels import ImageTable, Pixels

Reader = Callable[[Row], Scan]  # a manifest's row to the pictures of its file; raises `UnreadableError`, OSError or ValueError
PICTURES = (".png", ".jpg", ".jpeg")
VOLUMES = (".nii", ".nii.gz")
DICOM = (".dcm", ".dicom", "")  # files of an archive often have no ending
FEW = 64  # files that are decoded without a progress bar


@dataclass(frozen=True)
class Source:
    """Where a cohort's pictures come from.

    Attributes:
        name: the manifest's, for messages.
        column: the manifest's column that names the file.
        read: opens the file of a row.
        skip_broken: leave unreadable files out, and say so, instead of refusing the run.
    """

    name: str
    column: str
    read: Reader
    skip_broken: bool = False


def files_in(folder: Path, column: str, image: ImageTable, most: int, policy: ScanPolicy) -> Reader:
    """Return a reader of the files that a manifest's `column` names relative to `folder`.

    At most `most` pictures are read of one file: slices of a volume and frames of a sequence, evenly spaced.
    """

    def read(row: Row) -> Scan:
        path = folder / str(row.get(column) or "").strip()
        if not path.resolve().is_relative_to(folder.resolve()):
            raise UnreadableError("it lies outside [images] folder")
        name = path.name.lower()
        if name.endswith(VOLUMES):
            return read_nifti(path, image, most)
        if name.endswith(PICTURES):
            return Scan((read_picture(path),))
        if path.suffix.lower() in DICOM:
            return read_dicom(path, image, most, policy)
        raise UnreadableError(f"files ending in '{path.suffix}' are not read; use .png, .jpg, .dcm, .nii or .nii.gz")

    return read


def image_cohort(
    rows: Sequence[Row], how: ColumnMap, source: Source, image: ImageTable, labels: Sequence[str], max_records: int
) -> Cohort:
    """Turn a manifest into a cohort of images (R, C, H, W), prepared as the card says.

    A patient is whom the manifest's column names, else whom the file names, else the file. Of a patient the first `max_records`
    pictures in file order are kept.

    Raises:
        InputError: missing column, label or patient, or files that cannot be read: all of them are listed, each with its reason.
    """
    mine = entries(rows, how, labels, [source.column], source.name)
    scans = decoded([entry.row for entry in mine], source, image)
    broken = [(str(e.row[source.column]), scan) for e, scan in zip(mine, scans, strict=True) if isinstance(scan, str)]
    require_whole(broken, len(mine), source, "set skip_broken = true in [images]")
    whose = Owners(by_manifest=how.patient is not None)
    images: list[Pixels] = []
    owners: list[int] = []
    targets: list[int] = []
    kept: Counter[int] = Counter()
    for entry, scan in zip(mine, scans, strict=True):
        if isinstance(scan, str):
            continue
        number = whose.number(entry.owner, scan)
        for picture in scan.pictures[: max_records - kept[number]]:
            kept[number] += 1
            images.append(picture)
            owners.append(number)
            targets.append(entry.label)
    stack = np.stack(images) if images else np.zeros((0, image.channels, image.size, image.size), dtype=np.float32)
    return Cohort((), tuple(targets), tuple(owners), whose.size, stack, whose.names)


class Owners:
    """Numbers patients in order of appearance: whom the manifest's column names, else whom the file names, else the file."""

    def __init__(self, *, by_manifest: bool) -> None:
        """Begin without patients; `by_manifest`: the manifest has a column for them."""
        self._by_manifest = by_manifest
        self._numbers: dict[tuple[str, str], int] = {}

    @property
    def size(self) -> int:
        """The number of patients so far."""
        return len(self._numbers)

    @property
    def names(self) -> tuple[str, ...]:
        """The patients, in the order of their numbers."""
        return tuple(name for _, name in self._numbers)

    def number(self, owner: str, scan: Scan) -> int:
        """Return the patient of a file, whose row is of `owner`."""
        named = ("file", scan.patient) if scan.patient and not self._by_manifest else ("manifest", owner)
        return self._numbers.setdefault(named, len(self._numbers))


def read_picture(file: Path | BinaryIO) -> Pixels:
    """Return a PNG or JPEG as (H, W) or (H, W, 3) from 0 to 1; transparency is dropped, a 16-bit grey keeps its depth."""
    from PIL import Image  # noqa: PLC0415 (only where there are images)

    with Image.open(file, formats=("PNG", "JPEG")) as picture:  # whatever its name says, no other decoder is tried
        if picture.mode.startswith("I"):  # 16 bits
            return np.asarray(picture, dtype=np.float32) / np.float32(65535)
        grey = picture.mode in ("1", "L", "LA")
        return np.asarray(picture.convert("L" if grey else "RGB"), dtype=np.float32) / np.float32(255)


def decoded(rows: Sequence[Row], source: Source, image: ImageTable) -> list[Scan | str]:
    """Return the prepared pictures of each row's file, in order, or why there are none; files are decoded in parallel."""

    def one(row: Row) -> Scan | str:
        try:
            scan = source.read(row)
            if not all(np.isfinite(picture).all() for picture in scan.pictures):
                return "it holds values that are not finite"
            return Scan(tuple(image.prepare(picture) for picture in scan.pictures), scan.patient)
        except ImportError as error:
            raise InputError(f"{source.name}: package {error.name} is needed; run pip install 'promptward[images]'.") from None
        except Exception as error:
            return " ".join(str(error).split()) or type(error).__name__

    with ThreadPoolExecutor() as workers:
        each = workers.map(one, rows)
        quiet = len(rows) < FEW
        bar = track(each, "Decoding", len(rows), console=Console(stderr=True), transient=True, disable=quiet)
        return list(bar)


def require_whole(broken: Sequence[tuple[str, str]], files: int, source: Source, mend: str) -> None:
    """Say every file (name, reason) that could not be read; go on only where the hospital wants that.

    Raises `InputError` with the list and `mend`, what else can be done, unless the source skips broken files.
    """
    if not broken:
        return
    listed = "".join(f"\n  {name}: {reason}" for name, reason in broken)
    said = f"{source.name}: {len(broken)} of {files} files cannot be read"
    if not source.skip_broken:
        raise InputError(f"{said}; mend them, or {mend}:{listed}")
    told = f"{said} and are left out (skip_broken):{listed}"
    Console(stderr=True).print(told, style="yellow", markup=False, highlight=False, soft_wrap=True)
