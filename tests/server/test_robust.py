"""Robust rules against Flower's own strategies as twins, what liars cannot do to them, and why Krum does not go with noise."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from flwr.app import Array as FlowerArray
from flwr.app import ArrayRecord, Message, MetricRecord, RecordDict
from flwr.common import MessageType
from flwr.serverapp.strategy import FedAvg, FedMedian, FedTrimmedAvg, Krum
from hypothesis import given
from hypothesis import strategies as st

from server.aggregate import Double
from server.robust import Combined, combine, in_words, kept_shares, krum, require_sense, trimmed_mean
from shared.card import Task
from shared.errors import InputError
from shared.flower import identify
from shared.plan import PlanTable
from shared.privacy.mechanism import Mechanism, without_privacy

SHAPE = (3, 5)


def plan(aggregation: str, sites: int, tolerate: int | None = None, quorum: int | None = None) -> PlanTable:
    return PlanTable.model_validate(
        {
            "rounds": 1,
            "patients_per_round": 1.0,
            "sites": [f"site-{n}" for n in range(sites)],
            "aggregation": aggregation,
            "tolerate": tolerate,
            "quorum": quorum,
        }
    )


def sent(count: int, seed: int = 0) -> dict[str, Double]:
    """Return updates such as grid units decode to: multiples of 2^-10."""
    random = np.random.default_rng(seed)
    return {f"site-{n}": np.round(random.normal(n, 3, SHAPE) * 1024) / 1024 for n in range(count)}


def flowers(strategy: FedAvg, updates: Mapping[str, Double]) -> Double:
    """Return what Flower's strategy makes of the same updates, every site with weight 1."""
    identify(1)
    replies = []
    for node, update in enumerate(updates.values(), start=1):
        content = RecordDict({"arrays": ArrayRecord({"a": FlowerArray(update)}), "m": MetricRecord({"num-examples": 1})})
        replies.append(Message(content, reply_to=Message(RecordDict(), node, MessageType.TRAIN)))
    arrays, _ = strategy.aggregate_train(1, replies)
    assert arrays
    return np.asarray(arrays["a"].numpy(), np.float64)


@pytest.mark.parametrize("sites", [5, 6, 8])
@pytest.mark.parametrize(
    ("rule", "tolerate"), [("sum", None), ("median", None), ("trimmed-mean", 1), ("trimmed-mean", 2), ("krum", 1)]
)
def test_every_rule_is_flowers_on_the_scale_of_the_sum(rule: str, tolerate: int | None, sites: int) -> None:
    twins = {
        "sum": FedAvg,
        "median": FedMedian,
        # Flower cuts int(beta * m): a quarter of a site more than f is safe against its rounding
        "trimmed-mean": lambda: FedTrimmedAvg(beta=((tolerate or 0) + 0.25) / sites),
        "krum": lambda: Krum(num_malicious_nodes=tolerate or 0),
    }
    found = sum(combine(sent(sites), plan(rule, sites, tolerate)).updates)
    np.testing.assert_allclose(found, sites * flowers(twins[rule](), sent(sites)), rtol=1e-12, atol=1e-12)


def test_the_scale_is_the_rosters_whoever_is_there() -> None:
    four = sent(4)
    [total] = combine(four, plan("median", 6, quorum=3)).updates
    np.testing.assert_allclose(total, 6 * np.median(list(four.values()), axis=0))
    same = {name: np.ones(SHAPE) for name in sent(3)}
    for rule, tolerate in (("median", None), ("trimmed-mean", 1)):
        [total] = combine(same, plan(rule, 6, tolerate, quorum=3)).updates
        assert (total == 6.0).all()  # three sites are silent: the step is what all six would have made


def test_why_flowers_own_are_twins_and_not_parts() -> None:
    """Its trimmed mean cuts nobody for f = 1 of 49; its Krum takes a far-off update on int32, whose squares overflow."""
    many = {f"site-{n}": np.zeros(SHAPE) for n in range(48)} | {"liar": np.full(SHAPE, 49e6)}
    assert (flowers(FedTrimmedAvg(beta=1 / 49), many) == 1e6).all()
    assert (trimmed_mean(np.stack(list(many.values())), 1) == 0).all()
    units = {"liar": np.full((2, 2), 2**20, np.int32)} | {f"site-{n}": np.full((2, 2), n, np.int32) for n in range(4)}
    assert (flowers(Krum(num_malicious_nodes=1), units) == 2**20).all()  # type: ignore[arg-type]
    assert krum(np.stack(list(units.values())).astype(np.float64), 1) > 0


