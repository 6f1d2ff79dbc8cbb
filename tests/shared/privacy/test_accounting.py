import itertools
import math

import pytest

from shared.errors import InputError
from shared.privacy.accounting import FINE, Release, attacker, calibrate, epsilon, epsilon_of, profile, spent

# privacy.md, table 2.1: computed there with the same three libraries.
TABLE = [
    (0.05, 1.0, 100, 1e-5, 3.502),
    (0.10, 1.5, 200, 1e-5, 5.054),
    (0.25, 2.0, 100, 1e-4, 5.589),
    (1.0, 8.0, 100, 1e-5, 5.680),
]
GRID = list(itertools.product([0.01, 0.05, 0.2, 0.5, 1.0], [0.8, 2.0, 6.0], [1, 60]))


@pytest.mark.parametrize(("rate", "sigma", "count", "delta", "expected"), TABLE)
def test_known_settings(rate: float, sigma: float, count: int, delta: float, expected: float) -> None:
    assert epsilon(rate, sigma, count, delta) == pytest.approx(expected, abs=2e-3)


@pytest.mark.slow
@pytest.mark.parametrize(("rate", "sigma", "count"), GRID)
def test_three_accountants_agree(rate: float, sigma: float, count: int) -> None:
    """privacy.md, 2.1. RDP is within 25 % of PLD where a patient's loss is near Gaussian: drawn often, or over many releases.

    Elsewhere it is not (up to 6 times, at rate .01 and one release): the loss is then a rare jump, whose tail moments bound badly.
    """
    found = spent([Release(rate, sigma, 20_000)] * count, 1e-4)
    assert all(0 < number < math.inf for number in (found.epsilon, found.prv, found.rdp, found.rigorous))  # none is missing
    assert found.epsilon <= found.prv + 0.02
    assert found.epsilon <= found.rdp <= found.rigorous * (1 + 1e-6)
    assert found.releases == count
    if rate >= 0.5 or rate * count >= 1:
        assert found.rdp / found.epsilon < 1.25


def test_the_coarse_grid_stays_an_upper_bound() -> None:
    releases = [Release(0.2, 2.13)] * 60
    fine = epsilon(0.2, 2.13, 60, 1e-4)
    assert fine <= epsilon_of(releases, 1e-4) <= fine + 1e-3


def test_tasks_on_the_same_patients_compose_jointly() -> None:
    """privacy.md, 2.2 (c): three tasks of 3.50, 3.54 and 3.26 are 5.71 jointly at delta 1e-5, not 10.30 at 3e-5."""
    tasks = [[Release(0.05, 1.0)] * 100, [Release(0.1, 1.5)] * 100, [Release(0.02, 0.8)] * 200]
    alone = [epsilon_of(task, 1e-5, FINE) for task in tasks]
    assert alone == pytest.approx([3.50, 3.54, 3.26], abs=5e-3)
    jointly = spent(itertools.chain(*tasks), 1e-5)
    assert jointly.epsilon == pytest.approx(5.71, abs=5e-3)
    assert jointly.rdp == pytest.approx(6.38, abs=1e-2)


def test_order_does_not_matter_and_nothing_spends_nothing() -> None:
    a, b = Release(0.1, 2.0), Release(0.2, 3.0)
    assert spent([a, b, a], 1e-4) == spent([b, a, a], 1e-4)
    assert spent([], 1e-4).epsilon == 0


@pytest.mark.parametrize("delta", [0.0, -1e-4, 1.0, math.nan])
def test_a_delta_that_is_none_is_refused(delta: float) -> None:
    for count in (0, 1):
        with pytest.raises(InputError, match="give a number between 0 and 1"):
            spent([Release(0.1, 2.0)] * count, delta)


@pytest.mark.parametrize("numbers", [(0.0, 1.0), (1.1, 1.0), (math.nan, 1.0), (0.5, math.inf), (0.5, math.nan), (0.5, -1.0)])
def test_what_is_no_release_cannot_be_accounted(numbers: tuple[float, float]) -> None:
    with pytest.raises(InputError, match="cannot be accounted"):
        Release(*numbers)


def test_a_release_without_noise_cannot_be_accounted() -> None:
    with pytest.raises(InputError, match="no finite epsilon"):
        spent([Release(0.1, 0.0)], 1e-4)


@pytest.mark.slow
def test_calibration_meets_its_target_closely() -> None:
    sigma = calibrate(3.0, 1e-4, 0.2, 60)
    assert epsilon(0.2, sigma, 60, 1e-4) <= 3.0 < epsilon(0.2, sigma / 1.002, 60, 1e-4)


def test_an_epsilon_out_of_reach_is_said() -> None:
    with pytest.raises(InputError, match="cannot be reached with 50 releases at rate 1; raise epsilon"):
        calibrate(1e-4, 1e-9, 1.0, 50)


@pytest.mark.parametrize("target", [0.0, -1.0, math.nan, math.inf])
def test_an_epsilon_that_is_no_target_is_refused(target: float) -> None:
    with pytest.raises(InputError, match="is no target; give a number above 0"):
        calibrate(target, 1e-4, 0.5, 10)


def test_the_profile_passes_through_every_epsilon_and_delta() -> None:
    releases = [Release(0.3, 2.37, 20_000)] * 34
    points = [0.0, *(epsilon_of(releases, delta) for delta in (1e-2, 1e-4, 1e-6))]
    found = profile(releases, points)
    assert found[1:] == pytest.approx([1e-2, 1e-4, 1e-6], rel=1e-2)
    assert found[0] == pytest.approx(2 * attacker(releases, 1e-4)[1] - 1, abs=1e-3)
    assert all(coarse >= fine for coarse, fine in zip(found, profile(releases, points, FINE), strict=True))


def test_an_attacker_against_one_gaussian_release() -> None:
    """One release at rate 1 is mu = 1/sigma exactly (Dong et al. 2022, theorem 2.7), accuracy Phi(mu/2)."""
    mu, accuracy = attacker([Release(1.0, 2.0)], 1e-4)
    assert mu == pytest.approx(0.5, abs=2e-3)
    assert accuracy == pytest.approx(0.5987, abs=1e-3)
