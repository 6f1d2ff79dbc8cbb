"""From a decoded picture to what an image model reads: a public, deterministic preparation that the task card fixes.

Letters in shape comments: H, W height and width, C channels.
"""

from typing import Annotated, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from shared.toml import Table

Pixels = NDArray[np.float32]
LUMA = np.array([0.299, 0.587, 0.114], dtype=np.float32)  # grey of red, green, blue (ITU-R BT.601)


class ImageTable(Table):
    """How a picture becomes the model's input: `[image]` of a task card.

    A window cuts the values of a scanner (DICOM after its rescale, NIfTI) to a range, for example Hounsfield units; without one the
    file's own window is used, or else its own range. PNG and JPEG need none.
    """

    size: Annotated[int, Field(ge=4, le=2048)]  # pixels of a side, as the model takes them
    channels: Literal[1, 3] = 1
    mean: tuple[float, ...] = (0.5,)  # of each channel, on the scale 0 to 1
    std: tuple[Annotated[float, Field(gt=0)], ...] = (0.5,)
    window: tuple[float, Annotated[float, Field(gt=0)]] | None = None  # centre and width
    fit: Literal["crop", "stretch"] = "crop"  # cut the longer side to a square in the middle, or squeeze it

    @model_validator(mode="after")
    def _one_number_a_channel(self) -> "ImageTable":
        for name, given in (("mean", self.mean), ("std", self.std)):
            if len(given) != self.channels:
                raise ValueError(f"{name} has {len(given)} numbers for {self.channels} channels; give one for each channel")
        return self

    def prepare(self, picture: Pixels) -> Pixels:
        """Return the input (C, size, size) of a picture (H, W) or (H, W, 3) with values from 0 to 1.

        Grey becomes three equal channels, and colour becomes grey, where the model wants it so. Resizing is bilinear with
        smoothing (Pillow), the same on every machine.
        """
        planes = picture[..., None] if picture.ndim == 2 else picture  # (H, W, C')
        if planes.shape[-1] == 3 and self.channels == 1:
            planes = planes @ LUMA[:, None]  # (H, W, 1)
        if self.fit == "crop":
            planes = _square(planes)
        sized = np.stack([_resized(planes[..., c], self.size) for c in range(planes.shape[-1])])  # (C', S, S)
        every = np.broadcast_to(sized, (self.channels, self.size, self.size))  # (C, S, S)
        mean, std = (np.array(x, dtype=np.float32)[:, None, None] for x in (self.mean, self.std))
        return ((every - mean) / std).astype(np.float32)


def windowed(values: Pixels, centre: float, width: float) -> Pixels:
    """Return values cut to a window and put on the scale 0 to 1 (DICOM PS3.3 C.11.2.1.3, LINEAR_EXACT).

    >>> windowed(np.array([-200.0, 40.0, 500.0], dtype=np.float32), 40, 400).tolist()
    [0.0, 0.5, 1.0]
    """
    return np.asarray(np.clip((values - centre) / width + 0.5, 0, 1), dtype=np.float32)


def own_range(values: Pixels) -> Pixels:
    """Return values on the scale 0 to 1 from their smallest to their largest; all equal gives 0."""
    low, high = float(values.min()), float(values.max())
    return windowed(values, (low + high) / 2, high - low) if high > low else np.zeros_like(values)


def spread(available: int, wanted: int) -> list[int]:
    """Return which of `available` slices or frames are read: at most `wanted`, evenly spaced, a rule that no value decides.

    >>> spread(9, 3), spread(2, 5)
    ([1, 4, 7], [0, 1])
    """
    if available <= wanted:
        return list(range(available))
    return [int((number + 0.5) * available / wanted) for number in range(wanted)]


def _square(planes: Pixels) -> Pixels:
    height, width = planes.shape[:2]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    return planes[top : top + side, left : left + side]


def _resized(plane: Pixels, size: int) -> Pixels:
    from PIL import Image  # noqa: PLC0415 (only where there are images)

    if plane.shape == (size, size):
        return plane
    picture = Image.fromarray(np.ascontiguousarray(plane, dtype=np.float32))
    return np.asarray(picture.resize((size, size), Image.Resampling.BILINEAR), dtype=np.float32)
