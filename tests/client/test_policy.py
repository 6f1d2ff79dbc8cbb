from dataclasses import replace

import pytest

from client.ledger import Event
from client.policy import Policy, Proposal, affordable, agree
from client.round import LocalPlan
from shared.errors import RefusedError
from shared.privacy.accounting import epsilon
from shared.privacy.clip import STEPS
from shared.privacy.mechanism import Mechanism

TASK, OTHER = "a" * 64, "b" * 64
PROPOSAL = Proposal(TASK, LocalPlan(Mechanism(0.5, 1.0, 3.0), 2, 0.1, 5.0), rounds=10, max_records=3)
POLICY = Policy(100.0, 1e-4, (TASK, OTHER), 100.0, 1.0, 0.6, 2.0, 20, 5, 30)


def event(task: str, releases: int) -> Event:
    return Event(task, "run1", 1, "x", "y", releases, 0.5, 3.0, 1.0, 1.0 / 20_000, 3)


def spent(count: int) -> float:
    """The epsilon of so many releases of the proposal."""
    return epsilon(0.5, 3.0, count, 1e-4, STEPS)


def test_what_is_within_every_limit_is_agreed() -> None:
    agree(POLICY, PROPOSAL, 30)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"tasks": (OTHER,)}, r"is not among the 1 tasks of \[policy\] tasks"),
        ({"tasks": ()}, "is not among the 0 tasks"),
        ({"least_noise": 3.1}, r"noise multiplier 3 is under \[policy\] least_noise 3.1"),
        ({"most_rate": 0.4}, r"sample rate 0.5 is over \[policy\] most_rate 0.4"),
        ({"most_clip_norm": 0.5}, r"clip norm 1 is over \[policy\] most_clip_norm 0.5"),
        ({"most_rounds": 9}, r"rounds 10 is over \[policy\] most_rounds 9"),
        ({"most_records": 2}, r"records per patient 3 is over \[policy\] most_records 2"),
        ({"least_patients": 31}, r"fewer training patients than \[policy\] least_patients 31"),
    ],
)
def test_each_limit_refuses_with_its_numbers(change: dict[str, object], said: str) -> None:
    with pytest.raises(RefusedError, match=said):
        agree(replace(POLICY, **change), PROPOSAL, 30)  # type: ignore[arg-type]


def test_the_rest_of_the_plan_is_cleared_at_once_or_round_by_round() -> None:
    roomy = replace(POLICY, epsilon=spent(20) + 1e-6)
    assert affordable(roomy, PROPOSAL, [], 1) == 20
    tight = replace(POLICY, epsilon=spent(19))
    assert affordable(tight, PROPOSAL, [], 1) == 2


def test_other_tasks_on_the_same_patients_count_jointly() -> None:
    policy = replace(POLICY, epsilon=spent(20))
    assert affordable(policy, PROPOSAL, [event(OTHER, 18)], 10) == 2
    with pytest.raises(RefusedError, match=r"would bring epsilon to \d\.\d+ .*; the site's budget is \d\.\d+ and \d\.\d+ is spent"):
        affordable(policy, PROPOSAL, [event(OTHER, 19)], 10)


def test_one_task_may_take_its_share_only() -> None:
    policy = replace(POLICY, task_epsilon=spent(4))
    assert affordable(policy, PROPOSAL, [event(OTHER, 50), event(TASK, 2)], 10) == 2
    with pytest.raises(RefusedError, match="the budget of one task is"):
        affordable(policy, PROPOSAL, [event(TASK, 4)], 10)
