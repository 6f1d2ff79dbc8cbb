import itertools

import pytest

from shared.errors import InputError
from shared.privacy.accounting import Release, attacker, calibrate, epsilon, epsilon_of, spent

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
    found = spent([Release(rate, sigma)] * count, 1e-4)
    assert found.epsilon <= found.prv + 0.02
    assert found.epsilon <= found.rdp
    assert found.releases == count


def test_the_coarse_grid_stays_an_upper_bound() -> None:
    releases = [Release(0.2, 2.13)] * 60
    fine = epsilon(0.2, 2.13, 60, 1e-4)
    assert fine <= epsilon_of(releases, 1e-4) <= fine + 1e-3


def test_tasks_on_the_same_patients_compose_jointly() -> None:
    """privacy.md §2: three tasks of 3.50, 3.54 and 3.26 are 5.71 jointly, not 10.30."""
    tasks = [[Release(0.05, 1.0)] * 100, [Release(0.05, 1.0)] * 100]
    one = spent(tasks[0], 1e-5).epsilon
    both = spent(tasks[0] + tasks[1], 1e-5)
    assert one < both.epsilon < 2 * one
    assert both.epsilon == pytest.approx(epsilon(0.05, 1.0, 200, 1e-5), abs=1e-6)


def test_order_does_not_matter_and_nothing_spends_nothing() -> None:
    a, b = Release(0.1, 2.0), Release(0.2, 3.0)
    assert spent([a, b, a], 1e-4) == spent([b, a, a], 1e-4)
    assert spent([], 1e-4).epsilon == 0


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


def test_an_attacker_against_one_gaussian_release() -> None:
    """One release at rate 1 is mu = 1/sigma exactly (Dong et al. 2022, theorem 2.7), accuracy Phi(mu/2)."""
    mu, accuracy = attacker([Release(1.0, 2.0)], 1e-4)
    assert mu == pytest.approx(0.5, abs=2e-3)
    assert accuracy == pytest.approx(0.5987, abs=1e-3)
