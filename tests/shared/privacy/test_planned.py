"""Calibration from a card's epsilon: every local step counts, on the card's own grid, whatever a patient's number of records."""

from pathlib import Path

import pytest

from shared.card import Task, TaskCard
from shared.privacy.accounting import epsilon
from shared.privacy.clip import STEPS
from shared.privacy.planned import epsilon_of_plan, mechanism_of, releases_of
from tests.conftest import CARD


def card(steps: int = 3, records: int = 2, mechanism: str = "discrete-gaussian") -> TaskCard:
    text = CARD.format(folder=Path("none"), fingerprint="0" * 64, layer=1)
    text = text.replace("noise_multiplier = 3.0", f'epsilon = 2.0\nmechanism = "{mechanism}"')
    text = text.replace("max_records = 2", f"max_records = {records}")
    return Task.parse(text.replace("rounds = 6", f"rounds = 2\nlocal_steps = {steps}"), "card.toml").card


@pytest.mark.slow
@pytest.mark.parametrize("mechanism", ["discrete-gaussian", "gaussian"])
def test_a_card_with_an_epsilon_meets_it_closely_over_all_local_steps(mechanism: str) -> None:
    found = card(mechanism=mechanism)
    one = mechanism_of(found).spends
    assert one.steps == (STEPS if mechanism == "discrete-gaussian" else None)
    assert releases_of(found) == 6
    assert epsilon_of_plan(found) <= 2.0 < epsilon(0.5, one.noise_multiplier / 1.002, 6, 1e-4, one.steps)
    assert epsilon(0.5, one.noise_multiplier, 7, 1e-4, one.steps) > 2.0  # one step more would not fit


@pytest.mark.slow
def test_epsilon_does_not_depend_on_how_many_records_a_patient_has() -> None:
    """Patients are drawn, averaged and clipped whole: privacy.md 2.2 (e), option 1."""
    one, many = card(records=1), card(records=50)
    assert mechanism_of(one) == mechanism_of(many)
    assert epsilon_of_plan(one) == epsilon_of_plan(many)
