"""Epsilon from releases, by three accountants that check each other.

Published is the number of dp-accounting's privacy loss distribution (PLD); Opacus' PRV and RDP accountants are recomputed
beside it. Opacus' GDP accountant is not offered, because it reports less than was spent (privacy.md, table 2.1). All three
know the continuous Gaussian only; `shared.privacy.integers` proves that their numbers, at the slightly smaller multiplier
that is used here, hold for the integers as they are drawn.
"""

import functools
import math
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from shared.errors import InputError
from shared.privacy.integers import SMOOTH, continuous_multiplier, slack

WHOLE_ORDERS = (*range(2, 128), 160, 192, 256, 384, 512, 1024)
ORDERS = (*(1 + x / 10 for x in range(1, 100) if x % 10), *WHOLE_ORDERS)

MOST_NOISE = 10_000.0  # the largest noise multiplier of any plan
FINE, COARSE = 1e-4, 1e-3  # discretisation of the privacy loss; the result is an upper bound at either


@dataclass(frozen=True)
class Release:
    """One release: the sum over a Poisson draw of patients, of whom each moves it by at most D in L2 norm, plus Gaussian noise.

    Unit: patient, with all records that the patient has: what one patient can do is bounded by D whatever their number, so
    the records of a patient appear nowhere here. Adjacency: add or remove one patient.

    Attributes:
        sample_rate: probability with which a patient is drawn; 1 where nobody is drawn and everybody is in.
        noise_multiplier: the noise's scale divided by D.
        steps: D in steps of the integer grid, with discrete Gaussian noise; None: real numbers with continuous noise.
    """

    sample_rate: float
    noise_multiplier: float
    steps: float | None = None

    def __post_init__(self) -> None:
        """Refuse what has no finite epsilon, and what is no release."""
        if not self.noise_multiplier > 0:
            raise InputError("a release without noise has no finite epsilon; it cannot be accounted.")
        if not (0 < self.sample_rate <= 1 and self.noise_multiplier < math.inf):
            raise InputError(f"{self} cannot be accounted; the rate is above 0 and at most 1, the noise multiplier finite.")


@dataclass(frozen=True)
class Spent:
    """What a list of releases spent, with everything that the number means.

    Attributes:
        epsilon: published: the privacy loss distribution. For integers it is proven for the noise as drawn, by the theorem of
            `shared.privacy.integers`; for real numbers it is that of real arithmetic, which floating point only imitates.
        delta: the delta of all four numbers.
        prv: cross-check, proven for the integers in the same way.
        rdp: cross-check, proven for the integers in the same way.
        rigorous: Rényi accounting at whole orders, proven for the discrete Gaussian by another road. Canonne et al. (2020,
            proposition 5) bound each moment by the continuous Gaussian's, the moments of a Poisson draw are sums of those with
            positive weights, and the reflection x -> shift - x makes removing a patient the worse direction (Mironov et al.
            2019, theorem 5).
        releases: how many noised sums.
    """

    epsilon: float
    delta: float
    prv: float
    rdp: float
    rigorous: float
    releases: int
    accountant: str = "PLD"
    unit: str = "patient"
    adjacency: str = "add-or-remove-one"


def spent(releases: Iterable[Release], delta: float) -> Spent:
    """Compose releases, of several tasks too, jointly on the same patients; no release spends nothing.

    Raises `InputError` for a delta that is none, or integers whose noise is too coarse for a proof.
    """
    counts = Counter(releases)
    total, drawn = _composed(counts, delta), _grouped(counts, _as_drawn)
    if not counts:
        return Spent(0.0, delta, 0.0, 0.0, 0.0, 0)
    rigorous = _rdp(_Composed(drawn, 0.0), delta, WHOLE_ORDERS)
    return Spent(_pld(total, delta), delta, _prv(total, delta), _rdp(total, delta, ORDERS), rigorous, counts.total())


