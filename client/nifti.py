"""NIfTI volumes: slices of one patient as pictures on the scale 0 to 1."""

from pathlib import Path

import numpy as np

from client.scan import Scan, UnreadableError
from shared.pixels import ImageTable, own_range, spread, windowed


def read_nifti(path: Path, image: ImageTable, most: int) -> Scan:
    """Return at most `most` axial slices of a volume, evenly spaced from feet to head; the patient's front is at the top.

    Without the card's window the values are scaled by the range of the whole volume, so that slices stay comparable.

    Raises:
        UnreadableError: it is no volume of three dimensions, or holds values that are not finite.
    """
    import nibabel  # noqa: PLC0415 (in the extra `images`)

    volume = nibabel.as_closest_canonical(nibabel.load(path))  # axes: to the right, to the front, to the head
    if len(volume.shape) != 3:
        raise UnreadableError(f"it has shape {volume.shape}; give one volume of three dimensions")
    values = np.asarray(volume.dataobj, dtype=np.float32)  # (X, Y, Z), slope and intercept applied
    if not np.isfinite(values).all():
        raise UnreadableError("it holds values that are not finite; replace them by the value of air")
    bright = own_range(values) if image.window is None else windowed(values, *image.window)
    return Scan(tuple(bright[:, ::-1, z].T for z in spread(values.shape[2], most)), None)
