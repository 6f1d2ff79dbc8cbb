"""The published epsilon holds for the integers as drawn: the lemma by quadrature, the theorem against exact profiles."""

import itertools
import math

import numpy as np
import pytest
from numpy.typing import NDArray

from shared.errors import InputError
from shared.privacy.accounting import FINE, Release, attacker, calibrate, epsilon, epsilon_of, spent
from shared.privacy.integers import COORDINATES, SMOOTH, continuous_multiplier, slack, uneven

Law = NDArray[np.float64]


def discrete(s: float, x: NDArray[np.int64], centre: int = 0) -> Law:
    """The discrete Gaussian, its mass summed far beyond x."""
    everywhere = np.arange(-40 * math.ceil(s), 40 * math.ceil(s) + 1)
    return np.exp(-((x - centre) ** 2) / (2 * s**2)) / np.exp(-(everywhere**2) / (2 * s**2)).sum()


def post_processed(s1: float, smooth: float, x: NDArray[np.int64], centre: int = 0) -> Law:
    """The lemma's law: y from N(centre, s1^2), then x around y; trapezoids, which converge faster than any power here."""
    y = np.linspace(centre - 14 * s1, centre + 14 * s1, 28_001)
    density = np.exp(-((y - centre) ** 2) / (2 * s1**2)) / (s1 * math.sqrt(2 * math.pi))
    near = np.arange(math.floor(y[0]) - 30, math.ceil(y[-1]) + 31)
    mass = np.exp(-((near[:, None] - y) ** 2) / (2 * smooth**2)).sum(0)
    each = np.exp(-((x[:, None] - y) ** 2) / (2 * smooth**2)) / mass
    return (each * density).sum(1) * (y[1] - y[0])


def worst_ratio(s1: float, smooth: float, s: float) -> float:
    x = np.arange(-5 * math.ceil(s), 5 * math.ceil(s) + 1) + 7
    return float(np.abs(np.log(post_processed(s1, smooth, x, 7) / discrete(s, x, 7))).max())


@pytest.mark.parametrize("s", [6.0, 10.0])
@pytest.mark.parametrize("smooth", [0.4, 0.6, SMOOTH])
def test_the_discrete_gaussian_is_a_post_processed_continuous_one(s: float, smooth: float) -> None:
    """Within the stated factor per coordinate, here 19 %, 0.3 % and none; another continuous Gaussian is convicted."""
    eta = 2 * math.atanh(uneven(smooth))
    s1 = math.sqrt(s**2 - smooth**2)
    assert worst_ratio(s1, smooth, s) <= eta + 1e-11
    assert worst_ratio(1.05 * s1, smooth, s) > eta


def test_the_mass_of_a_discrete_gaussian_depends_on_its_centre_as_stated() -> None:
    x, centres = np.arange(-60, 61), np.linspace(0, 1, 201)
    for smooth in (0.4, 0.5, 0.6):
        mass = np.exp(-((x - centres[:, None]) ** 2) / (2 * smooth**2)).sum(1) / (smooth * math.sqrt(2 * math.pi))
        assert np.abs(mass - 1).max() == pytest.approx(uneven(smooth), rel=0.05)
        assert np.abs(mass - 1).max() <= uneven(smooth)


def test_the_slack_is_below_what_a_double_can_tell() -> None:
    assert slack(1, 10**9) < 1e-20
    assert slack(10**6, COORDINATES) < 1e-19
    assert 1 - continuous_multiplier(2.37, 20_000) / 2.37 < 1e-8
    assert continuous_multiplier(2.37, None) == 2.37


def profile(eps: float, s: float, shift: int, rate: float) -> float:
    """delta(eps) of one release on integers, summed over all of them, in the worse of the two directions.

    Both laws are dominated by those of a patient who moves the sum by the whole sensitivity in one coordinate.
    """
    x = np.arange(-40 * math.ceil(s), 40 * math.ceil(s) + 1)
    without = discrete(s, x)
    with_ = (1 - rate) * without + rate * discrete(s, x, shift)
    return max(float(np.maximum(a - math.exp(eps) * b, 0).sum()) for a, b in ((with_, without), (without, with_)))