def epsilon_of(releases: Iterable[Release], delta: float, interval: float = COARSE) -> float:
    """Return the PLD epsilon, an upper bound on a grid of this interval; the coarse one is eight times faster."""
    total = _composed(Counter(releases), delta)
    return _pld(total, delta, interval) if total.counts else 0.0


def epsilon(sample_rate: float, noise_multiplier: float, releases: int, delta: float, steps: float | None = None) -> float:
    """Return the PLD epsilon of `releases` equal releases."""
    one = Release(sample_rate, noise_multiplier, steps)
    return _pld(_composed(Counter({one: releases}), delta), delta)


def deltas(sample_rate: float, noise_multiplier: float, releases: int, epsilons: tuple[float, ...]) -> list[float]:
    """Return upper bounds on delta at each epsilon, of equal releases with continuous noise (PLD, coarse grid)."""
    one = Release(sample_rate, noise_multiplier)
    accountant = _accountant(_composed(Counter({one: releases}), 0.5).counts, COARSE)
    return [float(delta) for delta in accountant.get_delta(list(epsilons))]


@functools.lru_cache(maxsize=64)
def calibrate(target: float, delta: float, sample_rate: float, releases: int, steps: float | None = None) -> float:
    """Return the smallest noise multiplier, to 0.1 %, whose PLD epsilon is at most `target`.

    Args:
        target: epsilon, above 0.
        delta: its delta.
        sample_rate: of patients; a patient's number of records changes nothing.
        releases: noised sums in all: rounds times local steps.
        steps: grid steps of the clip norm, see `Release`.

    Raises:
        InputError: when no multiplier up to 10,000 is enough.
    """
    if not 0 < target < math.inf:
        raise InputError(f"epsilon {target:g} is no target; give a number above 0.")
    low = max(0.05, 1.05 * SMOOTH / steps) if steps else 0.05  # integers need noise above `SMOOTH` grid steps
    high = max(1.0, 2 * low)
    if epsilon(sample_rate, MOST_NOISE, releases, delta, steps) > target:
        raise InputError(
            f"epsilon {target:g} at delta {delta:g} cannot be reached with {releases} releases at rate {sample_rate:g}; "
            "raise epsilon, or lower rounds or sample_rate."
        )
    while epsilon(sample_rate, high, releases, delta, steps) > target:
        low, high = high, min(2 * high, MOST_NOISE)
    while high / low > 1.001:
        middle = math.sqrt(low * high)
        enough = epsilon(sample_rate, middle, releases, delta, steps) <= target
        low, high = (low, middle) if enough else (middle, high)
    return high


Counts = tuple[tuple[tuple[float, float], int], ...]  # ((rate, multiplier), number of releases)


@dataclass(frozen=True)
class _Composed:
    """Releases of the continuous Gaussian, and what the integers are off from them: H of `shared.privacy.integers`."""

    counts: Counts
    slack: float


def _composed(counts: Counter[Release], delta: float) -> _Composed:
    """Return the continuous releases that these are post-processing of, up to the slack."""
    if not 0 < delta < 1:
        raise InputError(f"delta {delta:g} is none; give a number between 0 and 1.")
    whole = sum(n for release, n in counts.items() if release.steps is not None)
    return _Composed(_grouped(counts, lambda r: continuous_multiplier(r.noise_multiplier, r.steps)), slack(whole))


def _grouped(counts: Counter[Release], multiplier: Callable[[Release], float]) -> Counts:
    """Group equal releases: composition does not depend on their order."""
    found: Counter[tuple[float, float]] = Counter()
    for release, n in counts.items():
        found[release.sample_rate, multiplier(release)] += n
    return tuple(sorted(found.items()))


def _as_drawn(release: Release) -> float:
    return release.noise_multiplier


