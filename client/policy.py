"""The hospital's last word: what its own site file allows, checked before any work. Nothing a coordinator sends can loosen it."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

from client.ledger import METRIC, Event, releases
from client.round import LocalPlan
from shared.errors import RefusedError
from shared.privacy.accounting import COARSE, FINE, Release, epsilon_of
from shared.privacy.counts import count_release


@dataclass(frozen=True)
class Policy:
    """What the hospital allows; the file's `[policy]`.

    Attributes:
        epsilon: the most that this ledger's patients may ever spend, over all tasks, runs and restarts.
        delta: the delta of every epsilon here.
        tasks: digests of the task cards that may be answered.
        task_epsilon: the most that one task may spend of it, counted alone.
        least_noise: floor of the noise multiplier.
        most_rate: ceiling of the sample rate.
        most_clip_norm: ceiling of the clip norm.
        most_rounds: ceiling of one task's rounds.
        most_records: ceiling of k_max.
        least_patients: smallest cohort that takes part.
        metric_noise: noise multiplier of a published accuracy; None: none is published.
        most_metrics: accuracies that may be published for one task.
    """

    epsilon: float
    delta: float
    tasks: tuple[str, ...]
    task_epsilon: float
    least_noise: float = 0.5
    most_rate: float = 1.0
    most_clip_norm: float = 100.0
    most_rounds: int = 10_000
    most_records: int = 100
    least_patients: int = 1
    metric_noise: float | None = None
    most_metrics: int = 3


@dataclass(frozen=True)
class Proposal:
    """What a task card asks of a hospital."""

    task: str
    plan: LocalPlan
    rounds: int
    max_records: int


def agree(policy: Policy, proposal: Proposal, patients: int) -> None:
    """Return when the policy allows the proposal; raise `RefusedError` with the number and the limit where it does not."""
    mechanism = proposal.plan.mechanism
    if proposal.task not in policy.tasks:
        raise RefusedError(f"task {proposal.task} is not among the {len(policy.tasks)} tasks of [policy] tasks")
    if mechanism.noise_multiplier < policy.least_noise:
        raise RefusedError(f"noise multiplier {mechanism.noise_multiplier:g} is under [policy] least_noise {policy.least_noise:g}")
    limits = (
        ("sample rate", mechanism.draw_rate, "most_rate", policy.most_rate),
        ("clip norm", mechanism.clip_norm, "most_clip_norm", policy.most_clip_norm),
        ("rounds", proposal.rounds, "most_rounds", policy.most_rounds),
        ("records per patient", proposal.max_records, "most_records", policy.most_records),
    )
    for what, asked, key, limit in limits:
        if asked > limit:
            raise RefusedError(f"{what} {asked:g} is over [policy] {key} {limit:g}")
    if patients < policy.least_patients:
        raise RefusedError(f"there are fewer training patients than [policy] least_patients {policy.least_patients}")


def affordable(policy: Policy, proposal: Proposal, events: Sequence[Event], round_: int, turn: int = 0) -> int:
    """Return how many more releases are known to fit both budgets, at least one round's.

    The rest of the plan is tried first: where it fits, no round of it needs a computation of its own.
    `turn` is the number of rounds of the run that are on the ledger.

    Raises:
        RefusedError: one more round would pass a budget; the message has the projected numbers.
    """
    mechanism, steps = proposal.plan.mechanism, proposal.plan.steps
    one, next_ = mechanism.spends, mechanism.releases(steps, turn)
    fits = mechanism.releases(steps * (max(proposal.rounds - round_, 0) + 1), turn)
    for budget in _budgets(policy, proposal.task, events):
        for ahead, interval in itertools.product(sorted({fits, next_}, reverse=True), (COARSE, FINE)):
            projected = epsilon_of(budget.spent + [one] * ahead, policy.delta, interval)
            if projected <= budget.limit:
                fits = ahead
                break
        else:
            raise _over("this round", projected, policy.delta, budget)
    return fits


def afford_metric(policy: Policy, task: str, events: Sequence[Event]) -> float:
    """Return the noise multiplier of one more published accuracy.

    Raises:
        RefusedError: none may be published, as many as allowed are, or a budget would be passed, with the projected numbers.
    """
    if policy.metric_noise is None:
        raise RefusedError("[policy] metric_noise is absent: this site publishes no accuracy")
    published = sum(event.kind == METRIC and event.task == task for event in events)
    if published >= policy.most_metrics:
        raise RefusedError(
            f"{published} accuracies were published for this task; [policy] most_metrics {policy.most_metrics} allows no more"
        )
    for budget in _budgets(policy, task, events):
        projected = epsilon_of([*budget.spent, count_release(policy.metric_noise)], policy.delta, FINE)
        if projected > budget.limit:
            raise _over("publishing this accuracy", projected, policy.delta, budget)
    return policy.metric_noise


@dataclass(frozen=True)
class _Budget:
    name: str
    limit: float
    spent: list[Release]


def _budgets(policy: Policy, task: str, events: Sequence[Event]) -> tuple[_Budget, _Budget]:
    """Return what limits a release: everything on the ledger, and this task's part of it."""
    mine = releases(event for event in events if event.task == task)
    whole = _Budget("the site's budget", policy.epsilon, releases(events))
    return whole, _Budget("the budget of one task", policy.task_epsilon, mine)


def _over(what: str, projected: float, delta: float, budget: _Budget) -> RefusedError:
    return RefusedError(
        f"{what} would bring epsilon to {projected:.4f} at delta {delta:g}; {budget.name} is {budget.limit:g} "
        f"and {epsilon_of(budget.spent, delta, FINE):.4f} is spent"
    )
