"""The audit of a card with bands: right turns pass, and each bug is accused by the claim that it breaks."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from audits.subject import Subject
from audits.turns import turns
from client.round import LocalPlan, Pool, answer_in_turn
from shared.card import Task
from shared.privacy import banded
from shared.privacy.banded import Carry
from shared.privacy.mechanism import Update
from shared.prompt import Array
from shared.scoring import Scorer

CLAIMS = ("One patient moves", "every turn has noise", "no two turns", "only its group")
Turn = Callable[..., tuple[Update, Carry]]


@pytest.fixture
def banded_subject(task: Task, scorer: Scorer, prompt: Array) -> Subject:
    card = Task.parse(task.text.replace("sample_rate = 0.5", "sample_rate = 0.2\nbands = 3"), "card.toml")
    wide = np.tile(prompt, (60, 1))  # (240, 16): more numbers, to see more of the noise
    shape = replace(scorer.shape, rows=len(wide) - scorer.shape.labels)
    return Subject(card, replace(scorer, shape=shape), (wide,))


def everybody(pool: Pool, prompt: Array, plan: LocalPlan, scorer: Scorer, source: object, carry: Carry, *at: object) -> object:
    """A group's turn is everybody's."""
    same = replace(pool, keys=np.full(pool.patients, carry.turn, dtype=np.uint64))
    return answer_in_turn(same, prompt, plan, scorer, source, carry, *at)  # type: ignore[arg-type]


def by_place(pool: Pool, *rest: object) -> object:
    """A patient's group hangs on who stands before it in the table."""
    return answer_in_turn(replace(pool, keys=None), *rest)  # type: ignore[arg-type]


def half_noise(pool: Pool, prompt: Array, plan: LocalPlan, *rest: object) -> object:
    """Half the noise."""
    half = replace(plan.mechanism, noise_multiplier=plan.mechanism.noise_multiplier / 2)
    return answer_in_turn(pool, prompt, replace(plan, mechanism=half), *rest)  # type: ignore[arg-type]


def forgetful(pool: Pool, prompt: Array, plan: LocalPlan, scorer: Scorer, source: object, carry: Carry, *at: object) -> object:
    """Nothing is taken back of what earlier turns said."""
    lost = replace(carry, sent=np.zeros_like(carry.sent))
    return answer_in_turn(pool, prompt, plan, scorer, source, lost, *at)  # type: ignore[arg-type]


def rarely(pool: Pool, prompt: Array, plan: LocalPlan, *rest: object) -> object:
    """A lower rate than the card's."""
    low = replace(plan.mechanism, sample_rate=plan.mechanism.sample_rate * 0.8)
    return answer_in_turn(pool, prompt, replace(plan, mechanism=low), *rest)  # type: ignore[arg-type]


def failed(subject: Subject) -> set[str]:
    verdicts = turns(subject).verdicts
    return {claim for verdict in verdicts for claim in CLAIMS if not verdict.holds and claim in verdict.claim}


def test_right_turns_pass(banded_subject: Subject) -> None:
    section = turns(banded_subject)
    assert [verdict.holds for verdict in section.verdicts] == [True] * 4
    assert section.summary == "4 of 4 claims hold."
    surely = Task.parse(
        banded_subject.task.text.replace("sample_rate = 0.2\nbands = 3", "sample_rate = 0.5\nbands = 2"), "card.toml"
    )
    assert turns(replace(banded_subject, task=surely)).passed


@pytest.mark.parametrize(
    ("bug", "accused"),
    [
        (everybody, {"One patient moves", "only its group"}),
        (by_place, {"One patient moves"}),
        (half_noise, {"every turn has noise"}),
        (forgetful, {"every turn has noise", "no two turns"}),
        (rarely, {"only its group"}),
    ],
)
def test_a_bug_is_accused(banded_subject: Subject, bug: Turn, accused: set[str]) -> None:
    assert accused <= failed(replace(banded_subject, turn=bug))


def test_weights_that_are_too_long_are_accused(banded_subject: Subject, monkeypatch: pytest.MonkeyPatch) -> None:
    long = tuple(round(k * 1.2) for k in banded.weights(3))
    monkeypatch.setattr(banded, "weights", lambda bands: long)
    assert "One patient moves" in failed(banded_subject)
