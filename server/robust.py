"""Robust aggregation: pure functions from the sites' updates to what `server.aggregate.apply` adds up.

All rules here post-process what the sites released, so every site's epsilon stays as it is. docs/robustness.md says what they
withstand, what they cost, and which of them go with noise.

Scale. A robust centre c of m updates enters as n * c, with n the sites on the *roster*, a public constant: what the whole
roster would have sent had every site sent c. When a site is missing the sum shrinks, n * c does not: a site that keeps silent
moves neither denominator nor step size, which is the point. Its noise has then sqrt(n / m) times the standard deviation
that it has with everyone there.

Flower 1.39 has these rules as strategies. Its trimmed mean takes a fraction and cuts `int(fraction * m)`, one too few for
f = 1 of m = 49 (rounding); its Krum squares in the dtype it gets, which overflows on int32, and finds distances by
cancellation. Ours work in float64 on the sums; Flower's are their twins in tests/server/test_robust.py.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from server.aggregate import Double
from shared.card import TaskCard
from shared.errors import InputError
from shared.plan import PlanTable
from shared.privacy.mechanism import Mechanism

Number = TypeVar("Number", np.float64, np.int64)


@dataclass(frozen=True)
class Combined:
    """What a round's updates became.

    Attributes:
        updates: what `apply` adds up: every site's update, or one array that stands for the sum of all.
        kept: for each site the share of its numbers that entered, 0 for a site that was set aside whole; empty for the sum,
            which keeps everything.
    """

    updates: tuple[Double, ...]
    kept: Mapping[str, float] = field(default_factory=dict)


def combine(updates: Mapping[str, Double], plan: PlanTable, hospitals: int | None = None) -> Combined:
    """Return the updates as the plan's aggregation hands them to `apply`.

    Args:
        updates: of the sites that count this round, each (P+L, D); at least `plan.fewest` of them.
        plan: names the rule, its f and the roster.
        hospitals: how many of the roster make the prompt; None: all.
    """
    if plan.aggregation == "sum":
        return Combined(tuple(updates.values()))
    stack = np.stack(list(updates.values()))  # (m, P+L, D)
    if plan.aggregation == "krum":
        best = krum(stack, plan.tolerate or 0)
        centre, share = stack[best], np.arange(len(stack)) == best
    else:
        cut = (len(stack) - 1) // 2 if plan.aggregation == "median" else plan.tolerate or 0
        centre, share = trimmed_mean(stack, cut), kept_shares(stack, cut)
    return Combined(((hospitals or len(plan.sites)) * centre,), dict(zip(updates, share.astype(float).tolist(), strict=True)))


def trimmed_mean(stack: Double, cut: int) -> Double:
    """Return, coordinate by coordinate, the mean without the `cut` smallest and largest of m values (Yin et al. 2018, def. 2).

    `cut = (m - 1) // 2` is the coordinate-wise median (ibid., def. 1). With at most `cut` liars the result lies within the
    honest sites' range in every coordinate. The order of the sites makes no difference, not even in the last bit.

    Args:
        stack: (m, ...), with m > 2 * cut.
        cut: values dropped at either end.

    >>> trimmed_mean(np.array([[1.0], [2.0], [900.0], [3.0]]), 1)
    array([2.5])
    """
    middle: Double = _middle(np.sort(stack, axis=0), cut).mean(axis=0)
    return middle


def kept_shares(stack: Double, cut: int) -> Double:
    """Return for each of the m sites the share of its numbers that the trimmed mean keeps, (m,).

    >>> kept_shares(np.array([[1.0, 7.0], [2.0, 8.0], [900.0, 9.0]]), 1)
    array([0., 1., 0.])
    """
    inside = _middle(np.argsort(stack, axis=0, kind="stable"), cut)
    shares: Double = np.bincount(inside.ravel(), minlength=len(stack)) / stack[0].size
    return shares


def krum(stack: Double, tolerate: int) -> int:
    """Return which of m updates has the smallest sum of squared distances to its m - f - 2 nearest (Blanchard et al. 2017, § 4).

    Args:
        stack: (m, ...), with m >= 2f + 3.
        tolerate: f.

    >>> krum(np.array([[1.0], [900.0], [2.0], [2.5], [4.0]]), 1)
    2
    """
    flat = stack.reshape(len(stack), -1)  # (m, d)
    nearest = len(flat) - tolerate - 2
    scores = []
    for here, mine in enumerate(flat):
        squared = np.delete(np.square(flat - mine).sum(axis=1), here)  # (m - 1,)
        scores.append(np.sort(squared)[:nearest].sum())
    return int(np.argmin(scores))


def _middle(ordered: NDArray[Number], cut: int) -> NDArray[Number]:
    if len(ordered) <= 2 * cut:
        raise ValueError(f"{len(ordered)} updates cannot lose {cut} at either end")
    return ordered[cut : len(ordered) - cut]


def require_sense(card: TaskCard, mechanism: Mechanism) -> None:
    """Raise `InputError` for an aggregation that does not go with the sites' noise.

    Two honest updates with noise of standard deviation s are about s * sqrt(2d) apart, an honest one and one *without* noise
    only about s * sqrt(d): Krum would take the update of a site that adds no noise and lies, round after round.
    """
    if card.plan.aggregation == "krum" and mechanism.noise_multiplier > 0:
        raise InputError(
            f"task card {card.name}: key 'plan.aggregation': 'krum' prefers a site that adds no noise and lies over every honest "
            "one; choose 'trimmed-mean' or 'median' (only a simulation with --no-privacy may use 'krum')."
        )


def in_words(card: TaskCard, private: bool) -> str:
    """Return what the card's aggregation does and does not promise, for the report of a run with or without noise."""
    plan, f = card.plan, card.tolerates
    if plan.aggregation == "sum":
        law = ", which is DP-SGD on the patients of all hospitals together" if private and plan.local_steps == 1 else ""
        return f"The hospitals' updates were added up{law}. A lie under the bound on an update's norm counts in full."
    within = f"up to {f} lying hospitals cannot move a number past what honest ones sent"
    what = {
        "trimmed-mean": f"Of each number the {f} smallest and {f} largest values were dropped and the rest averaged: {within}",
        "median": f"Of each number the middle of the hospitals' values was taken: {within}",
        "krum": f"Each round took the hospital nearest to the others: up to {f} that send something far off are passed by",
    }[plan.aggregation]
    fairness = "A small or unusual hospital has less say."
    if not private:
        return f"{what}. {fairness}"
    return (
        f"{what}, but a lie no larger than the noise counts in full. Every hospital's epsilon is the same as with the sum; "
        f"the law is no longer that of DP-SGD on the patients of all hospitals together. {fairness}"
    )