@functools.lru_cache(maxsize=256)
def _pld(total: _Composed, delta: float, interval: float = FINE) -> float:
    """Privacy loss distribution, both directions (dp-accounting)."""
    return float(_accountant(total.counts, interval).get_epsilon(delta * math.exp(-total.slack))) + 2 * total.slack


def _accountant(counts: Counts, interval: float = FINE) -> Any:
    import dp_accounting  # noqa: PLC0415 (half a second to import)
    from dp_accounting.pld import PLDAccountant  # noqa: PLC0415

    accountant = PLDAccountant(dp_accounting.NeighboringRelation.ADD_OR_REMOVE_ONE, interval)
    for (rate, sigma), count in counts:
        step = dp_accounting.GaussianDpEvent(sigma)
        event = step if rate == 1 else dp_accounting.PoissonSampledDpEvent(rate, step)
        accountant.compose(dp_accounting.SelfComposedDpEvent(event, count))
    return accountant


@functools.lru_cache(maxsize=256)
def _prv(total: _Composed, delta: float) -> float:
    """Privacy random variables, upper bound (Opacus; Gopi et al. 2021)."""
    from opacus.accountants import PRVAccountant  # noqa: PLC0415

    accountant = PRVAccountant()
    accountant.history = [(sigma, rate, count) for (rate, sigma), count in total.counts]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return float(accountant.get_epsilon(delta=delta * math.exp(-total.slack), eps_error=0.01)) + 2 * total.slack


@functools.lru_cache(maxsize=256)
def _rdp(total: _Composed, delta: float, orders: tuple[float, ...]) -> float:
    """Rényi differential privacy (Opacus; Mironov et al. 2019)."""
    from opacus.accountants.analysis import rdp  # noqa: PLC0415

    curve = sum(rdp.compute_rdp(q=rate, noise_multiplier=sigma, steps=n, orders=list(orders)) for (rate, sigma), n in total.counts)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = rdp.get_privacy_spent(orders=list(orders), rdp=curve, delta=delta * math.exp(-total.slack))
    return float(found[0]) + 2 * total.slack


def attacker(releases: Iterable[Release], delta: float) -> tuple[float, float]:
    """Return (mu, accuracy): what the best attacker can do who asks whether one given patient took part.

    Accuracy is balanced over both answers and at most ``(1 + delta(0)) / 2`` on the PLD's curve. mu is the smallest parameter of
    Gaussian differential privacy whose curve lies above the PLD's at 24 points (Dong et al. 2022).
    """
    releases = list(releases)
    reach = _pld(_composed(Counter(releases), delta), delta)
    points = [reach * n / 23 for n in range(24)]
    deltas = profile(releases, points, FINE)
    return max(_gaussian_mu(eps, d) for eps, d in zip(points, deltas, strict=True)), (1 + deltas[0]) / 2


def profile(releases: Iterable[Release], epsilons: Sequence[float], interval: float = COARSE) -> list[float]:
    """Return delta at each epsilon (0 or more): the whole curve, of which `epsilon_of` is one point, an upper bound by PLD.

    The curve bounds adding a patient as well as removing one. Raises `InputError` for what cannot be accounted.
    """
    counts = Counter(releases)
    total = _composed(counts, 0.5)  # of delta, it only asks that it is one
    accountant = _accountant(total.counts, interval)
    # The theorem of `integers`, read as a bound on delta.
    return [min(1.0, math.exp(total.slack) * float(accountant.get_delta(eps - 2 * total.slack))) for eps in epsilons]


def _gaussian_mu(eps: float, delta: float) -> float:
    """Return the mu whose curve passes through (eps, delta): Dong et al. 2022, corollary 2.13."""
    from scipy.stats import norm  # noqa: PLC0415

    low, high = 1e-6, 100.0
    while high - low > 1e-6:
        mu = (low + high) / 2
        found = norm.cdf(-eps / mu + mu / 2) - math.exp(eps) * norm.cdf(-eps / mu - mu / 2)
        low, high = (mu, high) if found < delta else (low, mu)
    return high
