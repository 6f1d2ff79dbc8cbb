"""Noise that partly cancels over rounds: DP-FTRL by a banded matrix, on whole numbers, with DP-SGD's amplification by sampling.

Notation: b bands; turn t = 0, 1, ... counts a site's releases in a run; x_i is patient i's clipped gradient, whole numbers of L2
norm at most D; c_0 ... c_{b-1} >= 0 are public weights with ``sum c_j^2 <= 1``. Every patient belongs to one of b groups, by its
name alone. In turn t patients of group ``t mod b`` are drawn, each with probability p, and no others.

    y_t = sum_{j<b} sum_{i drawn in turn t-j} trunc(c_j x_i) + z_t     secret; z_t discrete Gaussian of parameter s
    u_t = round((y_t - sum_{0<j<b} c_j u_{t-j}) / c_0)                 leaves

Up to rounding, u_t is the turn's clipped sum plus ``(C^-1 z)_t``, where C is the lower triangular Toeplitz matrix of the weights:
what one turn adds as noise, later turns take back in part. The weights are those of the banded square root (Kalinin and Lampert
2024), the first b coefficients of ``1 / sqrt(1 - w)``; with as many bands as turns, C C is the matrix of all running sums
(Fichtenberger et al. 2023). Choquette-Choo et al. (2023) showed that banded matrices keep the amplification by sampling. For
these integers:

**Theorem.** u_0, ..., u_{T-1}, with gradients that may depend on what was sent before, are as private as ``ceil(T / b)`` adaptive
releases of sums over Poisson draws of rate p, of vectors of norm at most D, with noise of parameter s, in b d coordinates each.

*Proof.* u is computed from y and public numbers, so take y. Patient a of group g can be drawn in turns g, g + b, g + 2b, ...; let
block k be the b turns from g + kb on. x_a, as drawn in the first turn of block k, enters y in the turns of block k only, by the
vector ``v = (trunc(c_0 x_a), ..., trunc(c_{b-1} x_a))``, of squared norm at most ``sum c_j^2 |x_a|^2 <= D^2``. Tell the adversary
everybody else's draws and data, which makes it stronger. In a block, y_t minus what others add, a function of what was sent
before, is then ``coin v_j + z_t``: one release of a single vector of norm at most D under one coin. What comes before block 0 has
nothing of a, and blocks are composed adaptively. At most ``ceil(T / b)`` of them begin before T. ∎

So `shared.privacy.integers` holds as it stands, with b d coordinates a release.

Letters in shape comments: N patients, K numbers of the prompt.
"""

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Integers = NDArray[np.int64]

BITS = 20  # weights are whole multiples of 2^-20, so that the square sum is bounded exactly
MOST_BANDS = 64
LONG = 10_000  # turns after which noise is taken to have reached its full height


@dataclass(frozen=True)
class Carry:
    """What a site takes from one turn to the next. Secret: `owed` has no noise on it.

    Attributes:
        turn: the turn to come, from 0.
        owed: (b-1, K), what earlier turns' patients will add to the next releases, the nearest first.
        sent: (b-1, K), the last releases, the newest first.
    """

    turn: int
    owed: Integers
    sent: Integers


def fresh(bands: int, numbers: int) -> Carry:
    """Return what a run begins with."""
    return Carry(0, *(np.zeros((bands - 1, numbers), dtype=np.int64) for _ in range(2)))


@functools.lru_cache(maxsize=16)
def weights(bands: int) -> tuple[int, ...]:
    """Return the b weights in units of 2^-20, whose squares sum to at most 1.

    >>> weights(1)
    (1048576,)
    >>> [round(c / weights(4)[0], 3) for c in weights(4)]  # 1, 1/2, 3/8, 5/16
    [1.0, 0.5, 0.375, 0.312]
    """
    bare = [math.comb(2 * j, j) / 4**j for j in range(bands)]
    length = math.hypot(*bare)
    found = tuple(math.floor(c / length * 2**BITS) for c in bare)
    assert sum(k * k for k in found) <= 4**BITS  # noqa: S101 (exact integers; the theorem rests on it)
    return found


