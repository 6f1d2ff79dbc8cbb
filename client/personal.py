"""A hospital's own prompt beside the shared one: mean-regularised multi-task learning (MR-MTL, Liu et al. 2022).

In a round hospital k takes its private gradient at its own prompt w_k, sends that one noised sum g_k as ever, and moves

    w_k <- w_k - learning_rate * (g_k / denominator + pull * (w_k - w))

where w is the broadcast prompt and `denominator` a public constant. While w is the mean of the w_k, the pulls add up to zero, so
one step of plain SGD at the coordinator on the sums leads to the mean of the new w_k.

**It costs no epsilon beyond the ledger's.** w_k starts at the first broadcast and then changes by a public rule of the broadcast
and of payloads that are on the ledger. Given those it does not depend on any patient: it is post-processing. That the next
gradient is taken at w_k is covered by adaptive composition, which lets a release depend on all earlier ones in any way. A
payload that was not charged never moves w_k. Whoever has all payloads and broadcasts can compute w_k (see `points`): it stays at
the hospital because it is of use there alone, and it is not a secret from the coordinator.

Letters in shape comments: P prompt rows, L label rows, D hidden size.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from shared.card import TaskCard
from shared.privacy.mechanism import Mechanism, Update, decode
from shared.prompt import Array
from shared.wire import sha256

Double = NDArray[np.float64]


@dataclass(frozen=True)
class State:
    """A hospital's prompt after its newest round.

    Attributes:
        round: that round's number.
        payload: SHA-256 of what it sent in it.
        moves: rounds that moved it, this one included.
        prompt: w_k, float64 (P+L, D).
        late_sum: sum of the late rounds' w_k, (P+L, D).
        late_count: how many they are.
    """

    round: int
    payload: str
    moves: int
    prompt: Double
    late_sum: Double
    late_count: int

    @property
    def published(self) -> Array:
        """The mean of the late rounds' w_k, or the last one before there are any, float32 (P+L, D)."""
        return (self.late_sum / self.late_count if self.late_count else self.prompt).astype(np.float32)


@dataclass(frozen=True)
class Rule:
    """The public numbers by which a hospital's own prompt moves.

    Attributes:
        learning_rate: of its own step.
        pull: lambda, toward the broadcast prompt.
        denominator: public constant that divides the hospital's sum.
        own_from: the first row that is the hospital's own; those above it are always the broadcast's. May count from the end.
        average_from: first round whose prompt enters the mean that is used in the end.
        mechanism: says what a payload's numbers mean.
    """

    learning_rate: float
    pull: float
    denominator: float
    own_from: int
    average_from: int
    mechanism: Mechanism

    def point(self, before: State | None, broadcast: Array) -> Array:
        """Return where a round's gradient is taken, float32 (P+L, D): at w_k, or at the broadcast in the first round."""
        with np.errstate(over="ignore"):  # a coordinator's huge numbers give gradients that count as nobody's
            return self._place(before, broadcast).astype(np.float32)

    def moved(self, before: State | None, broadcast: Array, update: Update, round_: int) -> State:
        """Return the state after a round in which the hospital sent `update` (P+L, D) and was sent `broadcast` (P+L, D)."""
        here, centre = self._place(before, broadcast), broadcast.astype(np.float64)  # (P+L, D)
        gradient = decode(update, self.mechanism) / self.denominator  # (P+L, D)
        there = here - self.learning_rate * (gradient + self.pull * (here - centre))
        there[: self.own_from] = centre[: self.own_from]
        moves, late = (before.moves if before else 0) + 1, round_ >= self.average_from
        late_sum = before.late_sum if before else np.zeros_like(there)
        late_count = before.late_count if before else 0
        return State(round_, sha256(update), moves, there, late_sum + there if late else late_sum, late_count + late)

    def _place(self, before: State | None, broadcast: Array) -> Double:
        here = (before.prompt if before else broadcast).astype(np.float64)  # (P+L, D), a copy
        here[: self.own_from] = broadcast[: self.own_from]
        return here


def rule_of(card: TaskCard, mechanism: Mechanism) -> Rule | None:
    """Return the card's rule, or None where hospitals keep no prompt of their own."""
    plan, own = card.plan, card.plan.personal
    if own is None:
        return None
    return Rule(
        learning_rate=own.learning_rate,
        pull=own.pull,
        denominator=plan.patients_per_round / len(card.hospitals),
        own_from=0 if own.rows == "all" else -len(card.labels),
        average_from=plan.average_from,
        mechanism=mechanism,
    )


def points(rule: Rule, broadcasts: Sequence[Array], updates: Mapping[int, Update]) -> tuple[Array, ...]:
    """Return where a site's gradients were taken in each round, from what everybody saw: (P+L, D) each.

    Args:
        rule: of the card.
        broadcasts: the prompts that were sent, from round 1 on.
        updates: round -> what the site sent; every payload that its ledger charged, or the points are not the site's.
    """
    state, found = None, []
    for round_, broadcast in enumerate(broadcasts, start=1):
        found.append(rule.point(state, broadcast))
        if round_ in updates:
            state = rule.moved(state, broadcast, updates[round_], round_)
    return tuple(found)


def facts_of(site: str, run: str) -> dict[str, str]:
    """Return what a prompt folder says of whose prompt it holds."""
    why = "it was fitted to this site and is of use there; whether it is handed on is the site's decision"
    return {"site": site, "run": run, "say": f"personal to {site}, not to be shared: {why}"}
