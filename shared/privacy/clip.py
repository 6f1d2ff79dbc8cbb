"""Clip every patient's gradient to an integer ball, and add them up exactly.

The L2 norm of a clipped gradient, in whole grid steps, is at most `STEPS` in exact integer arithmetic: coordinates are cut
toward zero, which lengthens nothing, and the rare gradient that floating point left a hair too long is shortened again.
So rounding does not inflate the sensitivity, and there is no inflation to account for.
"""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from shared.privacy.guarantee import ClippedSum

Integers = NDArray[np.int64]

LEAST_CLIP, MOST_CLIP = 1e-30, 1e30
STEPS = 20_000  # grid steps in one clip norm: the grid is clip_norm / 20,000


def drop_non_finite(gradients: Tensor) -> Tensor:
    """Set the whole gradient of a patient to zero where any entry is NaN or infinite: (N, ...) -> (N, ...).

    Done before clipping: a NaN would survive the clip factor and poison the sum, which tells that the patient is there.
    """
    finite = gradients.flatten(1).isfinite().all(1)  # (N,)
    return torch.where(finite.view(-1, *[1] * (gradients.dim() - 1)), gradients, 0.0)


def clipped_sum(gradients: Tensor, clip_norm: float) -> ClippedSum:
    """Return the sum of clipped patient gradients (N, P+L, D) in grid units; N may be 0.

    Formal guarantee: adding or removing one patient moves the value by an integer vector of L2 norm at most
    `l2_sensitivity`, whatever the gradients are, NaN and infinity included.

    | gradient of a patient | contributes |
    |---|---|
    | any entry NaN or infinite | zero |
    | zero | zero |
    | longer than `clip_norm` | the same direction, length at most `clip_norm` |

    Raises:
        ValueError: a clip norm that is no number, or where a double's quotients overflow or vanish.
    """
    total = clipped_rows(gradients, clip_norm).sum(0).reshape(gradients.shape[1:])  # (P+L, D)
    return ClippedSum(total, STEPS, clip_norm / STEPS)


def clipped_rows(gradients: Tensor, clip_norm: float) -> Integers:
    """Return each patient's clipped gradient in grid units, (N, ...) -> (N, K): secret, and of norm at most `STEPS` each.

    Raises `ValueError` as `clipped_sum` does.
    """
    if not LEAST_CLIP <= clip_norm <= MOST_CLIP:
        raise ValueError(f"clip_norm {clip_norm} is outside {LEAST_CLIP:g} to {MOST_CLIP:g}")
    flat = drop_non_finite(gradients).double().flatten(1).numpy()  # (N, K)
    biggest = np.abs(flat).max(1, initial=1e-300, keepdims=True)  # (N, 1); divides first, so that no square overflows
    scaled = flat / biggest
    norms = np.linalg.norm(scaled, axis=1, keepdims=True) * biggest  # (N, 1)
    factor = np.minimum(1.0, clip_norm / np.maximum(norms, 1e-300)) * (STEPS / clip_norm)
    whole = np.trunc(scaled * np.minimum(biggest * factor, STEPS)).astype(np.int64)  # (N, K)
    return _shortened(whole)


def _shortened(whole: Integers) -> Integers:
    """Shorten, in exact integers, every row whose squared norm is above STEPS^2."""
    while (long := (whole**2).sum(1) > STEPS**2).any():
        whole[long] = np.trunc(whole[long] * (1 - 1e-6)).astype(np.int64)
    return whole
