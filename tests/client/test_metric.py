"""Which patients count as right, and an interval that knows of the noise."""

import numpy as np
import pytest
import torch

from client.metric import RIGHT, WRONG, accuracy, interval, outcomes
from client.records import Cohort
from client.round import pool
from shared.card import Task
from shared.privacy.counts import tally
from shared.privacy.noise import discrete_gaussian
from shared.privacy.source import SimulationSource
from shared.prompt import Array
from shared.scoring import Scorer
from tests.client.test_round import without_last
from tests.conftest import make_cohort


def test_a_patient_is_right_when_most_of_its_records_are(task: Task, scorer: Scorer, prompt: Array) -> None:
    texts = tuple(task.card.record_text.render({"age": age, "pulse": 100}) for age in (30, 30, 30, 30, 70, 70))
    guess = int(scorer.probabilities(scorer.read([texts[0]]), torch.from_numpy(prompt)).argmax())
    labels = (guess, guess, 1 - guess, guess, 0, 0)
    found = outcomes(pool(Cohort(texts[:4], labels[:4], (0, 0, 0, 1), 2), scorer), prompt, scorer)
    assert found.tolist() == [RIGHT, RIGHT]
    half = outcomes(pool(Cohort(texts[1:3], labels[1:3], (0, 0), 1), scorer), prompt, scorer)
    assert half.tolist() == [WRONG]  # half is not most


@pytest.mark.parametrize("patients", [1, 2, 25])
def test_one_patient_more_changes_no_other_patients_outcome(task: Task, scorer: Scorer, prompt: Array, patients: int) -> None:
    """Neighbour replay: the counts on D and on D without a patient differ by one in one place."""
    cohort = make_cohort(task, patients, seed=8, records=3)
    more, less = (outcomes(pool(c, scorer), prompt, scorer) for c in (cohort, without_last(cohort)))
    assert (more[:-1] == less).all()
    assert np.abs(tally(more, 2).value - tally(less, 2).value).sum() == 1


def test_nobody_gives_no_accuracy_and_the_widest_interval() -> None:
    assert accuracy(0, 0) is None
    assert accuracy(-3, 1) is None
    assert accuracy(12, -2) == 1.0
    assert interval(0, 0, 10.0) == (0.0, 1.0)
    assert interval(-20, 1, 10.0)[1] == 1.0


def test_noise_widens_the_interval() -> None:
    plain, noised = interval(80, 20, 0.0), interval(80, 20, 10.0)
    assert noised[0] < plain[0] < 0.8 < plain[1] < noised[1]


@pytest.mark.parametrize(("patients", "truth"), [(15, 0.7), (60, 0.8), (300, 0.9)])
def test_the_interval_covers_the_truth_and_one_that_forgets_the_noise_does_not(patients: int, truth: float) -> None:
    random, count, noise = np.random.default_rng(patients), 2000, 8.0
    right = random.binomial(patients, truth, count)
    noises = discrete_gaussian(2 * count, noise, SimulationSource(1).stream("noise")).reshape(2, count)
    seen = np.stack([right, patients - right]) + noises

    def covered(assumed: float) -> float:
        bounds = [interval(int(r), int(w), assumed) for r, w in seen.T]
        return float(np.mean([low <= truth <= high for low, high in bounds]))

    assert covered(noise) > 0.935
    assert covered(0.0) < 0.9
