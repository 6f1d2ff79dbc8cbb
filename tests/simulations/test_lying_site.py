"""One hospital of five lies within the norm bound, in a real run: the sum is dragged, the robust rules are not."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from client.opening import proposal_of
from client.round import answer, pool
from shared.card import Task
from shared.privacy.mechanism import Mechanism
from shared.privacy.source import SimulationSource
from shared.prompt import Array
from shared.scoring import Scorer
from simulations.benchmarks.lying_site import Liar, liar, with_rule
from simulations.federation import Federation, Stopwatch, run_seed
from tests.conftest import make_cohort

SITES = ("A", "B", "C", "D", "E")


@pytest.fixture(scope="module")
def federation(task: Task, built: tuple[Scorer, Array]) -> Federation:
    """Five hospitals of alike patients, with little noise: what a lie does is then no matter of luck."""
    scorer, initial = built
    plan = task.card.plan.model_copy(update={"sites": SITES, "patients_per_round": 75.0, "optimizer": "sgd"})
    little = Task(task.card.model_copy(update={"plan": plan}), task.text, task.digest)
    pools = {name: pool(make_cohort(task, 30, seed=n, records=2), scorer) for n, name in enumerate(SITES)}
    return Federation(little, Mechanism(0.5, 1.0, 0.2), 1e9, scorer, initial, pools, tests={})


def movement(federation: Federation, folder: Path, lying: Liar | None) -> Array:
    prompt, spent = run_seed(federation, 0, folder, Stopwatch(), lambda _: None, lying or answer)
    assert {site.releases for site in spent.values()} == {federation.task.card.plan.rounds}  # every site paid the same
    return prompt - federation.initial


def agreement(one: Array, other: Array) -> float:
    return float((one * other).sum() / np.linalg.norm(one) / np.linalg.norm(other))


@pytest.mark.parametrize("kind", ["flipped", "loud"])
def test_a_lie_drags_the_sum_and_not_the_robust_rules(federation: Federation, tmp_path: Path, kind: str) -> None:
    honest = movement(federation, tmp_path / "honest", None)
    lying = liar(federation, "E", kind)
    dragged = movement(federation, tmp_path / "sum", lying)
    assert agreement(dragged, honest) < 0  # it learns the opposite
    for rule, tolerate in (("median", None), ("trimmed-mean", 1)):
        held = movement(with_rule(federation, rule, tolerate), tmp_path / rule, lying)
        assert agreement(held, honest) > 0.8
        assert 0.5 < np.linalg.norm(held) / np.linalg.norm(honest) < 2  # the sum's scale


def test_a_robust_rule_costs_little_where_nobody_lies(federation: Federation, tmp_path: Path) -> None:
    honest = movement(federation, tmp_path / "sum", None)
    for rule, tolerate in (("median", None), ("trimmed-mean", 1)):
        assert agreement(movement(with_rule(federation, rule, tolerate), tmp_path / rule, None), honest) > 0.9


def test_the_lies_have_the_norm_that_they_claim(federation: Federation, scorer: Scorer) -> None:
    for exact in (True, False):
        named = replace(federation, mechanism=replace(federation.mechanism, exact=exact))
        plan = proposal_of(named.task, named.mechanism).plan
        for kind in ("flipped", "loud", "hidden"):
            lying = liar(named, "E", kind)
            source = SimulationSource(0)
            sent = lying(named.pools["E"], named.initial, plan, scorer, source, "run", "E", 1)
            assert np.linalg.norm(sent.astype(np.float64) * named.mechanism.grid) == pytest.approx(lying.norm, rel=1e-3)
            honest = lying(named.pools["D"], named.initial, plan, scorer, source, "run", "D", 1)
            assert (honest == answer(named.pools["D"], named.initial, plan, scorer, source, "run", "D", 1)).all()
