"""Exact discrete Gaussian noise on integers (Canonne, Kamath and Steinke 2020): P(x) proportional to exp(-x^2 / (2 s^2)).

A hospital draws it with OpenDP's sampler, exact in rational arithmetic, from the operating system's randomness. A
simulation, which must be repeatable, draws the same law by a table from its seeded stream.
"""

import functools
import math
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

from shared.errors import InputError
from shared.privacy.guarantee import ClippedSum, NoisedSum
from shared.privacy.source import SecureStream, Stream

Integers = NDArray[np.int64]

WIDEST = 2.0**40  # noise of this scale is far from the ends of 64 bits, where a sampler saturates
MOST_TABLED = 8e6  # the largest scale that a simulation's table, of 24 scales in long doubles, is made for: 3 GB
TAIL = 12  # the table ends at 12 s, beyond which lies less than 1e-32


def add_noise(clipped: ClippedSum, noise_multiplier: float, stream: Stream) -> NoisedSum:
    """Return the sum with discrete Gaussian noise of scale ``noise_multiplier * l2_sensitivity``.

    Args:
        clipped: says how far one patient can move it; the noise is scaled to that and to nothing else.
        noise_multiplier: sigma, above 0.
        stream: never used for anything else, and never again.

    Raises:
        ValueError: a noise multiplier that protects nobody, or noise that 64 bits cannot hold.
    """
    scale = noise_multiplier * clipped.l2_sensitivity
    if not 0 < scale <= WIDEST:
        raise ValueError(
            f"noise_multiplier {noise_multiplier} protects nobody: the noise's scale is to be above 0 and at most {WIDEST:g}"
        )
    noise = discrete_gaussian(clipped.value.size, scale, stream).reshape(clipped.value.shape)
    return NoisedSum(clipped.value + noise, clipped.l2_sensitivity, scale, clipped.grid, clipped.unit, clipped.adjacency)


def discrete_gaussian(count: int, scale: float, stream: Stream) -> Integers:
    """Return `count` independent draws of the discrete Gaussian with parameter `scale`."""
    if isinstance(stream, SecureStream):
        return _exact(count, scale)
    return _tabled(count, scale, stream)


def _exact(count: int, scale: float) -> Integers:
    """OpenDP's exact sampler; no seed reaches it."""
    return np.array(_measurement(scale)([0] * count), dtype=np.int64)


@functools.lru_cache(maxsize=8)
def _measurement(scale: float) -> Any:
    import opendp.prelude as dp  # noqa: PLC0415 (a native library)

    dp.enable_features("contrib")
    return dp.m.make_gaussian(dp.vector_domain(dp.atom_domain(T="i64")), dp.l2_distance(T=float), scale=scale)


def _tabled(count: int, scale: float, stream: Stream) -> Integers:
    """Invert the distribution function at 63-bit uniforms: off from the law by less than 1e-12 in total variation.

    The continuous Gaussian's inverse says where in the table to look, and the table decides: several times as fast as a
    binary search that misses the cache, and the same numbers.
    """
    low, table = _table(scale)
    words = stream.words(count) >> np.uint64(1)
    near = np.ceil(ndtri((words.astype(np.float64) + 0.5) * 2.0**-63) * scale - 0.5) - low
    found: Integers = np.clip(near, 0, len(table)).astype(np.int64)
    while (up := (found < len(table)) & (table[np.minimum(found, len(table) - 1)] <= words)).any():
        found[up] += 1
    while (down := (found > 0) & (table[np.maximum(found - 1, 0)] > words)).any():
        found[down] -= 1
    return found + low


@functools.lru_cache(maxsize=4)
def _table(scale: float) -> tuple[int, NDArray[np.uint64]]:
    """Return the smallest value, and the distribution function in units of 2^-63 up to each value."""
    if scale > MOST_TABLED:
        raise InputError(f"noise of {scale:g} grid steps is more than a simulation draws; raise epsilon or lower noise_multiplier.")
    reach = math.ceil(TAIL * scale)
    x = np.arange(-reach, reach + 1, dtype=np.longdouble)
    weight = np.exp(-((x / np.longdouble(scale)) ** 2) / 2)
    below = np.cumsum(weight)
    return -reach, (below[:-1] / below[-1] * np.longdouble(2) ** 63).astype(np.uint64)
