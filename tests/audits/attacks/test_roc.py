"""Rates agree with what others compute, and their intervals hold the truth as often as they say."""

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import norm
from sklearn.metrics import roc_auc_score

from audits.attacks.roc import auc, balanced_accuracy, curve, share, tpr_at

PUBLIC = np.random.default_rng(1)
Scores = tuple[NDArray[np.float64], NDArray[np.bool_]]


def scores(count: int, gap: float = 1.0, groups: int | None = None, shared: float = 0.0) -> Scores:
    truth = PUBLIC.random(count) < 0.4
    noise = PUBLIC.standard_normal(count)
    if groups:
        noise = np.sqrt(1 - shared) * noise + np.sqrt(shared) * np.repeat(PUBLIC.standard_normal(groups), count // groups)
    return gap * truth + noise, truth


def test_the_area_is_that_of_sklearn_with_ties() -> None:
    some, truth = scores(500)
    rounded = some.round(0)
    assert auc(rounded, truth).value == pytest.approx(roc_auc_score(truth, rounded))


def coverage(groups: int | None, told: bool) -> float:
    """Return how many of 400 intervals hold the true area."""
    held = 0
    for _ in range(400):
        some, truth = scores(200, 1.0, groups, 0.5 if groups else 0.0)
        cluster = np.repeat(np.arange(groups), 200 // groups) if groups and told else None
        found = auc(some, truth, cluster)
        held += found.low <= norm.cdf(1 / np.sqrt(2)) <= found.high
    return held / 400


def test_the_areas_interval_holds_the_truth() -> None:
    assert 0.92 <= coverage(None, False) <= 0.98


def test_clusters_are_allowed_for() -> None:
    """Labels that go by the cluster make the clusters matter: the naive interval is too narrow, the clustered one is not."""

    def held(told: bool) -> float:
        right = 0
        for _ in range(300):
            group = np.repeat(np.arange(20), 10)
            truth = np.repeat(PUBLIC.random(20) < 0.5, 10)
            truth[:10], truth[10:20] = True, False
            noise = np.repeat(PUBLIC.standard_normal(20), 10) + 0.3 * PUBLIC.standard_normal(200)
            found = auc(noise, truth, group if told else None)
            right += found.low <= 0.5 <= found.high
        return right / 300

    assert held(True) > 0.9
    assert held(False) < 0.7


def test_perfect_scores_of_few_are_not_certain() -> None:
    found = auc(np.array([1.0, 2.0, 3.0, 4.0]), np.array([False, False, True, True]))
    assert found.value == 1.0
    assert found.low < 0.3


def test_rates_by_hand() -> None:
    some = np.array([0.1, 0.2, 0.3, 0.4, 0.5, 0.6])
    truth = np.array([False, False, True, False, True, True])
    assert tpr_at(0.0, some, truth).value == pytest.approx(2 / 3)
    assert tpr_at(0.34, some, truth).value == 1.0
    assert balanced_accuracy(some, truth, 0.35).value == pytest.approx(2 / 3)
    fpr, tpr = curve(some, truth)
    assert (fpr[0], tpr[0], fpr[-1], tpr[-1]) == (0, 0, 1, 1)


def test_the_balanced_interval_holds_the_truth() -> None:
    exact = norm.cdf(0.5)
    found = [balanced_accuracy(*scores(150), 0.5) for _ in range(300)]
    assert np.mean([one.low <= exact <= one.high for one in found]) >= 0.95
    assert share(0, 20).low == 0.0