@given(st.integers(1, 3), st.integers(0, 4), st.integers(0, 2**32 - 1), st.floats(0, 1e12))
def test_liars_cannot_move_a_number_past_the_honest_range(liars: int, more: int, seed: int, size: float) -> None:
    random = np.random.default_rng(seed)
    honest = random.normal(size=(liars + 1 + more, *SHAPE))
    lies = size * random.normal(size=(liars, *SHAPE))
    everyone = random.permutation(np.concatenate([honest, lies]))
    for cut in (liars, (len(everyone) - 1) // 2):  # trimmed mean and median
        found = trimmed_mean(everyone, cut)
        assert (found >= honest.min(axis=0)).all()
        assert (found <= honest.max(axis=0)).all()


def test_one_liar_more_than_tolerated_moves_it_anywhere() -> None:
    """The test above is no truism: the bound fails at f + 1."""
    honest, lies = np.zeros((3, 1)), np.full((2, 1), 1e9)
    assert trimmed_mean(np.concatenate([honest, lies]), 1)[0] > 1e8


@given(st.sampled_from(["median", "trimmed-mean", "krum"]), st.integers(5, 9), st.integers(0, 2**32 - 1))
def test_the_order_of_sites_makes_no_difference(rule: str, sites: int, seed: int) -> None:
    updates = sent(sites, seed)
    order = np.random.default_rng(seed).permutation(list(updates)).tolist()
    how = plan(rule, sites, None if rule == "median" else 1)
    one, other = combine(updates, how), combine({name: updates[name] for name in order}, how)
    assert one.updates[0].tobytes() == other.updates[0].tobytes()


@pytest.mark.parametrize(("rule", "tolerate"), [("sum", None), ("median", None), ("trimmed-mean", 2), ("krum", 1)])
def test_the_inputs_are_not_written_to(rule: str, tolerate: int | None) -> None:
    updates, before = sent(5), sent(5)
    combine(updates, plan(rule, 5, tolerate))
    assert all((updates[name] == before[name]).all() for name in before)


def test_the_sum_hands_on_what_was_sent() -> None:
    updates = sent(4)
    assert combine(updates, plan("sum", 4)) == Combined(tuple(updates.values()), {})


def test_what_a_site_had_a_say_in_is_counted() -> None:
    updates = sent(6) | {"site-0": np.full(SHAPE, 1e6)}
    kept = combine(updates, plan("trimmed-mean", 6, 1)).kept
    assert kept["site-0"] == 0
    assert sum(kept.values()) == pytest.approx(4)
    assert kept_shares(np.zeros((5, *SHAPE)), 1).sum() == pytest.approx(3)  # ties are dropped as often as others
    chosen = combine(updates, plan("krum", 6, 1)).kept
    assert sorted(chosen.values()) == [0, 0, 0, 0, 0, 1]
    assert chosen["site-0"] == 0


def test_too_few_updates_are_an_error_and_not_an_empty_mean() -> None:
    with pytest.raises(ValueError, match="2 updates cannot lose 1 at either end"):
        trimmed_mean(np.zeros((2, 1)), 1)


def chosen(quiet: bool, size: float, rounds: int = 200) -> float:
    """Return how often Krum takes the liar of seven sites: honest ones send a common signal and noise of deviation 1."""
    random, dimension = np.random.default_rng(5), 400
    signal = random.normal(size=dimension)
    signal *= 4 / np.linalg.norm(signal)  # a fifth of the noise's norm, which is 20
    taken = 0
    for _ in range(rounds):
        noise = random.normal(size=(7, dimension))
        lie = -size * signal / 4 + (0 if quiet else noise[6])
        taken += krum(np.vstack([signal + noise[:6], lie[None]]), 1) == 6
    return taken / rounds


def test_krum_takes_the_liar_that_adds_no_noise() -> None:
    """This is why Krum is refused with noise: a lie under the noise's norm wins nearly always."""
    assert chosen(quiet=True, size=4) == 1.0
    assert chosen(quiet=True, size=14) > 0.8
    assert chosen(quiet=True, size=30) == 0.0  # larger than the noise: now it is seen
    assert chosen(quiet=False, size=4) < 0.3  # with noise of its own it is one of seven


@pytest.mark.parametrize("mechanism", [Mechanism(0.5, 1.0, 3.0), Mechanism(0.5, 1.0, 3.0, exact=False)])
def test_krum_with_noise_is_refused(task: Task, mechanism: Mechanism) -> None:
    card = task.card.model_copy(update={"plan": plan("krum", 5, 1)})
    with pytest.raises(InputError, match=r"key 'plan.aggregation': 'krum' prefers a site that adds no noise"):
        require_sense(card, mechanism)
    require_sense(card, without_privacy(0.5))
    for rule, tolerate in (("sum", None), ("median", None), ("trimmed-mean", 1)):
        require_sense(task.card.model_copy(update={"plan": plan(rule, 5, tolerate)}), mechanism)


@pytest.mark.parametrize(("rule", "tolerate"), [("median", None), ("trimmed-mean", 2), ("krum", 1)])
def test_a_report_says_what_the_rule_promises(task: Task, rule: str, tolerate: int | None) -> None:
    card = task.card.model_copy(update={"plan": plan(rule, 5, tolerate)})
    said = in_words(card, private=True)
    assert f"up to {card.plan.tolerates} " in said
    for promise in ("epsilon is the same", "no longer that of DP-SGD", "unusual hospital has less say", "no larger than the noise"):
        assert promise in said
    assert "epsilon" not in in_words(card, private=False)
    assert "which is DP-SGD" in in_words(task.card, private=True)


@pytest.mark.parametrize(
    ("sites", "cut", "variance", "reach"),
    [(4, 1, 1.19, 1.69), (10, 1, 1.05, 1.84), (10, 4, 1.38, 1.37), (51, 25, 1.54, 1.28)],  # 25 of 51: the median, towards pi / 2
)
def test_cost_and_reach_of_the_rules_are_those_of_the_documents(sites: int, cut: int, variance: float, reach: float) -> None:
    """In units of the noise's deviation: the variance beside the sum's, and how far one liar can move the result on average."""
    honest = np.random.default_rng(1).normal(size=(sites, 40_000))

    def result(first: Double) -> Double:
        return sites * trimmed_mean(np.vstack([first[None], honest[1:]]), cut)

    mine = result(honest[0])
    assert mine.var() / sites == pytest.approx(variance, abs=0.04)
    assert (result(np.full(40_000, 1e9)) - mine).mean() == pytest.approx(reach, abs=0.04)
    assert (result(honest[0] + 0.2) - mine).mean() == pytest.approx(0.2, abs=0.01)  # within the noise it counts as in the sum


def test_the_documents_say_so() -> None:
    told = (Path(__file__).parents[2] / "docs/robustness.md").read_text()
    for figure in ("1.19", "1.69", "1.05", "1.84", "1.38", "1.37"):
        assert figure in told
