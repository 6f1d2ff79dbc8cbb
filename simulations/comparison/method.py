"""What a method of a comparison is: a start, per-record gradients, and what it predicts. A new method is a file and a name."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from shared.prompt import Array

Probabilities = NDArray[np.float32]  # (M, L)
AddClipped = Callable[[Tensor, Sequence[Tensor], Tensor, float], None]


@dataclass(frozen=True)
class Method:
    """A way of tuning, on one split. All that it trains is one flat tensor theta (K,).

    Attributes:
        start: theta before round 1, from public facts only.
        record_gradients: (numbers of training records (R,), theta) -> the gradient of each record's own loss, (R, K).
        probabilities: theta -> label probabilities of all test records, (M, L).
        batch: records whose gradients are held at once.
        add_clipped: (total, records of each of n patients, theta, clip norm) adds the patients' clipped gradients to total (K,) in
            floating point; None: they are made one by one by `record_gradients`, the readable twin.
    """

    start: Array
    record_gradients: Callable[[Tensor, Tensor], Tensor]
    probabilities: Callable[[Tensor], Probabilities]
    batch: int = 128
    add_clipped: AddClipped | None = None

    @property
    def nbytes(self) -> int:
        """What a site sends in a round, in bytes: four a number, on the exact path and on the float path."""
        return self.start.size * 4
