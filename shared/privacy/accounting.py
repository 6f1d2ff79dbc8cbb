"""Epsilon from events, by three accountants that check each other.

An event is what one or several releases of the Poisson-subsampled Gaussian mechanism did. Published is the number of
dp-accounting's privacy loss distribution (PLD); Opacus' PRV and RDP accountants are recomputed beside it. Opacus' GDP
accountant is not offered, because it reports less than was spent (privacy.md, table 2.1).
"""

import functools
import math
import warnings
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from shared.errors import InputError

WHOLE_ORDERS = (*range(2, 128), 160, 192, 256, 384, 512, 1024)
ORDERS = (*(1 + x / 10 for x in range(1, 100) if x % 10), *WHOLE_ORDERS)

FINE, COARSE = 1e-4, 1e-3  # discretisation of the privacy loss; the result is an upper bound at either


@dataclass(frozen=True)
class Release:
    """One release: ``sum of clipped gradients of a Poisson draw + N(0, (noise_multiplier * clip_norm)^2)``.

    Unit: patient. Adjacency: add or remove one patient.
    """

    sample_rate: float
    noise_multiplier: float
    exact: bool = True  # discrete Gaussian noise on integers


@dataclass(frozen=True)
class Spent:
    """What a list of releases spent, with everything that the number means.

    Attributes:
        epsilon: published; the privacy loss distribution of the continuous Gaussian, which the discrete one of our scales
            (s above 1,000 grid steps) cannot be told from in practice.
        delta: the delta of all four numbers.
        prv: cross-check.
        rdp: cross-check.
        rigorous: Rényi accounting at whole orders, proven for the discrete Gaussian as it is drawn. Canonne et al. (2020,
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

    Raises `InputError` for a release without noise: its epsilon is infinite.
    """
    counted = _counted(releases)
    if not counted:
        return Spent(0.0, delta, 0.0, 0.0, 0.0, 0)
    if any(not sigma > 0 for (_, sigma), _ in counted):
        raise InputError("a release without noise has no finite epsilon; it cannot be accounted.")
    rdp, rigorous = _rdp(counted, delta, ORDERS), _rdp(counted, delta, WHOLE_ORDERS)
    return Spent(_pld(counted, delta), delta, _prv(counted, delta), rdp, rigorous, sum(n for _, n in counted))


def epsilon_of(releases: Iterable[Release], delta: float, interval: float = COARSE) -> float:
    """Return the PLD epsilon, an upper bound on a grid of this interval; the coarse one is eight times faster."""
    counted = _counted(releases)
    return _pld(counted, delta, interval) if counted else 0.0


def epsilon(sample_rate: float, noise_multiplier: float, releases: int, delta: float) -> float:
    """Return the PLD epsilon of `releases` equal releases."""
    return _pld((((sample_rate, noise_multiplier), releases),), delta)


@functools.lru_cache(maxsize=64)
def calibrate(target: float, delta: float, sample_rate: float, releases: int) -> float:
    """Return the smallest noise multiplier, to 0.1 %, whose PLD epsilon is at most `target`.

    Raises `InputError` when no multiplier up to 10,000 is enough.
    """
    low, high = 0.05, 1.0
    while epsilon(sample_rate, high, releases, delta) > target:
        low, high = high, high * 2
        if high > 10_000:
            raise InputError(
                f"epsilon {target:g} at delta {delta:g} cannot be reached with {releases} releases at rate {sample_rate:g}; "
                "raise epsilon, or lower rounds or sample_rate."
            )
    while high / low > 1.001:
        middle = math.sqrt(low * high)
        low, high = (low, middle) if epsilon(sample_rate, middle, releases, delta) <= target else (middle, high)
    return high


Counted = tuple[tuple[tuple[float, float], int], ...]


def _counted(releases: Iterable[Release]) -> Counted:
    """Group equal releases: composition does not depend on their order."""
    return tuple(sorted(Counter((r.sample_rate, r.noise_multiplier) for r in releases).items()))


@functools.lru_cache(maxsize=256)
def _pld(counted: Counted, delta: float, interval: float = FINE) -> float:
    """Privacy loss distribution, both directions (dp-accounting)."""
    return float(_accountant(counted, interval).get_epsilon(delta))


def _accountant(counted: Counted, interval: float = FINE) -> Any:
    import dp_accounting  # noqa: PLC0415 (half a second to import)
    from dp_accounting.pld import PLDAccountant  # noqa: PLC0415

    accountant = PLDAccountant(dp_accounting.NeighboringRelation.ADD_OR_REMOVE_ONE, interval)
    for (rate, sigma), count in counted:
        step = dp_accounting.GaussianDpEvent(sigma)
        event = step if rate == 1 else dp_accounting.PoissonSampledDpEvent(rate, step)
        accountant.compose(dp_accounting.SelfComposedDpEvent(event, count))
    return accountant


@functools.lru_cache(maxsize=256)
def _prv(counted: Counted, delta: float) -> float:
    """Privacy random variables, upper bound (Opacus; Gopi et al. 2021)."""
    from opacus.accountants import PRVAccountant  # noqa: PLC0415

    accountant = PRVAccountant()
    accountant.history = [(sigma, rate, count) for (rate, sigma), count in counted]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return float(accountant.get_epsilon(delta=delta, eps_error=0.01))


@functools.lru_cache(maxsize=256)
def _rdp(counted: Counted, delta: float, orders: tuple[float, ...]) -> float:
    """Rényi differential privacy (Opacus; Mironov et al. 2019)."""
    from opacus.accountants.analysis import rdp  # noqa: PLC0415

    total = sum(rdp.compute_rdp(q=rate, noise_multiplier=sigma, steps=n, orders=list(orders)) for (rate, sigma), n in counted)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return float(rdp.get_privacy_spent(orders=list(orders), rdp=total, delta=delta)[0])


def attacker(releases: Iterable[Release], delta: float) -> tuple[float, float]:
    """Return (mu, accuracy): what the best attacker can do who asks whether one given patient took part.

    Accuracy is balanced over both answers: ``(1 + delta(0)) / 2`` on the PLD's curve, exact for the dominating pair. mu is
    the smallest parameter of Gaussian differential privacy whose curve lies above the PLD's at 24 points (Dong et al. 2022).
    """
    counted = _counted(releases)
    accountant = _accountant(counted)
    points = [_pld(counted, delta) * n / 23 for n in range(24)]
    deltas = {eps: float(accountant.get_delta(eps)) for eps in points}
    return max(_gaussian_mu(eps, d) for eps, d in deltas.items()), (1 + deltas[0.0]) / 2


def _gaussian_mu(eps: float, delta: float) -> float:
    """Return the mu whose curve passes through (eps, delta): Dong et al. 2022, corollary 2.13."""
    from scipy.stats import norm  # noqa: PLC0415

    low, high = 1e-6, 100.0
    while high - low > 1e-6:
        mu = (low + high) / 2
        found = norm.cdf(-eps / mu + mu / 2) - math.exp(eps) * norm.cdf(-eps / mu - mu / 2)
        low, high = (mu, high) if found < delta else (low, mu)
    return high
