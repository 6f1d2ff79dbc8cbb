"""Auditing the whole training in one run: trade-off functions, the f-DP test of one run's guesses, and what to guess.

A trade-off function is given by ``x = inverse(y)``, the inverse of 1 - f: the least false positive rate x at which a test of
power y can exist. Larger is more private. `gaussian` is exact; `poisson` takes the PLD's curve of upper bounds on delta, so
that it is at most the true one, and what it rejects is rejected rightly.
"""

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr, ndtri

from shared.privacy.accounting import MOST_NOISE, Release, deltas, epsilon_of

Numbers = NDArray[Any]
Inverse = Callable[[Numbers], Numbers]
RATIOS = tuple(np.geomspace(0.25, 8.0, 351).tolist())  # of the claimed noise: the nulls of `noise_bound`, 1 % apart


@dataclass(frozen=True)
class Claim:
    """What a run claims of every patient: `releases` sums of a Poisson draw plus Gaussian noise, and delta.

    `per_round` releases are seen as one sum.
    """

    sample_rate: float
    noise_multiplier: float
    releases: int
    delta: float
    per_round: int = 1

    @functools.cached_property
    def epsilon(self) -> float:
        """The claimed epsilon (PLD)."""
        return epsilon_of([Release(self.sample_rate, self.noise_multiplier)] * self.releases, self.delta)

    @property
    def rounds(self) -> int:
        """The number of sums that are seen."""
        return self.releases // self.per_round


def gaussian(mu: float | Numbers) -> Inverse:
    """Return the trade-off function of mu-Gaussian DP (Dong et al. 2022, equation 6)."""
    return lambda y: np.asarray(ndtr(ndtri(y) - mu))


def poisson(claim: Claim, ratio: float = 1.0) -> Inverse:
    """Return the trade-off function of a claim with `ratio` times its noise; exact where everybody is in every step."""
    noise = min(claim.noise_multiplier * ratio, MOST_NOISE)
    if claim.sample_rate == 1:
        return gaussian(math.sqrt(claim.releases) / noise)
    eps, tops = _curve(claim.sample_rate, noise, claim.releases)

    def inverse(y: Numbers) -> Numbers:
        column = np.asarray(y)[..., None]  # (..., 1) against (points,)
        lines = np.maximum((column - tops) * np.exp(-eps), 1 - tops - np.exp(eps) * (1 - column))
        return np.asarray(np.clip(lines.max(-1), 0.0, 1.0))

    return inverse


@functools.lru_cache(maxsize=256)
def _curve(sample_rate: float, noise: float, releases: int) -> tuple[Numbers, Numbers]:
    """Return points of epsilon and upper bounds of delta there: f is the largest of the lines through them."""
    eps = np.concatenate([np.linspace(0, 4, 33), np.linspace(4.25, 12, 32)])
    return eps, np.array(deltas(sample_rate, noise, releases, tuple(eps.tolist())))


def rejects(inverse: Inverse, canaries: int, guesses: int, correct: int, alpha: float, alphabet: int = 2) -> NDArray[np.bool_]:
    """Return whether f-DP is rejected at level alpha by one run's guesses (Mahloujifar, Melis and Chaudhuri 2024, theorem 8).

    Args:
        inverse: of the trade-off function, see the module; where it takes many parameters, so does the answer.
        canaries: m, each with a uniform secret out of `alphabet`, independent of all others.
        guesses: c', of how many canaries the secret was guessed; the auditor may choose which by the scores.
        correct: c.
        alpha: level.
        alphabet: k; 2 is membership, more is reconstruction or an attribute.
    """
    if not guesses or not correct:
        return np.zeros(np.shape(inverse(np.array(0.5))), bool)
    right = np.full(np.shape(inverse(np.array(0.5))), alpha * correct / canaries)  # r_c
    wrong = np.full_like(right, alpha * (guesses - correct) / canaries)  # h_c
    for i in range(correct - 1, -1, -1):
        more = np.maximum(wrong, (alphabet - 1) * inverse(np.minimum(right, 1.0)))
        right, wrong = right + i / (guesses - i) * (more - wrong), more
        if np.all(right + wrong > guesses / canaries):
            break  # both only grow
    return np.asarray(right + wrong > guesses / canaries)


def largest_mu(canaries: int, guesses: int, correct: int, alpha: float, alphabet: int = 2) -> float:
    """Return the largest mu of Gaussian DP, to 1 %, that `rejects`; 0 where none is. A certificate for secrets of any alphabet."""
    grid = np.concatenate([[1e-9], np.geomspace(0.01, 20, 764)])
    found = rejects(gaussian(grid), canaries, guesses, correct, alpha, alphabet)
    return float(grid[found].max()) if found[1:].any() else 0.0


def noise_bound(claim: Claim, canaries: int, guesses: int, correct: int, alpha: float, whole: Claim) -> float:
    """Return the lower bound on epsilon of one run against the nulls "the claim with r times its noise"; 0 where none is rejected.

    The nulls are nested, so the bound is epsilon at the least r that is rejected; it is the epsilon of `whole`, of which `claim`
    is the segment that was guessed about.
    """
    ratio = least_rejected(claim, canaries, guesses, correct, alpha)
    if ratio is None:
        return 0.0
    one = Release(whole.sample_rate, min(whole.noise_multiplier * ratio, MOST_NOISE))
    return epsilon_of([one] * whole.releases, whole.delta)


def least_rejected(
    claim: Claim, canaries: int, guesses: int, correct: int, alpha: float, ratios: tuple[float, ...] = RATIOS
) -> float | None:
    """Return the least of `ratios`, in growing order, at which the claim with that many times its noise is rejected."""
    low, high = -1, len(ratios)  # low is not rejected, high is, or lies beyond
    while high - low > 1:
        middle = (low + high) // 2
        found = bool(rejects(poisson(claim, ratios[middle]), canaries, guesses, correct, alpha))
        low, high = (low, middle) if found else (middle, high)
    return ratios[high] if high < len(ratios) else None