CASES = list(itertools.product([(6.0, 3), (6.0, 6), (10.0, 3), (10.0, 12)], [1.0, 0.3], [1e-2, 1e-4, 1e-6]))


@pytest.mark.parametrize(("scale", "rate", "delta"), CASES)
def test_the_exact_profile_lies_under_the_published_epsilon(scale: tuple[float, int], rate: float, delta: float) -> None:
    s, shift = scale
    published = epsilon_of([Release(rate, s / shift, shift)], delta, FINE)
    assert profile(published, s, shift, rate) <= delta
    too_low = epsilon_of([Release(rate, 1.05 * s / shift)], delta, FINE)  # as if s1 were 1.05 s
    assert profile(too_low, s, shift, rate) > delta


def test_two_releases_compose_under_the_published_epsilon() -> None:
    """The same with the exact joint law of two releases."""
    s, shift, rate, delta = 6.0, 4, 0.3, 1e-4
    x = np.arange(-150, 151)
    without = discrete(s, x)
    with_ = (1 - rate) * without + rate * discrete(s, x, shift)
    pair = [np.multiply.outer(law, law) for law in (with_, without)]

    def exact(eps: float) -> float:
        return max(float(np.maximum(a - math.exp(eps) * b, 0).sum()) for a, b in (pair, pair[::-1]))

    assert exact(epsilon_of([Release(rate, s / shift, shift)] * 2, delta, FINE)) <= delta
    assert exact(epsilon_of([Release(rate, 1.05 * s / shift)] * 2, delta, FINE)) > delta


def test_on_a_coarse_grid_the_continuous_number_is_not_true() -> None:
    """Why a theorem is needed: at its own scale, the continuous Gaussian promises less delta than integers have."""
    s, shift, delta = 3.0, 3, 1e-4
    exceeded = [eps for eps in np.linspace(0, 4, 401) if profile(eps, s, shift, 1.0) > continuous_profile(eps, s, shift)]
    assert exceeded
    assert epsilon_of([Release(1.0, s / shift, shift)], delta) > epsilon_of([Release(1.0, s / shift)], delta)


def continuous_profile(eps: float, s: float, shift: int) -> float:
    """Balle and Wang (2018), theorem 8."""
    from scipy.stats import norm

    mu = shift / s
    return float(norm.cdf(mu / 2 - eps / mu) - math.exp(eps) * norm.cdf(-mu / 2 - eps / mu))


@pytest.mark.parametrize("multiplier", [0.5, 1.0, 2.0])
def test_noise_too_coarse_for_a_proof_is_refused(multiplier: float) -> None:
    with pytest.raises(InputError, match=r"too coarse for a proven epsilon, which needs more than 2; use a finer grid"):
        spent([Release(0.5, multiplier, 1)], 1e-4)


def test_on_the_grid_of_a_task_card_nothing_that_anyone_could_see_changes() -> None:
    one = Release(0.3, 2.37, 20_000)
    exact, continuous = spent([one] * 34, 1e-4), spent([Release(0.3, 2.37)] * 34, 1e-4)
    assert 0 <= exact.epsilon / continuous.epsilon - 1 < 1e-7
    assert 2.998 <= exact.epsilon <= 3.0
    assert exact.rigorous == continuous.rigorous
    assert attacker([one] * 34, 1e-4) == pytest.approx(attacker([Release(0.3, 2.37)] * 34, 1e-4), rel=1e-6)


@pytest.mark.slow
def test_calibration_knows_the_grid() -> None:
    """On a coarse grid more noise is needed; on the task card's the same."""
    coarse, fine, continuous = (calibrate(2.0, 1e-4, 1.0, 1, steps) for steps in (2, 20_000, None))
    assert epsilon(1.0, coarse, 1, 1e-4, 2) <= 2.0 < epsilon(1.0, coarse / 1.002, 1, 1e-4, 2)
    assert coarse > 1.005 * continuous
    assert fine == pytest.approx(continuous, rel=2e-3)
