"""Words are read from updates without noise, and from updates with too little; the noise as stated hides them."""

from dataclasses import replace

import numpy as np
import pytest

from audits.attacks import inverter, matching, notes, tokens
from audits.attacks.choice import Tally, ceiling
from audits.attacks.matching import Dictionary, Guess
from audits.attacks.recovery import run
from audits.attacks.rehearsal import Material, gather, predict
from audits.attacks.rouge import rouge_l, rouge_n
from audits.attacks.words import Reading, judge, tally
from audits.section import Section
from audits.subject import Subject
from shared.card import Task
from shared.prompt import Array
from shared.scoring import Scorer
from tests.audits.attacks.reading.conftest import quieter


@pytest.fixture(scope="module")
def material(subject: Subject) -> Material:
    return gather(subject)


@pytest.fixture(scope="module")
def sections(subject: Subject, material: Material) -> list[Section]:
    return [tokens.audit(subject, material), inverter.audit(subject, material)]


def test_the_control_is_read_and_the_noise_hides(sections: list[Section]) -> None:
    for section in sections:
        single = section.marks[0]
        assert section.passed
        assert section.verdicts[0].holds is True  # decided: the control went through
        assert single.control is not None
        assert single.ceiling is not None
        assert single.control > 0.5
        assert single.low <= single.ceiling


def test_whole_notes_are_read_without_noise_and_no_lift_is_left_with_it(sections: list[Section]) -> None:
    facts = sections[0].facts
    assert facts
    single = facts["texts"][0]
    for measure in ("word-set F1", "ROUGE-1", "ROUGE-2", "ROUGE-L"):
        assert single["control"][measure] > single["prior"][measure] + 0.2
        assert single["noised"][measure] < single["prior"][measure] + 0.1


def test_too_little_noise_is_found_by_both(subject: Subject) -> None:
    for section in run(replace(subject, step=quieter)):
        assert not section.passed
        assert section.findings


def test_a_model_that_reads_no_word_decides_nothing(task: Task, scorer: Scorer, prompt: Array) -> None:
    for section in run(Subject(task, scorer, (prompt,))):  # its tokenizer knows none of the words
        assert section.passed
        assert section.verdicts[0].holds is None
        assert "shows nothing" in section.verdicts[0].caveat


def test_gradients_are_predicted_as_the_step_makes_them(subject: Subject, material: Material) -> None:
    updates = material.read[0].first(4)
    alone = predict(subject, updates.choices[:, 0], updates.labels[:, 0])
    assert np.allclose(alone, updates.control, atol=1e-4)


def test_matching_solves_a_sum_that_its_model_explains() -> None:
    public = np.random.default_rng(3)
    dictionary = Dictionary(public.normal(size=(2, sum(notes.SIZES) + 1, 400)))
    truth = notes.draw(12, public)
    for labels in ([0, 0], [0, 1]):
        pairs = truth.reshape(6, 2, -1)
        sums = dictionary.gradients(pairs[:, 0], labels[0]) + dictionary.gradients(pairs[:, 1], labels[1])
        guess = matching.match(dictionary, sums, 2)
        assert np.sort(guess.labels, 1).tolist() == [labels] * 6
        found = tally(pairs, tokens.distinct(guess))
        assert min(one.rate for one in found) > 0.7


def test_refining_mends_one_word_of_a_note(subject: Subject) -> None:
    public = np.random.default_rng(5)
    truth, labels = notes.draw(6, public), np.zeros(6, dtype=np.int64)
    updates = predict(subject, truth, labels)
    dictionary = matching.learn(gather(subject, seed=5).shadows)
    wrong = truth.copy()
    wrong[:, notes.SURNAME] = (wrong[:, notes.SURNAME] + 1) % notes.SIZES[notes.SURNAME]
    start = Guess(wrong[:, None], labels[:, None])
    found = matching.refine(dictionary, updates, start, lambda c, y: predict(subject, c, y), alternatives=8)
    assert (found.choices[:, 0] == truth).mean() > (wrong == truth).mean()


@pytest.mark.parametrize("k", [2, 8, 32])
def test_the_best_guess_of_one_in_k_stays_under_the_ceiling(k: int) -> None:
    """The best attack on k gradients of full length, each at right angles to all others."""
    mu, trials = 1.5, 20_000
    seen = np.random.default_rng(k).normal(size=(trials, k))
    seen[:, 0] += mu
    right = int((seen.argmax(1) == 0).sum())
    found = Tally(right, trials, 1 / k)
    assert found.interval[0] <= ceiling(1 / k, mu)
    assert found.rate > 0.6 * ceiling(1 / k, mu)  # and the ceiling is no idle number
    assert found.passes(ceiling(1 / k, mu / 2), 1)  # half the noise would be found


def test_a_verdict_needs_a_control() -> None:
    right, nothing = Tally(45, 50, 1 / 32), Tally(2, 50, 1 / 32)
    claims = {
        (noised, control): judge("test", [Reading(1, (noised,) * 7, (control,) * 7)], 0.4).holds
        for noised in (right, nothing)
        for control in (right, nothing)
    }
    assert claims == {(nothing, right): True, (nothing, nothing): None, (right, right): False, (right, nothing): False}


def test_rouge_of_equal_and_of_foreign_texts() -> None:
    assert (rouge_n("a b c", "a b c", 2), rouge_l("a b c", "a b c")) == (1.0, 1.0)
    assert (rouge_n("a b c", "x y", 1), rouge_l("a b c", "x y"), rouge_n("a", "a", 2)) == (0.0, 0.0, 0.0)
    assert rouge_l("a b c d", "a x c d") == 0.75


def test_notes_are_drawn_evenly_and_read_as_sentences() -> None:
    drawn = notes.draw(3200, np.random.default_rng(0))
    assert (np.bincount(drawn[:, notes.SURNAME], minlength=32) > 50).all()
    assert notes.one_hot(drawn).sum(1).tolist() == [7.0] * 3200
    assert len(notes.text(drawn[0]).split()) == 14
    assert all(len(set(gap.words)) == len(gap.words) for gap in notes.GAPS)
