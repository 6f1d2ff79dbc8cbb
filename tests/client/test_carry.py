"""A hospital in a banded run: its turns, its charges, and what survives a kill at every point of a round."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from client.carry import Carries
from client.hospital import Hospital
from client.policy import agree
from client.round import Pool, answer_in_turn, drawn_in_turn, keys_of
from shared.card import Task
from shared.errors import InputError, RefusedError, RunError
from shared.privacy.accounting import epsilon
from shared.privacy.banded import Carry
from shared.privacy.clip import STEPS
from shared.privacy.mechanism import Mechanism, Update
from shared.privacy.planned import epsilon_of_plan, releases_of
from shared.privacy.source import SimulationSource
from shared.wire import Request, unpack_reply
from tests.client.conftest import Open, cut_off

Ask = Callable[..., Request]
BANDED = Mechanism(0.5, 1.0, 3.0, bands=2)


@pytest.fixture
def open_banded(open_hospital: Open, tmp_path: Path) -> Callable[..., Hospital]:
    def opened(**changes: object) -> Hospital:
        hospital = open_hospital()
        hospital.proposal = replace(hospital.proposal, plan=replace(hospital.proposal.plan, mechanism=BANDED))
        hospital.carries = Carries(tmp_path / "carry", BANDED.bands, hospital.proposal.rounds)
        hospital.source = SimulationSource(3)  # type: ignore[assignment]
        for name, value in changes.items():
            setattr(hospital, name, value)
        return hospital

    return opened


def sent(hospital: Hospital, request: Request) -> Update:
    return unpack_reply(hospital.respond(request), np.dtype(np.int32))


def expected(hospital: Hospital, requests: list[Request]) -> list[Update]:
    """Return what a run without files sends: the pure step, its carry handed on."""
    numbers = requests[0].prompt.size
    carry, found = Carry(0, *(np.zeros((1, numbers), dtype=np.int64) for _ in range(2))), []
    for r in requests:
        facts = (hospital.pool, r.prompt, hospital.proposal.plan, hospital.scorer, hospital.source, carry)
        update, carry = answer_in_turn(*facts, r.run, hospital.name, r.round)
        found.append(update)
    return found


def test_rounds_build_on_each_other_and_every_second_one_is_charged(open_banded: Callable[..., Hospital], ask: Ask) -> None:
    hospital, requests = open_banded(), [ask(n, shift=0.1 * n) for n in (1, 2, 4, 5)]  # round 3 was missed
    updates = [sent(hospital, request) for request in requests]
    assert [u.tolist() for u in updates] == [e.tolist() for e in expected(hospital, requests)]
    assert sent(hospital, requests[-1]).tolist() == updates[-1].tolist()  # a resend
    assert hospital.ledger is not None
    assert [e.releases for e in hospital.ledger.events] == [1, 0, 1, 0]
    assert {(e.sample_rate, e.bands) for e in hospital.ledger.events} == {(1.0, 2)}
    assert hospital.ledger.spent(1e-4).epsilon == pytest.approx(epsilon(1.0, 3.0, 2, 1e-4, STEPS), rel=1e-6)
    sent(hospital, ask(1, run="run2"))  # another run begins with a turn and a charge of its own
    assert hospital.ledger.events[-1].releases == 1


@pytest.mark.parametrize(
    "point",
    [
        ("outbox", "keep", False, False),
        ("outbox", "keep", True, False),
        ("carries", "keep", True, False),
        ("ledger", "charge", True, True),
        ("carries", "settled", True, True),
        ("gate", "let_out", True, True),
    ],
)
@pytest.mark.parametrize("resent", [True, False])
def test_killed_at_any_point_it_has_taken_one_turn_if_it_paid(
    point: tuple[str, str, bool, bool],
    resent: bool,
    open_banded: Callable[..., Hospital],
    ask: Ask,
) -> None:
    """Round 2 is cut off; then it is asked for again, or the run goes on without it. Round 3 builds on what it must."""
    part, method, after, charged = point
    hospital, one, two, three = open_banded(), ask(1), ask(2, shift=0.5), ask(3, shift=0.25)
    sent(hospital, one)
    cut_off(hospital, two, part, method, after)
    hospital = open_banded()
    taken = [one, two, three] if charged or resent else [one, three]
    if resent:
        assert sent(hospital, two).tolist() == expected(hospital, taken)[1].tolist()
    assert sent(hospital, three).tolist() == expected(hospital, taken)[-1].tolist()
    assert hospital.ledger is not None
    assert [e.releases for e in hospital.ledger.events] == [1, 0, 1][: len(taken)]


def test_what_is_lost_is_refused_and_the_last_round_leaves_nothing(
    open_banded: Callable[..., Hospital], ask: Ask, tmp_path: Path
) -> None:
    hospital = open_banded()
    sent(hospital, ask(1))
    [path] = (tmp_path / "carry").iterdir()
    assert path.stat().st_mode & 0o077 == 0
    whole = path.read_bytes()
    path.write_bytes(whole[:100])
    with pytest.raises(RunError, match="cannot be read"):
        hospital.respond(ask(2))
    path.unlink()
    with pytest.raises(RefusedError, match="what round 1 left to later ones, is gone; put its newest copy back"):
        hospital.respond(ask(2))
    sent(hospital, ask(1))  # a resend needs no file
    path.write_bytes(whole)
    sent(hospital, ask(2))
    (tmp_path / "carry" / path.name.replace("-1.npz", "-2.npz")).write_bytes(whole)  # an older file under a newer name
    with pytest.raises(RefusedError, match="what round 2 left to later ones, is gone"):
        hospital.respond(ask(3))


def test_the_last_round_leaves_no_sum_without_noise(open_banded: Callable[..., Hospital], ask: Ask, tmp_path: Path) -> None:
    hospital = open_banded()
    for n in (1, 5, 6):
        sent(hospital, ask(n))
    [last] = (tmp_path / "carry").iterdir()
    with np.load(last) as data:
        assert not data["owed"].any()
        assert data["sent"].any()


def test_killed_before_it_could_drop_them_it_does_when_it_is_asked_again(
    open_banded: Callable[..., Hospital], ask: Ask, tmp_path: Path
) -> None:
    hospital = open_banded()
    sent(hospital, ask(5))
    cut_off(hospital, ask(6), "carries", "settled", after=False)
    assert len(list((tmp_path / "carry").iterdir())) == 2
    sent(open_banded(), ask(6))
    [last] = (tmp_path / "carry").iterdir()
    assert last.stem.endswith("-6")


def test_only_the_turns_group_is_drawn_whoever_else_is_there(patients: Pool) -> None:
    source, groups_ = SimulationSource(1), patients.groups(2)
    surely = replace(BANDED, sample_rate=0.5)  # 2 bands at rate 1/2: the group is in for certain
    for turn in (0, 1, 2):
        drawn = drawn_in_turn(groups_, surely, turn, source, "run", "North", turn + 1)
        assert drawn.tolist() == np.flatnonzero(groups_ == turn % 2).tolist()
    names = ("Ada", "Ben", "Cyd", "Dan")
    keys, fewer = keys_of(names), keys_of(names[2:])
    assert keys is not None
    assert fewer is not None
    assert keys[2:].tolist() == fewer.tolist()  # a patient's group does not hang on who else is in the table
    assert len(set(keys.tolist())) == 4


def test_a_budget_counts_what_a_turn_costs(open_banded: Callable[..., Hospital], ask: Ask) -> None:
    two = epsilon(1.0, 3.0, 2, 1e-4, STEPS) * (1 + 1e-6)
    hospital = open_banded()
    hospital.policy = replace(hospital.policy, epsilon=two, task_epsilon=two)
    for n in (1, 2, 3, 4):
        sent(hospital, ask(n))
    with pytest.raises(RefusedError, match="this round would bring epsilon to"):
        hospital.respond(ask(5))
    with pytest.raises(RefusedError, match="sample rate 1 is over"):
        agree(replace(hospital.policy, most_rate=0.6), hospital.proposal, 10)


def test_a_card_says_what_makes_sense(task: Task) -> None:
    def parsed(bands: int, more: str = "", **other: str) -> Task:
        text = task.text.replace("[plan]", f"bands = {bands}\n\n[plan]\n{other.get('plan', '')}")
        return Task.parse(f"{text}\n{more}", "card.toml")

    card = parsed(2).card
    assert (releases_of(card), card.plan.rounds) == (3, 6)
    assert epsilon_of_plan(card) == pytest.approx(epsilon(1.0, 3.0, 3, 1e-4, STEPS))
    assert parsed(1).card.privacy == task.card.privacy
    for wrong, why in (
        (lambda: parsed(3), "the rate in a group's turn, which is at most 1"),
        (lambda: parsed(2, plan="local_steps = 2"), r"which \[plan\] local_steps above 1 does not allow for"),
        (lambda: parsed(2, "[plan.personal]\nlearning_rate = 0.5\npull = 1.0"), r"which \[plan.personal\] does not allow for"),
    ):
        with pytest.raises(InputError, match=why):
            wrong()
