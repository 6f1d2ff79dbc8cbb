"""The closed form equals the definition, finds who is in, and is worth what it says."""

import numpy as np
import pytest

from audits.attacks.decoding import Background, drawn_at_rate, estimates, log_likelihood_ratios
from audits.attacks.roc import auc

PUBLIC = np.random.default_rng(2)
RATE, NOISE = 0.3, 0.7
GRADIENTS = PUBLIC.standard_normal((12, 40)) / np.sqrt(40)


def test_the_ratios_are_those_of_two_gaussians() -> None:
    mean, variance = PUBLIC.uniform(0.1, 0.6, 12), PUBLIC.uniform(0.1, 0.3, 12)
    update = PUBLIC.standard_normal(40)
    found = log_likelihood_ratios(GRADIENTS, update[None], NOISE, Background(mean, variance))[0]
    for i, mine in enumerate(GRADIENTS):
        others = np.arange(12) != i
        covariance = NOISE**2 * np.eye(40) + (GRADIENTS[others].T * variance[others]) @ GRADIENTS[others]
        rest = update - mean[others] @ GRADIENTS[others]
        h = np.linalg.solve(covariance, mine)
        assert found[i] == pytest.approx(h @ rest - mine @ h / 2, rel=1e-8)


def test_without_noise_everybody_is_found() -> None:
    truth = PUBLIC.random((20, 12)) < RATE
    guessed = estimates(GRADIENTS, truth @ GRADIENTS, 1e-7, Background.coins(RATE, 12))
    assert guessed == pytest.approx(truth.astype(float), abs=1e-6)
    assert ((log_likelihood_ratios(GRADIENTS, truth @ GRADIENTS, 1e-7, Background.coins(RATE, 12)) > 0) == truth).all()


def test_a_ratio_is_worth_what_it_says() -> None:
    """Of members' ratios, the mean of exp(-ratio) is 1, as for any true likelihood ratio; with the wrong noise it is not."""
    alone = GRADIENTS[:1] * 2
    update = alone + NOISE * PUBLIC.standard_normal((40_000, 40))
    right, wrong = (log_likelihood_ratios(alone, update, noise, Background.coins(1.0, 1)).ravel() for noise in (NOISE, 0.5 * NOISE))
    assert np.exp(-right).mean() == pytest.approx(1.0, abs=0.1)
    assert np.exp(-wrong).mean() != pytest.approx(1.0, abs=0.3)


def test_the_background_is_taken_out() -> None:
    """Candidates with much in common are told apart better than by the matched filter alone."""
    common = GRADIENTS + 1.0
    truth = PUBLIC.random((400, 12)) < RATE
    updates = truth @ common + NOISE * PUBLIC.standard_normal((400, 40))
    ratios = log_likelihood_ratios(common, updates, NOISE, Background.coins(RATE, 12))
    assert auc(ratios.ravel(), truth.ravel()).low > auc((updates @ common.T).ravel(), truth.ravel()).high


def test_a_draw_at_rate_one_changes_nothing_and_a_rare_one_caps_what_absence_says() -> None:
    ratios = np.array([-50.0, 0.0, 3.0])
    assert drawn_at_rate(ratios, 1.0) == pytest.approx(ratios)
    assert drawn_at_rate(ratios, 0.3)[0] == pytest.approx(np.log(0.7))
