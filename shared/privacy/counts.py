"""Counts of patients that may be published: every patient counts in one of several kinds, and each count gets discrete noise."""

import numpy as np
from numpy.typing import NDArray

from shared.privacy.accounting import MOST_NOISE, Release
from shared.privacy.guarantee import ClippedSum, NoisedSum
from shared.privacy.integers import SMOOTH
from shared.privacy.noise import add_noise
from shared.privacy.source import Stream

SENSITIVITY = 1  # L2: a patient more or less moves one of the counts by one


def tally(kinds_of: NDArray[np.int64], kinds: int) -> ClippedSum:
    """Return how many patients are of each kind (kinds,).

    Formal guarantee: adding or removing one patient moves one count by one, whatever `kinds_of` (N,) holds; a kind outside
    ``0 .. kinds - 1`` counts nowhere.
    """
    counts = np.array([np.count_nonzero(kinds_of == kind) for kind in range(kinds)], dtype=np.int64)
    return ClippedSum(counts, SENSITIVITY, grid=1.0)


def release_counts(kinds_of: NDArray[np.int64], kinds: int, noise_multiplier: float, stream: Stream) -> NoisedSum:
    """Return the counts (kinds,) with discrete Gaussian noise of scale `noise_multiplier` in patients.

    Counting right and wrong answers apart costs less than counting right answers and all answers: there a patient would move
    two counts, sensitivity sqrt(2), and their sum is as noisy either way.

    Args:
        kinds_of: one kind a patient (N,), secret; N may be 0.
        kinds: public.
        noise_multiplier: above `integers.SMOOTH`, where epsilon is proven.
        stream: never used for anything else, and never again.

    Raises:
        ValueError: a noise multiplier for which no epsilon is proven.
    """
    if not SMOOTH < noise_multiplier <= MOST_NOISE:
        raise ValueError(f"noise_multiplier {noise_multiplier} is outside {SMOOTH:g} to {MOST_NOISE:g}")
    return add_noise(tally(kinds_of, kinds), noise_multiplier, stream)


def count_release(noise_multiplier: float) -> Release:
    """Return one `release_counts` as the accountant takes it: nobody is drawn, all patients are in."""
    return Release(1.0, noise_multiplier, SENSITIVITY)
