"""DICOM files: values of the scanner, windowed, as pictures on the scale 0 to 1; and whose they are.

Letters in shape comments: F frames, H, W height and width.
"""

from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from client.scan import Scan, ScanPolicy, UnreadableError
from shared.pixels import ImageTable, Pixels, own_range, spread, windowed


def read_dicom(path: Path | BinaryIO, image: ImageTable, most: int, policy: ScanPolicy) -> Scan:
    """Return at most `most` frames of a DICOM file, evenly spaced, and the patient that it names.

    Values are rescaled by the file's slope and intercept, then cut to the card's window, or else the file's. MONOCHROME1 is turned
    round, so that more is brighter.

    Raises:
        UnreadableError: not a DICOM image, text burned into the picture, or no patient although the policy wants one.
    """
    import pydicom  # noqa: PLC0415 (in the extra `images`)
    from pydicom.pixels.utils import pixel_array  # noqa: PLC0415

    file = pydicom.dcmread(path)
    if str(file.get("BurnedInAnnotation", "")).strip().upper() == "YES" and not policy.allow_burned_in:
        raise UnreadableError("tag BurnedInAnnotation (0028,0301) says YES: names may stand in the picture")
    patient = str(file.get("PatientID", "") or "").strip() or None
    if patient is None and policy.need_patient:
        raise UnreadableError("tag PatientID (0010,0020) is missing or empty")
    if "PixelData" not in file:
        raise UnreadableError("it holds no picture (no tag PixelData)")
    picked = spread(int(file.get("NumberOfFrames", 1) or 1), most)
    frames = [_picture(pixel_array(file, index=number), file, number, image) for number in picked]
    return Scan(tuple(frames), patient)


def _picture(stored: Any, file: Any, frame: int, image: ImageTable) -> Pixels:
    """Return stored values (H, W) or (H, W, 3) of one frame as a picture on the scale 0 to 1."""
    kind = str(file.get("PhotometricInterpretation", ""))
    if stored.ndim == 3:  # colour; pydicom has turned YBR into RGB
        return np.asarray(stored / (2.0 ** int(file.BitsStored) - 1), dtype=np.float32)
    if not kind.startswith("MONOCHROME"):
        raise UnreadableError(f"tag PhotometricInterpretation is '{kind}', which is not read; convert it to MONOCHROME2 or RGB")
    bright = _bright(stored, file, frame, image)
    return 1 - bright if kind == "MONOCHROME1" else bright


def _bright(stored: Any, file: Any, frame: int, image: ImageTable) -> Pixels:
    from pydicom.pixels.processing import apply_modality_lut, apply_voi  # noqa: PLC0415

    scale, view = _tags(file, frame, "PixelValueTransformationSequence"), _tags(file, frame, "FrameVOILUTSequence")
    values = np.asarray(apply_modality_lut(stored, scale), dtype=np.float32)
    if image.window is not None:
        return windowed(values, *image.window)
    if view.get("WindowCenter") is not None and view.get("WindowWidth") is not None:
        return _own_window(values, view)
    if "VOILUTSequence" in view:
        bits = int(view.VOILUTSequence[0].LUTDescriptor[2])
        return np.asarray(apply_voi(values.astype(np.int64), view) / (2.0**bits - 1), dtype=np.float32)
    return own_range(values)


def _own_window(values: Pixels, view: Any) -> Pixels:
    """Apply the first window of the file (PS3.3 C.11.2.1.2 and C.11.2.1.3)."""
    centre, width = _first(view.WindowCenter), _first(view.WindowWidth)
    function = str(view.get("VOILUTFunction", "LINEAR"))
    if function == "SIGMOID":
        return np.asarray(1 / (1 + np.exp(-4 * (values - centre) / width)), dtype=np.float32)
    if function == "LINEAR":  # the standard's pixel centres: half a value to the left, one value narrower
        centre, width = centre - 0.5, max(width - 1, 1e-6)
    return windowed(values, centre, width)


def _tags(file: Any, frame: int, sequence: str) -> Any:
    """Return what holds the tags of one frame: its own group of an enhanced file, the shared group, or else the file."""
    own, common = file.get("PerFrameFunctionalGroupsSequence"), file.get("SharedFunctionalGroupsSequence")
    for group in (own[frame] if own else None, common[0] if common else None):
        if group is not None and sequence in group:
            return group[sequence].value[0]
    return file


def _first(value: Any) -> float:
    return float(value[0] if hasattr(value, "__len__") and not isinstance(value, str) else value)
