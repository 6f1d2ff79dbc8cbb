"""The ideal mechanism with orthogonal canaries, vectorised: what estimators are calibrated on."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from audits.guesses import scores
from audits.one_run import Claim


@dataclass(frozen=True)
class Run:
    """Coins (segments * count,), times drawn and projections (rounds, segments * count): a coin is fresh in each segment."""

    coins: NDArray[np.bool_]
    times: NDArray[np.int64]
    seen: NDArray[np.float64]
    scores: NDArray[np.float64]


def play(claim: Claim, canaries: int, random: np.random.Generator, noise: float = 1.0, reach: float = 1.0) -> Run:
    """Play one run whose noise is `noise` times the claimed one and in which a canary moves the sum by `reach` clip norms."""
    coins = random.random(canaries) < 0.5
    times = random.binomial(claim.per_round, claim.sample_rate, (claim.rounds, canaries)) * coins
    deviation = claim.noise_multiplier * np.sqrt(claim.per_round) * noise
    seen = reach * times + random.normal(0, deviation, times.shape)
    return Run(coins, times, seen, scores(seen, claim))
