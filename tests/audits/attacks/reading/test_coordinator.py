"""Nothing gets through a right hospital; hospitals and steps with a bug are found, each by the attempt that is meant for it."""

from dataclasses import replace

import numpy as np
import pytest
from flwr.app import RecordDict

from audits.attacks.attempts import changed_cards
from audits.attacks.coordinator import audit
from audits.attacks.crafted import accuracy_ceiling, auc_ceiling, gradients_of, measure, prospects
from audits.section import Section
from audits.subject import Subject, made_up_pool
from client.hospital import Hospital
from shared.card import Task
from shared.wire import Request
from tests.audits.attacks.reading.conftest import quieter


def failed(section: Section) -> set[str]:
    """Return what was tried with success."""
    return {row[0] for row in section.tables[0].rows if row[2] == "FAILS"}


@pytest.mark.slow
def test_nothing_gets_through_a_right_hospital(subject: Subject) -> None:
    section = audit(subject)
    assert section.passed
    assert failed(section) == set()
    assert [verdict.holds for verdict in section.verdicts] == [True, True]
    assert len(section.tables[0].rows) >= 25
    [mark] = section.marks
    assert mark.ceiling is not None
    assert mark.control is not None
    assert mark.low <= mark.ceiling < mark.control


class Credulous(Hospital):
    """A hospital that looks at no request."""

    def _check(self, request: Request) -> None:
        pass


class Forgetful(Hospital):
    """A hospital that answers a round that it answered before with fresh noise."""

    def respond(self, request: Request) -> RecordDict:
        self.ledger, kept = None, self.ledger
        try:
            return super().respond(request)
        finally:
            self.ledger = kept


class Spendthrift(Hospital):
    """A hospital that never looks at its budget."""

    def _afford(self, round_: int, turn: int, cost: int) -> None:
        pass


class Trusting(Hospital):
    """A hospital that does not compare its ledger with what left."""

    def _refuse(self) -> None:
        pass


@pytest.mark.parametrize(
    ("kind", "found"),
    [
        (Credulous, {"another task's digest", "round 0", "a prompt with one NaN"}),
        (Forgetful, {"the same round again", "the same round with another prompt"}),
        (Spendthrift, {"round 1 in 6 new runs, with a budget for 3"}),
        (Trusting, {"the next round, after an older ledger was put back"}),
    ],
)
def test_a_hospital_with_a_bug_is_found(
    subject: Subject, kind: type[Hospital], found: set[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("audits.subject.Hospital", kind)
    section = audit(subject)
    assert not section.passed
    assert found <= failed(section)


def test_too_little_noise_is_found(subject: Subject) -> None:
    section = audit(replace(subject, step=quieter))
    assert [verdict.holds for verdict in section.verdicts] == [False, False]
    assert "all other sites collude and subtract their updates" in failed(section)


def test_crafted_prompts_make_the_target_stand_out(subject: Subject) -> None:
    public = made_up_pool(subject, 24, 1)
    honest, *crafted = prospects(subject)
    best = max(crafted, key=lambda prospect: prospect.separation)
    assert best.separation >= honest.separation
    assert best.length == pytest.approx(subject.mechanism.clip_norm, rel=1e-3)
    lengths = np.linalg.norm(gradients_of(subject, best.prompt, public), axis=1)
    assert (lengths <= subject.mechanism.clip_norm * (1 + 1e-6)).all()


@pytest.mark.slow
def test_the_best_attack_on_one_release_meets_its_ceiling(subject: Subject) -> None:
    best = max(prospects(subject), key=lambda prospect: prospect.separation)
    found = measure(subject, best, 250)
    low, high = found.right.interval
    most = accuracy_ceiling(1 / subject.mechanism.noise_multiplier)
    assert low <= most
    assert high > most - 0.08  # the ceiling is no idle number
    assert abs(found.auc - auc_ceiling(1 / subject.mechanism.noise_multiplier)) < 0.08


def test_everything_is_seeded(subject: Subject) -> None:
    best = prospects(subject)[1]
    assert measure(subject, best, 10) == measure(subject, best, 10)
    assert measure(subject, best, 10) != measure(subject, best, 10, seed=1)


@pytest.mark.slow
def test_a_card_with_its_noise_by_epsilon_is_changed_too(subject: Subject) -> None:
    text = subject.task.text.replace("noise_multiplier = 1.0", "epsilon = 4.0")
    changed = changed_cards(replace(subject, task=Task.parse(text, "by epsilon")))
    assert [attempt.holds for attempt in changed] == [True] * 4
    assert "epsilon 40" in changed[0].tried
