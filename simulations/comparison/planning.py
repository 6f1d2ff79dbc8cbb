"""How long a method trains, and with how much noise: at equal epsilon always, and if asked at equal bytes or equal time too."""

import math
import time
from dataclasses import replace

import torch

from server.rule import rule_of
from shared.card import TaskCard
from shared.privacy.accounting import calibrate, epsilon
from shared.privacy.clip import STEPS
from shared.privacy.mechanism import Mechanism
from shared.privacy.planned import mechanism_of, releases_of
from shared.privacy.sampling import poisson
from shared.privacy.source import SimulationSource
from simulations.comparison.method import Method
from simulations.comparison.methods import Tuning
from simulations.comparison.split import Split
from simulations.comparison.training import Plan, fitting, noised_sum

MOST_TIMES = 10  # a small method gets at most so many times the card's rounds


def plan_of(card: TaskCard, tuning: Tuning, numbers: int, share: float = 1.0) -> Plan:
    """Return the public numbers of a training that spends what the card spends.

    Args:
        card: gives the rate, delta and the server's step; a round is one noised sum, and sites' updates are added.
        tuning: of the method; None is the card's.
        numbers: K, the trained numbers: `training.fitting` says which path they go.
        share: of all patients that the parties hold: the public denominator is that part of the card's.
    """
    filled = tuning.filled(card)
    bare = fitting(Mechanism(card.privacy.sample_rate, filled.clip_norm, 1.0), numbers)
    if filled.rounds == releases_of(card):
        noise = mechanism_of(card).noise_multiplier
    else:
        target = spent_by(Plan(mechanism_of(card), rule_of(card), releases_of(card)), card)
        noise = calibrate(target, card.privacy.delta, card.privacy.sample_rate, filled.rounds, STEPS if bare.exact else None)
    late = round(card.plan.average_last * filled.rounds)
    rule = replace(
        rule_of(card),
        learning_rate=filled.learning_rate,
        denominator=card.plan.patients_per_round * share,
        average_from=filled.rounds - late + 1,
    )
    return Plan(replace(bare, noise_multiplier=noise), rule, filled.rounds)


def spent_by(plan: Plan, card: TaskCard) -> float:
    """Return the PLD epsilon of a site that took part in every round of a plan."""
    one = plan.mechanism.spends
    return epsilon(one.sample_rate, one.noise_multiplier, plan.rounds, card.privacy.delta, one.steps)


def rounds_for_bytes(rounds: int, prompt_bytes: int, method_bytes: int) -> int:
    """Return the rounds in which a method sends at most what the prompt sends in its rounds; 0 where one is too much.

    >>> rounds_for_bytes(34, 9_216, 150_528)
    2
    """
    return min(rounds * prompt_bytes // method_bytes, MOST_TIMES * rounds)


def rounds_for_seconds(rounds: int, prompt_seconds: float, method_seconds: float) -> int:
    """Return the rounds that a method finishes in the time that the prompt takes for its own.

    >>> rounds_for_seconds(34, 0.5, 3.0)
    5
    """
    return min(math.floor(rounds * prompt_seconds / method_seconds), MOST_TIMES * rounds)


def seconds_a_round(method: Method, split: Split, mechanism: Mechanism) -> float:
    """Measure the private step of one round over all patients at the card's rate, the first step not counted."""
    stream = SimulationSource(0).stream("for the clock")
    mine = poisson(len(split.records), mechanism.sample_rate, stream)
    theta, fit = torch.from_numpy(method.start), fitting(mechanism, method.start.size)
    noised_sum(method, split.records, mine[:2], theta, fit, stream)
    started = time.perf_counter()
    noised_sum(method, split.records, mine, theta, fit, stream)
    return time.perf_counter() - started
