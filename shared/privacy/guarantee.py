"""What a number promises: the types that clipping hands to noise, and noise to whoever releases the result."""

from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray


@dataclass(frozen=True)
class ClippedSum:
    """A sum that one patient can move by at most `l2_sensitivity`. Secret: it has no noise yet.

    Attributes:
        value: the sum in units of `grid`, (P+L, D): int64 on the exact path, float64 on the float path.
        l2_sensitivity: in the same units.
        grid: how much of a gradient one unit is.
        unit: whose presence is bounded.
        adjacency: between which datasets.
    """

    value: NDArray[Any]
    l2_sensitivity: float
    grid: float
    unit: str = "patient"
    adjacency: str = "add-or-remove-one"


@dataclass(frozen=True)
class NoisedSum:
    """A sum with Gaussian noise: what may leave.

    Attributes:
        value: in units of `grid`, (P+L, D): int64 with discrete noise, float64 with continuous noise.
        l2_sensitivity: of the sum before noise, in the same units.
        noise_scale: the noise's parameter s in the same units.
        grid: how much of a gradient one unit is.
    """

    value: NDArray[Any]
    l2_sensitivity: float
    noise_scale: float
    grid: float
    unit: str = "patient"
    adjacency: str = "add-or-remove-one"

    @property
    def rho(self) -> float:
        """Zero-concentrated privacy of this one release, not counting the draw (Canonne et al. 2020, theorem 14)."""
        return (self.l2_sensitivity / self.noise_scale) ** 2 / 2
