"""Statistics that convict: is noise of the stated scale and law, is a draw Poisson, are streams independent of each other?

Every function takes what was observed and what was stated, and returns p-values: the chance that a right implementation
looks at least this wrong. Nobody who runs them on a production round may publish more than pass or fail: a residual's
statistic tells datasets apart (privacy.md §0, finding 10). Run them on synthetic patients, or on none.
"""

import itertools
from dataclasses import astuple, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

LEVEL = 1e-4  # below it, a statistic convicts: of ten thousand right implementations it accuses one
CELLS = 64

Numbers = NDArray[Any]


@dataclass(frozen=True)
class NoiseEvidence:
    """P-values of noise: its scale by the sum of squares, its law by how often each value comes."""

    scale: float
    law: float

    @property
    def p_value(self) -> float:
        """The smaller p-value, corrected for having looked twice."""
        return _corrected(self.scale, self.law)


@dataclass(frozen=True)
class DrawEvidence:
    """P-values of draws; see `examine_draws`."""

    rate: float
    size: float
    patients: float
    pairs: float
    rounds: float

    @property
    def p_value(self) -> float:
        """The smallest p-value, corrected for having looked five times."""
        return _corrected(*astuple(self))


def examine_noise(noise: Numbers, scale: float) -> NoiseEvidence:
    """Return the evidence against noise that states to be Gaussian of this scale, in its own units.

    Integers are held against the discrete Gaussian, floating-point numbers against the continuous one. The sum of squares
    over scale^2 is chi-squared with as many degrees of freedom as there are numbers, up to 1e-3 for the discrete law from
    scale 0.7 on; it sees a scale that is off by 10 % in 8,000 numbers with a p-value under 1e-20.
    """
    flat = noise.astype(np.float64).ravel()
    of_scale = _two_sided(stats.chi2(flat.size), float((flat / scale) @ (flat / scale)))
    if np.issubdtype(noise.dtype, np.integer):
        return NoiseEvidence(of_scale, _discrete_law(noise.ravel(), scale))
    return NoiseEvidence(of_scale, float(stats.kstest(flat, "norm", args=(0, scale)).pvalue))


def examine_draws(drawn: NDArray[np.bool_], rate: float) -> DrawEvidence:
    """Return the evidence against draws that state to be Poisson at this rate, each from its own stream.

    Args:
        drawn: who was in, (T rounds, N patients), with T * N * rate of a thousand or more.
        rate: below 1.

    | p-value | sees |
    |---|---|
    | `rate` | another rate: the binomial test of all coins |
    | `size` | shuffling, a fixed or a capped size: the variance of a round's number of patients |
    | `patients` | weighted draws, and epochs in which everybody comes up once: the variance of a patient's number of rounds |
    | `pairs` | patients who come together, or never: the squared correlations of all pairs |
    | `rounds` | a draw that is used twice, or steered by the one before: the correlation of neighbouring rounds |
    """
    rounds, patients = drawn.shape
    coin = rate * (1 - rate)
    centred = (drawn - rate) / np.sqrt(coin)  # (T, N), mean 0 and variance 1
    sizes = float((centred.sum(1) ** 2).sum() / patients)
    counts = float((centred.sum(0) ** 2).sum() / rounds)
    following = float((centred[:-1] * centred[1:]).sum() / np.sqrt((rounds - 1) * patients))
    return DrawEvidence(
        rate=float(stats.binomtest(int(drawn.sum()), drawn.size, rate).pvalue),
        size=_two_sided(stats.chi2(rounds), sizes),
        patients=_two_sided(stats.chi2(patients), counts),
        pairs=_pairs(centred, 1 / coin - 3),
        rounds=_two_sided(stats.norm(), following),
    )


def shared_stream(releases: Numbers) -> float:
    """Return the p-value against noise of S releases (S, K) being independent, of rounds, steps or sites.

    Every two rows are correlated number by number, which sees a common part of a tenth of the variance in 4,000 numbers; and
    at every rotation, with themselves too, which sees a key stream that is used twice at another offset. The p-value is
    Bonferroni's over all of these correlations.
    """
    rows = releases.reshape(len(releases), -1).astype(np.float64)
    rows = rows - rows.mean(1, keepdims=True)
    rows = rows / np.sqrt((rows**2).mean(1, keepdims=True))
    count = rows.shape[1]
    spectra = np.fft.rfft(rows, axis=1)
    aligned, rotated = [0.0], [0.0]
    for one, other in itertools.combinations_with_replacement(range(len(rows)), 2):
        z = np.fft.irfft(spectra[one] * spectra[other].conj(), count) / np.sqrt(count)  # at every rotation
        rotated.append(float(np.abs(z[1:]).max()))
        if one != other:
            aligned.append(float(abs(z[0])))
    pairs = len(rotated) - 1
    return _corrected(_worst(max(aligned), len(aligned) - 1), _worst(max(rotated), pairs * (count - 1)))


def _pairs(centred: NDArray[np.float64], fourth: float) -> float:
    """Return the p-value of all pairs' squared correlations together; `fourth` is a standardised coin's fourth moment.

    The sum of P squared correlations, each times T, has mean P; two that share a patient are correlated themselves, because a
    round in which that patient is in weighs more. Its variance below is exact for independent coins.
    """
    rounds, patients = centred.shape
    gram = centred.T @ centred / np.sqrt(rounds)  # (N, N)
    total = float((np.triu(gram, 1) ** 2).sum())
    pairs = patients * (patients - 1) / 2
    variance = pairs * (2 + (fourth**2 - 3) / rounds) + 2 * pairs * (patients - 2) * (fourth - 1) / rounds
    return _two_sided(stats.gamma(pairs**2 / variance, scale=variance / pairs), total)


def _discrete_law(noise: Numbers, scale: float) -> float:
    """Chi-squared of up to 64 cells of whole numbers that the discrete Gaussian makes about equally likely."""
    reach = int(np.ceil(12 * scale))
    weight = np.exp(-((np.arange(-reach, reach + 1) / scale) ** 2) / 2)
    below = np.cumsum(weight) / weight.sum()
    cell = np.minimum((below * CELLS).astype(np.int64), CELLS - 1)  # of each whole number
    expected = np.bincount(cell, weight / weight.sum(), CELLS) * noise.size
    seen = np.bincount(cell[np.clip(noise, -reach, reach) + reach], minlength=CELLS)
    used = expected > 0
    return float(stats.chisquare(seen[used], expected[used]).pvalue)


def _worst(z: float, looks: int) -> float:
    """Return Bonferroni's p-value of the largest of so many standard normal numbers."""
    return min(1.0, 2 * looks * float(stats.norm.sf(z)))


def _two_sided(law: Any, value: float) -> float:
    return min(1.0, 2 * float(min(law.cdf(value), law.sf(value))))


def _corrected(*p_values: float) -> float:
    return min(1.0, len(p_values) * min(p_values))
