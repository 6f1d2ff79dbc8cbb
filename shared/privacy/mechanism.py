"""The private step's mechanism: the thin module that composes `clip`, `noise`, `banded` and `float_path` into what leaves."""

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from shared.privacy import banded
from shared.privacy.accounting import MOST_NOISE, Release
from shared.privacy.banded import Carry
from shared.privacy.clip import LEAST_CLIP, MOST_CLIP, STEPS, Integers, clipped_rows, clipped_sum
from shared.privacy.guarantee import ClippedSum, NoisedSum
from shared.privacy.integers import COORDINATES
from shared.privacy.noise import add_noise
from shared.privacy.source import Stream

Update = NDArray[Any]  # what leaves: int32 grid units on the exact path, float32 on the float path
WIDEST = np.iinfo(np.int32)


@dataclass(frozen=True)
class Mechanism:
    """The public parameters of one release.

    Attributes:
        sample_rate: probability with which a patient is drawn, on the mean over turns.
        clip_norm: C, the largest L2 norm of one patient's gradient.
        noise_multiplier: sigma; the noise has standard deviation sigma * C in every coordinate. 0 means no privacy.
        exact: integers with discrete Gaussian noise; False is the float path, which also serves without noise.
        bands: b of `shared.privacy.banded`; 1: every release has noise of its own, as DP-SGD's.

    Raises:
        ValueError: a number that is no such parameter, noise around an unclipped sum, an exact path without noise, bands without
            an exact path or that ask for a rate above 1, or numbers so small or large that arithmetic would break the guarantee.
    """

    sample_rate: float
    clip_norm: float
    noise_multiplier: float
    exact: bool = True
    bands: int = 1

    def __post_init__(self) -> None:
        """Refuse what would break the guarantee."""
        if not (0 < self.sample_rate <= 1 and self.clip_norm > 0 and 0 <= self.noise_multiplier < math.inf):
            raise ValueError(f"{self} is no mechanism")
        if self.clip_norm == math.inf and self.noise_multiplier > 0:
            raise ValueError("noise protects nobody without a clip norm")
        if self.exact and self.noise_multiplier == 0:
            raise ValueError("the exact path is for releases with noise")
        if self.noise_multiplier > 0 and not LEAST_CLIP <= self.clip_norm <= MOST_CLIP:
            raise ValueError(f"clip_norm {self.clip_norm} is outside {LEAST_CLIP:g} to {MOST_CLIP:g}: {self} is no mechanism")
        if self.noise_multiplier > MOST_NOISE:
            raise ValueError(f"noise_multiplier {self.noise_multiplier} is over {MOST_NOISE:g}: {self} is no mechanism")
        if self.bands != 1 and not (
            self.exact and 1 < self.bands <= banded.MOST_BANDS and self.bands * self.sample_rate <= 1 + 1e-9
        ):
            raise ValueError(f"{self.bands} bands at rate {self.sample_rate}: {self} is no mechanism")

    @property
    def noise_std(self) -> float:
        """The noise's standard deviation in every coordinate of a release; with bands, late in a long run."""
        return self.noise_multiplier * self.clip_norm * banded.height(self.bands) if self.noise_multiplier else 0.0

    @property
    def draw_rate(self) -> float:
        """Probability with which a patient is drawn in a turn of its group: with one band, in every turn."""
        return min(1.0, self.bands * self.sample_rate)

    @property
    def dtype(self) -> np.dtype[Any]:
        """The dtype of what leaves."""
        return np.dtype(np.int32 if self.exact else np.float32)

    @property
    def spends(self) -> Release:
        """One release as the accountant takes it; how many of them a run makes, `releases` says."""
        return Release(self.draw_rate, self.noise_multiplier, STEPS if self.exact else None)

    def releases(self, sums: int, turn: int = 0) -> int:
        """Return as how many releases the accountant takes so many noised sums, from a run's turn `turn` on."""
        return banded.releases(sums, self.bands, turn)

    @property
    def grid(self) -> float:
        """How much of a gradient one unit of what leaves is."""
        return self.clip_norm / STEPS if self.exact else 1.0


def without_privacy(sample_rate: float) -> Mechanism:
    """Return the mechanism that neither clips nor adds noise: for comparison in simulations only."""
    return Mechanism(sample_rate, math.inf, 0.0, exact=False)


def release(gradients: Tensor, mechanism: Mechanism, stream: Stream) -> NoisedSum:
    """Clip, sum and noise patient gradients (N, P+L, D); N may be 0, which releases noise alone.

    The patients must be a Poisson draw at `mechanism.sample_rate`; a second call needs a new draw and a new stream.
    A patient whose gradient is not finite counts as zero on either path.

    Raises `ValueError` for more coordinates than the accountant reckons with.
    """
    if math.prod(gradients.shape[1:]) > COORDINATES:
        raise ValueError(f"{tuple(gradients.shape[1:])} are more than the {COORDINATES} coordinates that epsilon is proven for")
    if mechanism.exact:
        return add_noise(clipped_sum(gradients, mechanism.clip_norm), mechanism.noise_multiplier, stream)
    from shared.privacy.float_path import float_release  # noqa: PLC0415 (Opacus takes a second to import)

    return float_release(gradients, mechanism.clip_norm, mechanism.noise_multiplier, stream)


def parts_of(gradients: Tensor, mechanism: Mechanism) -> Integers:
    """Clip patient gradients (N, P+L, D), and cut each into what its turn and the ones after it take: (b, N, K). Secret.

    Raises `ValueError` as `release` does.
    """
    if mechanism.bands * math.prod(gradients.shape[1:]) > COORDINATES:
        raise ValueError(f"{mechanism.bands} bands are more than the {COORDINATES} coordinates that epsilon is proven for")
    return banded.parts(clipped_rows(gradients, mechanism.clip_norm), mechanism.bands)


def release_in_turn(sums: Integers, mechanism: Mechanism, stream: Stream, carry: Carry) -> tuple[NoisedSum, Carry]:
    """Noise a turn's sums of parts (b, K), of patients of the turn's group only; return what leaves (K,), and what is taken along.

    A second call needs a new draw and a new stream, and the carry that the first one returned, if what left was charged.
    """
    total, owed = banded.due(carry, sums)  # (K,), (b-1, K)
    noised = add_noise(ClippedSum(total, STEPS, mechanism.grid), mechanism.noise_multiplier, stream)
    left = banded.told(carry, noised.value)  # (K,)
    return replace(noised, value=left), banded.after(carry, owed, left)


def encode(total: Update, mechanism: Mechanism) -> Update:
    """Return a sum of released values as what leaves; a value past int32 is set to its end, whatever the data."""
    if mechanism.exact:
        total = np.clip(total, WIDEST.min, WIDEST.max)
    return total.astype(mechanism.dtype)


def decode(update: Update, mechanism: Mechanism) -> NDArray[np.float64]:
    """Return what left as a sum of gradients, float64."""
    return update.astype(np.float64) * mechanism.grid
