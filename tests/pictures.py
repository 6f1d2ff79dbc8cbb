"""Image files as hospitals have them, made on the spot: DICOM, NIfTI, PNG, and a manifest."""

import csv
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, SecondaryCaptureImageStorage, generate_uid


def write_dicom(path: Path, stored: NDArray[Any], patient: str | None = "P1", **tags: Any) -> Path:
    """Write stored values (H, W), (F, H, W) or, with SamplesPerPixel=3, (H, W, 3), as a DICOM file."""
    file = Dataset()
    file.SOPClassUID, file.SOPInstanceUID, file.Modality = SecondaryCaptureImageStorage, generate_uid(), "OT"
    samples = tags.pop("SamplesPerPixel", 1)
    bits = 8 * stored.dtype.itemsize
    shape = stored.shape[:2] if samples == 3 else stored.shape[-2:]
    file.Rows, file.Columns = shape
    file.SamplesPerPixel, file.BitsAllocated, file.BitsStored, file.HighBit = samples, bits, bits, bits - 1
    file.PixelRepresentation = int(stored.dtype.kind == "i")
    file.PhotometricInterpretation = "RGB" if samples == 3 else "MONOCHROME2"
    if samples == 3:
        file.PlanarConfiguration = 0
    elif stored.ndim == 3:
        file.NumberOfFrames = len(stored)
    if patient is not None:
        file.PatientID = patient
    for name, value in tags.items():
        setattr(file, name, value)
    file.PixelData = stored.tobytes()
    file["PixelData"].VR = "OW" if bits == 16 else "OB"
    file.file_meta = FileMetaDataset()
    file.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    path.parent.mkdir(parents=True, exist_ok=True)
    file.save_as(path, enforce_file_format=True)
    return path


def group(**tags: Any) -> Dataset:
    """Return an item of a DICOM sequence."""
    item = Dataset()
    for name, value in tags.items():
        setattr(item, name, value)
    return item


def write_nifti(path: Path, volume: NDArray[Any], affine: NDArray[np.float64] | None = None) -> Path:
    nibabel.save(nibabel.Nifti1Image(volume, np.eye(4) if affine is None else affine), path)
    return path


def write_png(path: Path, picture: NDArray[np.uint8]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(picture).save(path)
    return path


def write_manifest(path: Path, columns: list[str], rows: list[tuple[str, ...]]) -> Path:
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([columns, *rows])
    return path
