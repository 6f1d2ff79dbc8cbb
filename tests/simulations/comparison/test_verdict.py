"""From made-up results to words, branch by branch; and the intervals that decide."""

import numpy as np
import pytest
from scipy.stats import t
from sklearn.metrics import roc_auc_score

from simulations.comparison.figures import HeldOut, Score
from simulations.comparison.verdict import Contrast, recommend
from simulations.evaluate import auc_interval

RANDOM = np.random.default_rng(3)


def score(mean: float, half: float, seeds: int = 5) -> Score:
    """A score whose interval is about mean ± half, by test patients; seeds agree."""
    resampled = RANDOM.normal(size=400)
    resampled = mean + half / 1.96 * (resampled - resampled.mean()) / resampled.std(ddof=1)
    return Score(np.full(seeds, mean), resampled)


def lora(gain: Score) -> Contrast:
    return Contrast("LoRA", gain, (1000, 16_000))


def full(gain: Score) -> Contrast:
    return Contrast("full fine-tuning", gain, (1000, 9_000_000))


def test_enough_when_nothing_is_ahead_by_the_margin() -> None:
    found = recommend([lora(score(-0.02, 0.02)), full(score(-0.2, 0.05))], 0.01, 4)
    assert found.verdict == "enough"
    assert "A prompt is enough here: nothing gains 0.01 AUC or more" in found.sentence
    assert "LoRA -0.020 AUC [-0.043, +0.003] for 16 times the bytes" in found.sentence
    assert "9,000 times the bytes" in found.sentence


def test_a_gain_below_the_margin_is_enough_even_when_it_is_sure() -> None:
    assert recommend([lora(score(0.004, 0.003))], 0.01, 4).verdict == "enough"


def test_not_enough_names_the_one_that_is_furthest_ahead() -> None:
    found = recommend([lora(score(0.05, 0.02)), full(score(0.03, 0.01))], 0.01, 50)
    assert found.verdict == "not enough"
    assert found.sentence.startswith("Not enough: LoRA gains +0.050 AUC [+0.027, +0.073] over the prompt for 16 times the bytes")
    assert "these 50 sites" in found.sentence


def test_one_that_is_ahead_is_enough_to_say_not_enough() -> None:
    assert recommend([lora(score(-0.1, 0.02)), full(score(0.03, 0.01))], 0.01, 4).verdict == "not enough"


def test_open_when_the_interval_holds_both_and_says_what_would_help() -> None:
    patients = recommend([lora(score(0.0, 0.04)), full(score(-0.2, 0.05))], 0.01, 4)
    assert patients.verdict == "open"
    assert "cannot be told apart" in patients.sentence
    assert "more test patients" in patients.sentence
    seeds = recommend([lora(Score(np.array([0.2, -0.2, 0.1]), score(0.03, 0.001).resampled))], 0.01, 4)
    assert seeds.verdict == "open"
    assert "more seeds" in seeds.sentence


def test_a_gain_that_is_sure_by_itself_is_not_sure_among_two() -> None:
    """By hand: .030 with a deviation of .014 over test patients. Alone the normal's 1.960 decides: .030 - .0274 = +.0026, above 0.

    Of two differences each has 1.25 % on either side, so 2.241: .030 - .0314 = -.0014, which is not.
    """
    gain = score(0.030, 1.96 * 0.014)
    alone = recommend([lora(gain)], 0.01, 4)
    assert alone.verdict == "not enough"
    assert "LoRA gains +0.030 AUC [+0.003, +0.057]" in alone.sentence
    assert alone.together == (1, 0)
    other = Contrast("full fine-tuning", score(-0.2, 0.05), (1000, 9_000_000))
    both = recommend([lora(gain), other], 0.01, 4)
    assert both.verdict == "open"
    assert "LoRA +0.030 AUC [-0.001, +0.061]" in both.sentence
    beside = [Contrast("a table", score(0.0, 0.1), (1000, 0), conventional=False)] * 7
    assert recommend([lora(gain), *beside], 0.01, 4).verdict == "not enough", "what is told beside has a correction of its own"
    assert recommend([lora(gain), *beside], 0.01, 4).together == (1, 7)


def test_what_is_told_beside_is_corrected_for_its_number() -> None:
    gain = score(0.030, 1.96 * 0.014)
    several = [Contrast("deep prompt", gain, (1000, 4000), conventional=False)] * 3
    assert "is ahead of the prompt" in recommend(several[:1], 0.01, 4).beside[0]
    assert all("cannot be told from" in said for said in recommend(several, 0.01, 4).beside)


