"""Every attack works without noise, stays under the ceiling with the stated noise, and passes it where noise is missing."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from audits.attacks import attribute, gallery, labels, membership, source
from audits.attacks.alone import Alone, alone
from audits.attacks.attribute import certified
from audits.attacks.judge import section
from audits.attacks.membership import Seen
from audits.attacks.scenes import Draws, Roaming, Sizes, distinct, draw, roam
from audits.attacks.view import answered, clipped_gradients, some
from audits.section import Section
from audits.subject import Subject
from client.round import Pool
from tests.audits.attacks.conftest import SMALL, quieter

SEED = 11
Scene = tuple[Subject, list[Draws], Alone, Pool]
Attack = Callable[[Scene], Section]


def one_update(subject: Subject) -> Scene:
    candidates = distinct(subject, SMALL.candidates, SEED)
    return subject, draw(subject, candidates, SMALL, SEED), alone(subject, SMALL, SEED), candidates


@pytest.fixture(scope="module")
def right(subject: Subject) -> Scene:
    return one_update(subject)


@pytest.fixture(scope="module")
def wrong(subject: Subject) -> Scene:
    return one_update(replace(subject, step=quieter(0.1)))


@pytest.fixture(scope="module")
def runs(subject: Subject) -> tuple[Roaming, Roaming]:
    """A whole run with the stated noise, and one that forgot nearly all of it."""
    return roam(subject, SMALL, SEED), roam(replace(subject, step=quieter(0.001)), SMALL, SEED)


def by_gallery(scene: Scene) -> Section:
    return gallery.attack(scene[0], scene[1])


def by_label(scene: Scene) -> Section:
    return labels.attack(scene[0], scene[2], scene[1], scene[3].labels.numpy())


def by_attribute(scene: Scene) -> Section:
    return attribute.attack(scene[0], scene[2])


@pytest.mark.parametrize("attack", [by_gallery, by_label, by_attribute])
def test_one_update(attack: Attack, right: Scene, wrong: Scene) -> None:
    found = attack(right)
    [mark] = found.marks
    assert (mark.control or 0) >= 0.99
    assert found.passed
    assert found.verdicts[0].holds
    assert mark.low <= (mark.ceiling or 0)
    leaking = attack(wrong)
    assert not leaking.passed
    assert leaking.verdicts[0].holds is False
    assert leaking.marks[0].measured > mark.measured


def test_a_whole_run(subject: Subject, runs: tuple[Roaming, Roaming]) -> None:
    for attack in (lambda scene: membership.attack(subject, scene, None, SMALL, SEED), lambda scene: source.attack(subject, scene)):
        found, leaking = attack(runs[0]), attack(runs[1])
        assert (found.marks[0].control or 0) >= 0.9
        assert found.verdicts[0].holds
        assert leaking.verdicts[0].holds is False


def test_the_histogram_of_labels_is_exact_without_noise(right: Scene) -> None:
    facts = by_label(right).facts
    assert facts
    assert facts["histogram_error"]["without_noise"] < 0.05 < facts["histogram_error"]["prior"]


def test_the_certificate_convicts_only_what_leaks(right: Scene, wrong: Scene) -> None:
    told = [(by_attribute(scene).facts or {})["gaussian_mu_of_one_release"] for scene in (right, wrong)]
    assert told[0]["certified_at_least"] <= told[0]["claimed"] < told[1]["certified_at_least"]
    assert certified(20, 100, 5) == 0.0


def test_the_certificate_holds_at_its_level() -> None:
    """The best attacker between two opposite gradients at mu = 0.8: of 2,000 certificates, at most 5 % claim too much."""
    public = np.random.default_rng(3)
    accuracy = 0.7881  # Phi(0.8)
    claims = [certified(int(n), 100, 2) for n in public.binomial(100, accuracy, 2000)]
    assert 0.01 < np.mean(np.array(claims) > 0.8) <= 0.055


def seen_at(subject: Subject, where: Subject, sizes: Sizes) -> Seen:
    """Return a site's own transcript, made by `subject`, with its members and as many others."""
    everyone = distinct(where, 2 * sizes.cohort, SEED)
    half = np.arange(everyone.patients) < sizes.cohort
    members = some(everyone, half)
    updates = np.array([answered(subject, members, prompt, True) for prompt in where.prompts])
    return Seen(updates.reshape(len(updates), *where.scorer.shape.shape), members, some(everyone, ~half))


def test_a_runs_own_patients(subject: Subject, runs: tuple[Roaming, Roaming]) -> None:
    passed = []
    for step in (subject, replace(subject, step=quieter(0.001))):
        cohorts = {
            "North": seen_at(step, subject, SMALL),
            "Empty": Seen(np.zeros(0), Pool(*_nobody(subject)), Pool(*_nobody(subject))),
        }
        found = membership.attack(subject, runs[0], cohorts, SMALL, SEED)
        assert len(found.marks) == len(found.curves) == 2
        assert (found.marks[1].control or 0) > 0.7
        assert (found.facts or {})["sites_looked_at"] == ["North"]
        passed.append(found.verdicts[1].holds)
    assert passed == [True, False]


def _nobody(subject: Subject) -> tuple[object, ...]:
    some_one = distinct(subject, 1, 0)
    return some_one.hidden, some_one.labels, ()


def test_an_attack_that_finds_nothing_without_noise_decides_nothing(subject: Subject, right: Scene) -> None:
    blind = [replace(each, control=np.zeros_like(each.control)) for each in right[1]]
    found = gallery.attack(subject, blind)
    assert found.verdicts[0].holds is None
    assert found.passed


def test_known_gradients_are_what_the_step_adds_up(subject: Subject) -> None:
    candidates = distinct(subject, 7, 0)
    clean = answered(subject, candidates, subject.prompts[0], False)  # half of them, drawn in secret
    gradients = clipped_gradients(subject, candidates, subject.prompts[0])
    weights = np.linalg.lstsq(gradients.T, clean, rcond=None)[0]
    assert np.abs(weights - weights.round()).max() < 1e-2
    assert np.linalg.norm(gradients, axis=1).max() <= subject.mechanism.clip_norm * (1 + 1e-9)


def test_a_section_of_no_trial_is_empty() -> None:
    assert section("Nothing?", [], {}).summary == "0 of 0 claims hold."
