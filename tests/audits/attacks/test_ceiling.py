"""The ceiling is that of the Gaussian where it is known by hand, and the best attacker reaches it and does not pass it."""

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import norm

from audits.attacks.ceiling import Ceiling, ceiling_of, drawn
from audits.attacks.decoding import drawn_at_rate
from audits.attacks.roc import auc, balanced_accuracy, tpr_at
from shared.privacy.accounting import Release

PUBLIC = np.random.default_rng(0)
FPR = np.array([0.001, 0.01, 0.1, 0.5])


def gaussian(mu: float) -> Ceiling:
    return ceiling_of([Release(1.0, 1 / mu)])


@pytest.mark.parametrize("mu", [0.2, 0.5, 1.0, 2.0])
def test_one_gaussian_release_has_the_gaussians_curve(mu: float) -> None:
    found = gaussian(mu)
    exact = norm.cdf(norm.ppf(FPR) + mu)
    assert found.tpr(FPR) == pytest.approx(exact, abs=2e-3)
    assert (found.tpr(FPR) >= exact - 1e-9).all()
    assert norm.cdf(mu / 2) - 1e-9 <= found.balanced_accuracy <= norm.cdf(mu / 2) + 1e-3
    assert norm.cdf(mu / np.sqrt(2)) <= found.auc <= norm.cdf(mu / np.sqrt(2)) + 2e-3
    assert norm.cdf(mu) - 1e-9 <= found.guess(2) <= norm.cdf(mu) + 2e-3
    assert found.guess(5) == pytest.approx(norm.cdf(norm.ppf(0.2) + mu), abs=2e-3)


def test_four_releases_are_one_at_half_the_noise() -> None:
    four, one = ceiling_of([Release(1.0, 4.0)] * 4), gaussian(0.5)
    assert four.auc == pytest.approx(one.auc, abs=2e-3)
    assert four.guess(3) == pytest.approx(one.guess(3), abs=2e-3)


def test_nothing_released_leaves_the_prior() -> None:
    nothing = ceiling_of([])
    assert (nothing.balanced_accuracy, nothing.guess(4)) == (0.5, 0.25)
    assert nothing.auc == pytest.approx(0.5, abs=1e-6)
    assert nothing.tpr(0.01) == pytest.approx(0.01)


def test_hardly_any_noise_allows_everything() -> None:
    loud = ceiling_of([Release(1.0, 0.1)] * 3)
    assert loud.auc > 0.999
    assert loud.tpr(1e-3) > 0.99


def test_the_draw_hides_whether_somebody_is_a_member_but_not_whether_drawn() -> None:
    release = Release(0.1, 2.0)
    assert ceiling_of([release]).auc < ceiling_of([drawn(release)]).auc == gaussian(0.5).auc


def scores_of_the_best(rate: float, sigma: float, rounds: int, count: int) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Return the exact log-likelihood ratios of members and others whom nothing but the noise hides."""
    truth = PUBLIC.random(count) < 0.5
    there = truth[:, None] & (PUBLIC.random((count, rounds)) < rate)
    seen = there + sigma * PUBLIC.standard_normal((count, rounds))
    return drawn_at_rate((seen - 0.5) / sigma**2, rate).sum(1), truth


@pytest.mark.parametrize(("rate", "sigma", "rounds"), [(0.3, 1.0, 10), (0.3, 2.37, 34), (1.0, 3.0, 5)])
def test_the_best_attacker_comes_close_and_not_above(rate: float, sigma: float, rounds: int) -> None:
    scores, truth = scores_of_the_best(rate, sigma, rounds, 40_000)
    ceiling = ceiling_of([Release(rate, sigma)] * rounds)
    figures = [
        (auc(scores, truth, level=0.9999), ceiling.auc),
        (balanced_accuracy(scores, truth, level=0.9999), ceiling.balanced_accuracy),
        (tpr_at(0.01, scores, truth, level=0.9999), float(ceiling.tpr(0.011))),
    ]
    for measured, bound in figures:
        assert measured.low < bound < measured.value + 0.03
    assert auc(*scores_of_the_best(rate, sigma / 2, rounds, 40_000)).low > ceiling.auc


def accuracy_among(means: NDArray[np.float64], sigma: float, count: int = 40_000) -> float:
    """Return how often the best attacker names which of k means a Gaussian had."""
    truth = PUBLIC.integers(len(means), size=count)
    seen = means[truth] + sigma * PUBLIC.standard_normal((count, means.shape[1]))
    return float((((seen[:, None] - means) ** 2).sum(-1).argmin(1) == truth).mean())


def test_two_opposite_values_reach_the_ceiling_and_more_values_stay_under_it() -> None:
    ceiling = gaussian(1.0)
    assert accuracy_among(np.array([[1.0], [-1.0]]), 1.0) == pytest.approx(ceiling.guess(2), abs=0.008)
    angles = 2 * np.pi * np.arange(3) / 3
    triangle = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    assert ceiling.guess(3) - 0.08 < accuracy_among(triangle, 1.0) < ceiling.guess(3)
    assert accuracy_among(np.eye(6), 1.0) < ceiling.guess(6)
    assert accuracy_among(np.array([[1.0], [-1.0]]), 0.8) > ceiling.guess(2) + 0.02
