"""A picture with the patches that count drawn over it, as a PNG inside the page."""

import base64
from io import BytesIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from client.patches import Heat
from shared.pixels import Pixels

SIDE = 280  # pixels of a drawn picture
FOR, AGAINST = (46, 204, 113), (255, 140, 0)  # green speaks for the label, orange against it
STRONGEST = 0.65  # how much of the picture the largest change covers


def plain_png(heat: Heat) -> str:
    """Return the picture as the model sees it, as a data URI."""
    return _uri(_grey(heat.picture))


def heat_png(heat: Heat, scale: float) -> str:
    """Return the picture under its evidence, as a data URI; evidence of `scale` is drawn strongest."""
    changes = Image.fromarray(heat.evidence.astype(np.float32)).resize((SIDE, SIDE), Image.Resampling.BILINEAR)
    strength = np.clip(np.asarray(changes) / scale, -1, 1)[..., None]  # (S, S, 1)
    colour = np.where(strength >= 0, np.array(FOR), np.array(AGAINST))  # (S, S, 3)
    cover = STRONGEST * np.abs(strength)
    return _uri((1 - cover) * _grey(heat.picture) + cover * colour)


def _grey(picture: Pixels) -> NDArray[np.float64]:
    """Return a picture (C, S, S) from 0 to 1 as (SIDE, SIDE, 3) from 0 to 255."""
    planes = np.broadcast_to(picture, (3, *picture.shape[1:])).transpose(1, 2, 0)  # (S, S, 3)
    drawn = Image.fromarray((planes * 255).round().astype(np.uint8)).resize((SIDE, SIDE), Image.Resampling.BICUBIC)
    return np.asarray(drawn, dtype=np.float64)


def _uri(values: NDArray[np.float64]) -> str:
    file = BytesIO()
    Image.fromarray(values.round().astype(np.uint8)).save(file, "PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()
