"""The benchmark of SCAFFOLD compares what differs by the control alone."""

import tomllib

import pytest

from shared.privacy.planned import releases_of
from simulations.benchmarks.scaffold import card


def test_the_arms_differ_by_the_control_alone() -> None:
    without, controlled = (card(control, 3.0, 0.4, steps=4, rounds=5) for control in ("none", "scaffold"))
    raw = tomllib.loads(controlled.text)
    assert raw["plan"].pop("control") == "scaffold"
    bare = tomllib.loads(without.text)
    assert bare["plan"].pop("control") == "none"
    assert raw == bare
    assert releases_of(controlled.card) == 20
    assert raw["privacy"]["epsilon"] == 3.0
    plan = controlled.card.plan
    assert plan.local_learning_rate * plan.local_steps == pytest.approx(plan.learning_rate)
