"""What a reader of image files gives: the pictures of one file, and whose they are."""

from dataclasses import dataclass

from shared.pixels import Pixels


class UnreadableError(ValueError):
    """A file that is not read, with the reason in a few words; it is listed with all others."""


@dataclass(frozen=True)
class Scan:
    """The pictures of one file, (H, W) or (H, W, 3) from 0 to 1, and the patient where the file itself names one."""

    pictures: tuple[Pixels, ...]
    patient: str | None = None


@dataclass(frozen=True)
class ScanPolicy:
    """What a hospital decides about its files.

    Attributes:
        allow_burned_in: read files that say that text is burned into the picture.
        need_patient: refuse a DICOM file without a patient.
    """

    allow_burned_in: bool = False
    need_patient: bool = False
