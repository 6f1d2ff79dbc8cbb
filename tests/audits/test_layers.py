"""How sharp each layer is: what is barely wrong is refuted, what is barely right is not."""

from dataclasses import replace

import numpy as np
import torch

from audits.bugs_step import Parts, noised, scaled
from audits.conduct import conduct
from audits.inclusion import inclusion, readings
from audits.replay import replay
from audits.residual import NUMBERS, epsilon_bound, residual, shadow, widened
from audits.section import Section
from audits.subject import Subject, made_up_pool
from shared.card import Task
from shared.privacy.clip import STEPS, clipped_sum
from shared.privacy.mechanism import Mechanism
from shared.privacy.noise import discrete_gaussian
from shared.privacy.source import SimulationSource


def refuted(section: Section) -> set[str]:
    assert section.passed == (not section.findings)
    return {verdict.claim for verdict in section.verdicts if verdict.holds is False}


def test_a_sum_one_thousandth_past_the_clip_norm_is_refuted(subject: Subject) -> None:
    def longer(gradients: torch.Tensor, mechanism: Mechanism) -> np.ndarray:
        return clipped_sum(gradients, mechanism.clip_norm).value + np.trunc(
            clipped_sum(gradients, mechanism.clip_norm).value * 0.002
        ).astype(np.int64)

    found = replay(replace(subject, step=Parts(released=noised(longer))))
    assert "One patient moves an update by at most the clip norm" in refuted(found)
    assert not refuted(replay(replace(subject, step=Parts())))


def test_noise_eight_percent_too_small_is_refuted_and_so_is_too_much(subject: Subject) -> None:
    for factor in (0.92, 1.08):
        claims = refuted(residual(replace(subject, step=scaled(factor)), proven=False))
        assert "The noise has the stated scale in every part of the prompt" in claims
        assert ("The noise is no smaller than epsilon was computed with" in claims) == (factor < 1)


def test_one_shadow_round_proves_at_least_97_percent_of_epsilon(subject: Subject) -> None:
    """The median of twenty rounds of 7,680 numbers; the bound is monotone in the residual's length."""
    scale = subject.mechanism.noise_multiplier * STEPS
    rounds = [discrete_gaussian(NUMBERS, scale, SimulationSource(n).stream("noise")) / STEPS for n in range(21)]
    median = sorted(rounds, key=lambda r: float((r**2).sum()))[10].reshape(-1, 16)
    bound = epsilon_bound(subject, median)
    assert bound.proven is not None
    assert 0.97 <= bound.proven / bound.claimed <= 1


def test_a_shadow_rounds_residual_is_the_noise_and_nothing_else(subject: Subject) -> None:
    """With the noise taken down to a thousandth, what is left of twenty patients is a thousandth."""
    quiet = replace(subject.plan, mechanism=replace(subject.mechanism, noise_multiplier=1e-3))
    found = shadow(widened(subject, 200), made_up_pool(subject, 20, 0, records=2), quiet, ("run", "site", 1), seed=3)
    assert 0.5e-3 < found.residual.std() < 2e-3
    assert found.residual.shape == (13, 16)


def test_a_draw_can_be_read_off_and_a_rate_of_one_is_held_to_everybody(subject: Subject) -> None:
    read = readings(subject)
    assert read.shape[0] >= 40
    assert np.abs(read - (read > 0.5)).max() < 0.05
    all_in = with_rate(subject, 1.0)
    assert not refuted(inclusion(all_in))
    some = Parts(draw=lambda pool, _plan, source, at: np.arange(pool.patients - 1))
    assert "The draw is Poisson at the card's rate" in refuted(inclusion(replace(all_in, step=some)))


def test_a_low_rate_gets_more_coins(subject: Subject) -> None:
    drawn = readings(with_rate(subject, 0.02)) > 0.5
    assert drawn.sum() > 1000
    assert not refuted(inclusion(with_rate(subject, 0.02)))


def test_conduct_tells_what_it_saw(subject: Subject) -> None:
    found = conduct(subject)
    assert found.passed
    [table] = found.tables
    assert [row[1] for row in table.rows] == ["3"] * 5  # replies, also of nobody
    assert len({row[2] for row in table.rows}) == 1  # bytes


def with_rate(subject: Subject, rate: float) -> Subject:
    text = subject.task.text.replace("sample_rate = 0.5", f"sample_rate = {rate}")
    return replace(subject, task=Task.parse(text, "rate.toml"))