def test_of_several_intervals_each_has_its_part_of_the_error() -> None:
    """Over many comparisons of five methods that are no better, at least one interval without 0: 1 in 20, not 1 in 4."""
    gains = [Score(np.zeros(5), score(0.0, 1.96 * 0.01).resampled) for _ in range(5)]
    shifts = RANDOM.normal(size=(2000, 5)) * 0.01
    for together, rate in ((1, 1 - 0.95**5), (5, 1 - 0.99**5)):
        half = [gain.interval(together)[1] - gain.mean for gain in gains]
        wrong = (np.abs(shifts) > half).any(1).mean()
        assert wrong == pytest.approx(rate, abs=0.035)
    assert gains[0].over_seeds(5) == 0
    values = np.array([0.8, 0.82, 0.78, 0.81, 0.79])
    assert Score(values, gains[0].resampled).over_seeds(5) == pytest.approx(4.6041 * values.std(ddof=1) / 5**0.5, rel=1e-4)


def test_nothing_conventional_is_no_verdict() -> None:
    beside = Contrast("deep prompt (federated)", score(0.0, 0.001), (1000, 4000), conventional=False)
    found = recommend([beside], 0.01, 4)
    assert found.verdict == "unknown"
    assert found.beside == ("deep prompt (federated) gains less than 0.01 AUC: +0.000 AUC [-0.001, +0.001] for 4 times the bytes.",)


@pytest.mark.parametrize(
    ("gain", "word"),
    [(-0.1, "is behind the prompt"), (0.1, "is ahead of the prompt"), (0.01, "cannot be told from the prompt")],
)
def test_what_is_said_beside(gain: float, word: str) -> None:
    found = recommend([Contrast("a table", score(gain, 0.05), (1000, 0), conventional=False)], 0.01, 4)
    assert word in found.beside[0]
    assert found.beside[0].endswith("] without any update being sent.")


def predictions(seeds: int, patients: int, skill: float, labels: np.ndarray) -> list[np.ndarray]:
    classes = int(labels.max()) + 1
    drawn = [RANDOM.normal(size=(patients, classes)) + skill * np.eye(classes)[labels] for _ in range(seeds)]
    return [(np.exp(d) / np.exp(d).sum(1, keepdims=True)).astype(np.float32) for d in drawn]


@pytest.mark.parametrize("classes", [2, 3])
def test_scores_are_scikit_learns(classes: int) -> None:
    labels, sites = RANDOM.integers(classes, size=90), np.repeat([0, 1, 2], 30)
    tested, runs = HeldOut.of(labels, sites), predictions(2, 90, 1.0, labels)
    for run, found in zip(runs, tested.pooled_auc(runs).seeds, strict=True):
        more = {"multi_class": "ovr"} if classes > 2 else {}
        assert found == pytest.approx(roc_auc_score(labels, run[:, 1] if classes == 2 else run, **more), abs=1e-6)
    right = np.array([(run.argmax(1) == labels) for run in runs])
    assert tested.accuracy(runs).mean == pytest.approx(right.mean())
    assert tested.mean_of_sites(runs).mean == pytest.approx(np.mean([right[:, sites == s].mean() for s in range(3)]))


def test_intervals_grow_with_seeds_that_differ_and_patients_that_are_few() -> None:
    labels = np.arange(200) % 2
    tested, [run] = HeldOut.of(labels, np.zeros(200, dtype=int)), predictions(1, 200, 1.0, labels)
    one = tested.pooled_auc([run])
    low, high = auc_interval(one.mean, 100, 100)
    assert one.over_patients() == pytest.approx((high - low) / 2, rel=0.25)  # Hanley and McNeil's, by formula
    assert one.over_seeds() == 0.0
    values = np.array([0.8, 0.82, 0.78, 0.81, 0.79])
    several = Score(values, one.resampled)
    assert several.over_seeds() == pytest.approx(t.ppf(0.975, 4) * values.std(ddof=1) / 5**0.5)
    assert several.interval()[1] - several.mean == pytest.approx(np.hypot(several.over_seeds(), several.over_patients()))


def test_a_difference_is_paired() -> None:
    labels = np.arange(100) % 2
    tested, runs = HeldOut.of(labels, np.zeros(100, dtype=int)), predictions(3, 100, 1.0, labels)
    same = tested.pooled_auc(runs).minus(tested.pooled_auc(runs))
    assert same.interval() == (0.0, 0.0)
    apart = tested.pooled_auc(runs).minus(tested.pooled_auc(predictions(3, 100, 1.0, labels)))
    assert apart.over_patients() > 0.01
