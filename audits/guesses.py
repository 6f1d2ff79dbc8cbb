"""What an auditor guesses of one run's canaries: scores, right guesses, and what is decided before anybody looks."""

import functools
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from audits.bounds import classical, errors_at, steinke
from audits.one_run import RATIOS, Claim, least_rejected

Numbers = NDArray[Any]
GUESSES = (10, 20, 50, 100, 200, 400, 800, 1600, 3200)  # that may be made
COARSE = RATIOS[::2]


def scores(seen: Numbers, claim: Claim) -> Numbers:
    """Return each canary's log-likelihood ratio "it was in" to "it was out", (canaries,).

    Args:
        seen: projection of every round's sum on each canary's direction, in clip norms, (rounds, canaries).
        claim: gives rate and noise.

    A round's sum holds the canary k times with binomial probability; of one step
    this is log(1 - q + q exp((2x - 1) / (2 sigma^2))).
    """
    q, steps, sigma = claim.sample_rate, claim.per_round, claim.noise_multiplier
    terms = [
        math.log(math.comb(steps, k)) + _power(q, k) + _power(1 - q, steps - k) + (2 * k * seen - k * k) / (2 * steps * sigma**2)
        for k in range(steps + 1)
        if _power(q, k) + _power(1 - q, steps - k) > -math.inf
    ]
    together: Numbers = functools.reduce(np.logaddexp, terms).sum(0)
    return together


def guess(found: Numbers, coins: NDArray[np.bool_], guesses: int) -> int:
    """Return how many guesses are right that call the best half of `guesses` canaries "in" and the worst half "out"."""
    order, half = np.argsort(found), guesses // 2
    return int(coins[order[len(order) - half :]].sum() + (~coins[order[:half]]).sum())


@dataclass(frozen=True)
class Plan:
    """What is decided before anybody looks: how many guesses each test makes, and the classical test's threshold."""

    fdp: int
    steinke: int
    threshold: float


@functools.lru_cache(maxsize=16)
def preregister(claim: Claim, canaries: int, alpha: float = 0.05) -> Plan:
    """Return the numbers of guesses and the threshold that would do best if the claim were exactly true.

    They follow from the claim and the number of canaries alone (by scores drawn under the claim with a public seed), so that all
    canaries may certify.
    """
    inside, outside = _reference(claim, canaries)
    right = {n: _expected(inside, outside, n / canaries, n) for n in GUESSES if n <= canaries} or {2: 1}
    half = canaries // 2
    sample = [_thin(x, half) for x in (inside, outside)]
    thresholds = np.quantile(np.concatenate(sample), np.linspace(0.005, 0.995, 67))
    return Plan(
        min(reversed(right), key=lambda n: least_rejected(claim, canaries, n, right[n], alpha, COARSE) or math.inf),
        max(right, key=lambda n: steinke(claim.delta, canaries, n, right[n], alpha)),
        float(max(thresholds, key=lambda t: classical(errors_at(t, sample[0], sample[1]), claim.delta, alpha))),
    )


def _expected(inside: Numbers, outside: Numbers, share: float, guesses: int) -> int:
    """Return how many of `guesses` guesses, of this share of the canaries, are right, on average."""
    found, coins = np.concatenate([inside, outside]), np.repeat([True, False], len(inside))
    rate = guess(found, coins, max(2, 2 * round(share * len(coins) / 2))) / max(2, 2 * round(share * len(coins) / 2))
    return max(0, int(guesses * rate))


def _reference(claim: Claim, canaries: int) -> tuple[Numbers, Numbers]:
    """Return scores of canaries that are in and that are out, drawn under the claim with a public seed."""
    public = np.random.default_rng(0)
    count = int(np.clip(4e6 / claim.rounds, 5_000, 200_000))
    noise = claim.noise_multiplier * math.sqrt(claim.per_round)
    both = []
    for there in (1, 0):
        seen = public.normal(0, noise, (claim.rounds, count)).astype(np.float32)
        both.append(scores(seen + there * public.binomial(claim.per_round, claim.sample_rate, seen.shape), claim))
    return both[0], both[1]


def _thin(values: Numbers, count: int) -> Numbers:
    """Return about `count` of the values, evenly over their order: a sample without its noise."""
    even: Numbers = np.sort(values)[np.linspace(0, len(values) - 1, max(count, 2)).round().astype(int)]
    return even


def _power(base: float, exponent: int) -> float:
    """Return log(base ** exponent), with 0 ** 0 = 1."""
    if exponent == 0:
        return 0.0
    return exponent * math.log(base) if base > 0 else -math.inf
