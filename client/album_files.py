"""What `promptward predict` and `init` take for pictures: a manifest, one file, or a folder of files."""

from dataclasses import replace
from pathlib import Path

from client.albums import Album
from client.cohorts import pictures_of
from client.images import DICOM, PICTURES, VOLUMES
from client.records import read_rows
from client.site import ImagesTable
from shared.errors import InputError

MANIFESTS = (".csv", ".parquet", ".jsonl")


def album_of(path: Path, site: ImagesTable | None, *, skip_broken: bool = False) -> Album:
    """Return the pictures that `path` names.

    Args:
        path: a manifest, a picture, or a folder, which is read with all folders in it.
        site: the hospital's `[images]`: names of columns, its folder, and what it allows; None: `file` and, where there is one,
            `patient`, relative to the manifest's folder, and a DICOM file without a patient is a patient of its own.
        skip_broken: leave files out that cannot be read, and say so.

    Raises:
        InputError: there is no such file, or no picture in the folder.
    """
    table = site or ImagesTable(manifest=path, folder=path.parent, label="label", labels={}, missing_patient="file")
    table = table.model_copy(update={"path": path, "skip_broken": skip_broken or table.skip_broken})
    if path.suffix.lower() in MANIFESTS and not path.is_dir():
        rows = read_rows(path)
        named = {name for row in rows for name in row}
        if site is None:
            table = table.model_copy(update={"patient": "patient" if "patient" in named else None})
        return Album(rows, pictures_of(table), str(path), table.file, table.patient)
    names, others = _names(path)
    table = table.model_copy(update={"folder": path if path.is_dir() else path.parent, "patient": None})
    album = Album([{table.file: name} for name in names], pictures_of(table), str(path), table.file, None)
    return replace(album, left_out=others)


def _names(path: Path) -> tuple[list[str], tuple[str, ...]]:
    if path.is_dir():
        names, others = pictures_below(path)
        if not names:
            raise InputError(f"{path}: this folder holds no .png, .jpg, .dcm, .nii or .nii.gz file; name one that does.")
        return names, others
    if not path.is_file():
        raise InputError(f"{path}: there is no such file or folder; check the path.")
    return [path.name], ()


def pictures_below(folder: Path) -> tuple[list[str], tuple[str, ...]]:
    """Return the names, relative to the folder, of the files in it that are pictures by their ending, and of the others.

    Files without an ending count as DICOM, as in an archive; those whose name or folder begins with a dot are neither.
    """
    every = [path.relative_to(folder) for path in sorted(folder.rglob("*")) if path.is_file()]
    seen = [path for path in every if not any(part.startswith(".") for part in path.parts)]
    return [str(p) for p in seen if is_picture(p)], tuple(str(p) for p in seen if not is_picture(p))


def is_picture(path: Path) -> bool:
    """Say whether a file is read as a picture, by its ending."""
    return path.name.lower().endswith((*PICTURES, *VOLUMES)) or path.suffix.lower() in DICOM
