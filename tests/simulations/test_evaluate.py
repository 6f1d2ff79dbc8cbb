import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from shared.card import Task
from shared.prompt import Array
from shared.scoring import Scorer
from simulations.evaluate import Pooled, auc, auc_interval, mean_interval, score, score_pooled, wilson
from simulations.evaluate import test_set as sites_test_set
from tests.conftest import make_cohort


def pairs(probabilities: np.ndarray, labels: np.ndarray) -> float:
    """The AUC by its meaning: the share of positive-negative pairs in the right order."""
    up, down = probabilities[labels == 1], probabilities[labels == 0]
    return float(np.mean([(a > b) + (a == b) / 2 for a in up for b in down]))


def test_auc_is_the_share_of_pairs_in_order() -> None:
    random = np.random.default_rng(0)
    scores, labels = random.integers(0, 9, 60) / 9, random.integers(0, 2, 60)
    found = auc(np.stack([1 - scores, scores], 1).astype(np.float32), labels)
    assert found == pytest.approx(pairs(scores, labels), abs=1e-9)
    assert found == pytest.approx(roc_auc_score(labels, scores), abs=1e-9)


def test_the_curves_scores_are_those_of_the_whole(task: Task, scorer: Scorer, prompt: Array) -> None:
    cohorts = {"A": make_cohort(task, 9, 1), "B": make_cohort(task, 1, 2), "C": make_cohort(task, 14, 3)}
    tests = {name: sites_test_set(cohort, cohort, scorer) for name, cohort in cohorts.items()}
    whole = score(prompt, tests, scorer)
    assert score_pooled(prompt, tests, scorer) == Pooled(
        whole.pooled_auc, whole.pooled_accuracy, float(np.mean([site.accuracy for site in whole.per_site.values()]))
    )


def test_one_class_has_no_auc() -> None:
    assert auc(np.full((4, 2), 0.5, np.float32), np.ones(4, np.int64)) is None


def coverage(interval: str, count: int, truth: float) -> float:
    random = np.random.default_rng(1)
    found = random.binomial(count, truth, 2000) / count
    make = {"wilson": lambda a: wilson(a, count), "mean": lambda a: mean_interval([a, 0.5], [count, 10**6])}[interval]
    target = {"wilson": truth, "mean": (truth + 0.5) / 2}[interval]
    return float(np.mean([low <= target <= high for low, high in map(make, found)]))


@pytest.mark.parametrize("interval", ["wilson", "mean"])
@pytest.mark.parametrize(("count", "truth"), [(16, 0.9), (45, 0.8), (250, 0.8)])
def test_intervals_cover_what_they_say(interval: str, count: int, truth: float) -> None:
    assert 0.92 <= coverage(interval, count, truth) <= 0.99


def test_the_auc_interval_covers_too() -> None:
    """Two normal distributions one standard deviation apart have AUC Phi(1/sqrt(2)) = .7602."""
    random = np.random.default_rng(2)
    inside = []
    for _ in range(300):
        up, down = random.normal(1, 1, 60), random.normal(0, 1, 60)
        low, high = auc_interval(float((up[:, None] > down).mean()), 60, 60)
        inside.append(low <= 0.7602 <= high)
    assert 0.91 <= np.mean(inside) <= 0.99
