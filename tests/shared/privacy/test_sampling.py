"""The draw is Poisson with the stated rate; the same tests reject a wrong rate and a fixed-size draw."""

import numpy as np
import pytest

from audits.statistics import LEVEL, DrawEvidence, examine_draws
from shared.privacy.sampling import poisson
from shared.privacy.source import SecureSource, SimulationSource
from tests.audits.suite import inclusions

N, RATE, ROUNDS = 50, 0.2, 2000


def evidence(source: SecureSource | SimulationSource, rate: float = RATE) -> DrawEvidence:
    draws = [poisson(N, rate, source.stream("draw", round_)) for round_ in range(ROUNDS)]
    return examine_draws(inclusions(draws, N), RATE)


@pytest.mark.parametrize("source", [SecureSource(), SimulationSource(1)])
def test_the_draw_is_poisson(source: SecureSource | SimulationSource) -> None:
    assert evidence(source).p_value > LEVEL


def test_a_wrong_rate_is_convicted() -> None:
    assert evidence(SimulationSource(1), 0.8 * RATE).rate < LEVEL


def test_a_shuffled_fixed_size_draw_is_convicted() -> None:
    random = np.random.default_rng(0)
    shuffled = inclusions([random.permutation(N)[: int(N * RATE)] for _ in range(ROUNDS)], N)
    assert examine_draws(shuffled, RATE).size < LEVEL


def test_nobody_to_draw_and_everybody_drawn() -> None:
    stream = SimulationSource(0).stream("draw")
    assert len(poisson(0, 0.5, stream)) == 0
    assert len(poisson(7, 1.0, stream)) == 7


@pytest.mark.parametrize("rate", [0.0, -0.1, 1.1, float("nan")])
def test_a_rate_that_is_none_is_refused(rate: float) -> None:
    with pytest.raises(ValueError, match="outside"):
        poisson(10, rate, SimulationSource(0).stream("draw"))
