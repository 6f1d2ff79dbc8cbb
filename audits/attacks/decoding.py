"""The best linear reading of an update: who is in a noised sum of known gradients?

An update is ``u = sum_j w_j g_j + noise``, where g_j are the clipped gradients of candidates, which whoever knows a candidate's
record and the broadcast prompt can compute, w_j are independent coins, and the noise has standard deviation s in every
coordinate. Reading one candidate, the others are noise too, of mean ``p_j g_j`` and covariance ``v_j g_j g_j^T``. With both
taken as Gaussian, whether i is in is told best by the log-likelihood ratio

    LLR_i = h_i . (u - mean_-i) - g_i . h_i / 2,    h_i = (s^2 I + sum_{j != i} v_j g_j g_j^T)^-1 g_i,

the matched filter of detection theory; ridge decoding is the same up to scale (privacy.md §5). It is computed for all candidates
at once in K x K instead of d x d: with A the candidates' gradients scaled by sqrt(v), B = (A A^T + s^2 I)^-1, and a step of
Sherman and Morrison that takes each candidate out of its own background.
Letters in shape comments: K candidates, d coordinates, U updates.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Numbers = NDArray[np.float64]
RANK, TINY = 1e-9, 1e-12  # directions that float32 gradients do not have; what stands for no noise at all
LEAST_FREE = 8  # coordinates outside the span from which the noise can be told


@dataclass(frozen=True)
class Background:
    """What an attacker believes of each candidate before seeing the update: mean p_j and variance v_j > 0 of w_j, both (K,)."""

    mean: Numbers
    variance: Numbers

    @classmethod
    def coins(cls, rate: float | Numbers, candidates: int) -> "Background":
        """Return that of coins with this chance of "in" (a number, or one a candidate); a sure coin keeps a little doubt."""
        mean = np.broadcast_to(np.asarray(rate, dtype=np.float64), candidates)
        return cls(mean, np.maximum(mean * (1 - mean), 1e-3))


def log_likelihood_ratios(gradients: Numbers, updates: Numbers, noise: float, background: Background) -> Numbers:
    """Return each candidate's LLR of being in each update, (U, K); above 0 says "in" where both are equally likely.

    Args:
        gradients: the candidates' clipped gradients (K, d).
        updates: (U, d), in the same units.
        noise: s > 0 as it is stated; where what no candidate explains is smaller, the attacker believes that instead.
        background: the attacker's prior.
    """
    seen, gain = _ridge(gradients, updates, noise, background)
    energy = gain / background.variance  # (K,): g_i . h_i before i is taken out of its own background
    return (seen / background.variance + (background.mean - 0.5) * energy) / (1 - gain)


def estimates(gradients: Numbers, updates: Numbers, noise: float, background: Background) -> Numbers:
    """Return the best linear estimate of every w_j, (U, K): ridge decoding; arguments as above."""
    return background.mean + _ridge(gradients, updates, noise, background)[0]


def _ridge(gradients: Numbers, updates: Numbers, noise: float, background: Background) -> tuple[Numbers, Numbers]:
    """Return how far each update moves the estimate of each w_j (U, K), and how much of w_j an update shows (K,), below 1."""
    noise = min(noise, _unexplained(gradients, updates))
    root = np.sqrt(background.variance)  # (K,)
    scaled = gradients * root[:, None]  # (K, d)
    values, vectors = np.linalg.eigh(scaled @ scaled.T)  # (K,), (K, K)
    values = np.maximum(values, 0.0)
    gain = np.clip((vectors**2) @ (values / (values + noise**2)), 0.0, 1 - 1e-12)  # (K,)
    rest = updates - background.mean @ gradients  # (U, d)
    return ((rest @ scaled.T) @ vectors / (values + noise**2)) @ vectors.T * root, gain


def _unexplained(gradients: Numbers, updates: Numbers) -> float:
    """Return the size, a coordinate, of what the gradients' span does not hold of the updates: the noise, if all are candidates."""
    _, sizes, directions = np.linalg.svd(gradients, full_matrices=False)
    spanned = directions[sizes > RANK * max(sizes.max(initial=0.0), TINY)]  # (r, d)
    free = gradients.shape[1] - len(spanned)
    if free < LEAST_FREE:
        return math.inf
    rest = updates - (updates @ spanned.T) @ spanned
    return max(float(np.sqrt((rest**2).sum() / (free * len(updates)))), TINY)


def drawn_at_rate(ratios: Numbers, rate: float) -> Numbers:
    """Return the LLR of being a member who is drawn with probability `rate`, from that of being drawn; any shape.

    Summed over rounds with independent draws it is the attacker's score of a whole run.
    """
    return np.logaddexp(np.log1p(-rate) if rate < 1 else -np.inf, np.log(rate) + ratios)  # type: ignore[no-any-return]


def best_of(candidates: Numbers, update: Numbers) -> int:
    """Return which of k equally likely gradients (k, d) an update (d,) with isotropic noise holds: the nearest one."""
    return int(((candidates - update) ** 2).sum(-1).argmin())