def parts(rows: Integers, bands: int) -> Integers:
    """Return trunc(c_j x) of clipped rows (N, K): (b, N, K); the squared norms of a patient's b parts sum to at most |x|^2."""
    return np.stack([np.sign(rows) * (np.abs(rows) * k >> BITS) for k in weights(bands)])


def due(carry: Carry, sums: Integers) -> tuple[Integers, Integers]:
    """Return the sum to be noised in this turn (K,), and what is owed after it (b-1, K), from this turn's sums of parts (b, K)."""
    later = np.concatenate([carry.owed[1:], np.zeros_like(sums[:1])])[: len(carry.owed)] + sums[1:]  # (b-1, K)
    return sums[0] + (carry.owed[0] if len(carry.owed) else 0), later


def told(carry: Carry, noised: Integers) -> Integers:
    """Return what leaves (K,): the noised sum with what earlier releases have said of it taken away."""
    first, *rest = (k / 2**BITS for k in weights(len(carry.sent) + 1))
    said = sum((c * u for c, u in zip(rest, carry.sent, strict=True)), np.zeros(noised.shape))  # (K,)
    left: Integers = np.rint((noised - said) / first).astype(np.int64)
    return left


def restored(releases: Sequence[NDArray[Any]], bands: int) -> NDArray[np.float64]:
    """Return the noised sum y_t that a release was made of, up to rounding: its noise shares nothing with other turns'.

    `releases` are the site's u_t, u_{t-1}, ..., the newest first: b of them, or fewer where the run has no more.
    """
    pairs = zip(weights(bands), releases, strict=False)
    return np.sum([k / 2**BITS * u.astype(np.float64) for k, u in pairs], axis=0)  # type: ignore[no-any-return]


def after(carry: Carry, owed: Integers, left: Integers) -> Carry:
    """Return what is taken to the next turn, when `left` (K,) is what leaves."""
    return Carry(carry.turn + 1, owed, np.concatenate([left[None], carry.sent])[: len(carry.sent)])


def height(bands: int) -> float:
    """Return how many times s the noise of a single release is, when a run is long: the length of a row of C^-1.

    >>> height(1)
    1.0
    >>> round(height(2), 3)  # 1, -1/2, 1/4, ... : sqrt(4/3), times sqrt(1 + 1/4)
    1.291
    """
    return float(np.linalg.norm(inverse(bands, LONG)))


@functools.lru_cache(maxsize=16)
def inverse(bands: int, turns: int) -> NDArray[np.float64]:
    """Return the first column of C^-1 (T,): the noise of turn 0 in the releases from there on; it is a Toeplitz matrix too."""
    first, *rest = (k / 2**BITS for k in weights(bands))
    found = np.zeros(turns)
    found[0] = 1 / first
    for t in range(1, turns):
        back = found[max(0, t - len(rest)) : t][::-1]
        found[t] = -(back @ np.array(rest[: len(back)])) / first
    return found


def groups(keys: NDArray[np.uint64], bands: int) -> NDArray[np.int64]:
    """Return each patient's group (N,), from a number that hangs on the patient's name alone."""
    return (keys % np.uint64(bands)).astype(np.int64)


def releases(turns: int, bands: int, turn: int = 0) -> int:
    """Return the theorem's releases that begin in so many turns from `turn` on: one in each of the turns 0, b, 2b, ...

    From turn 0 on they are ``ceil(T / b)``: what the patients of group 0 spend, and those of other groups spend that or less.

    >>> releases(10, 4), releases(10, 4, turn=1), releases(10, 1)
    (3, 2, 10)
    """
    return -(-(turn + turns) // bands) - -(-turn // bands)
