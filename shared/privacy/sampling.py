"""Poisson sampling of patients: every patient is in with the same public probability, independently of all others."""

import numpy as np
from numpy.typing import NDArray

from shared.privacy.source import Stream, uniform

Indices = NDArray[np.int64]


def poisson(patients: int, rate: float, stream: Stream) -> Indices:
    """Return the indices of the drawn patients; the draw, its size included, never leaves the site.

    Args:
        patients: number of patients at the site (private).
        rate: public probability, ``0 < rate <= 1``.
        stream: one stream per round and step; a draw is never used twice.

    An empty draw is a valid draw: the step goes on and releases noise alone.
    """
    if not 0 < rate <= 1:
        raise ValueError(f"rate {rate} is outside (0, 1]")
    return np.flatnonzero(uniform(stream, patients) < rate)
