"""The draw is Poisson with the stated rate; the same tests reject a wrong rate and a fixed-size draw."""

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats

from shared.privacy.sampling import Indices, poisson
from shared.privacy.source import SecureSource, SimulationSource

N, RATE, ROUNDS = 50, 0.2, 2000
Draw = Callable[[int], Indices]


def inclusions(draw: Draw) -> NDArray[np.float64]:
    found = np.zeros((ROUNDS, N))
    for round_ in range(ROUNDS):
        found[round_, draw(round_)] = 1
    return found


def convicts(draw: Draw) -> bool:
    """Say whether rate or the spread of the draw's size is not that of independent coins (level 1e-4 each)."""
    drawn = inclusions(draw)
    rate = stats.binomtest(int(drawn.sum()), drawn.size, RATE).pvalue
    spread = (ROUNDS - 1) * drawn.sum(1).var(ddof=1) / (N * RATE * (1 - RATE))
    both = stats.chi2.cdf(spread, ROUNDS - 1)
    return bool(rate < 1e-4 or min(both, 1 - both) < 1e-4)


@pytest.mark.parametrize("source", [SecureSource(), SimulationSource(1)])
def test_the_draw_is_poisson(source: SecureSource | SimulationSource) -> None:
    assert not convicts(lambda round_: poisson(N, RATE, source.stream("draw", round_)))


def test_a_wrong_rate_is_convicted() -> None:
    assert convicts(lambda round_: poisson(N, 0.8 * RATE, SimulationSource(1).stream("draw", round_)))


def test_a_shuffled_fixed_size_draw_is_convicted() -> None:
    random = np.random.default_rng(0)
    assert convicts(lambda _: random.permutation(N)[: int(N * RATE)])


def test_nobody_to_draw_and_everybody_drawn() -> None:
    stream = SimulationSource(0).stream("draw")
    assert len(poisson(0, 0.5, stream)) == 0
    assert len(poisson(7, 1.0, stream)) == 7


@pytest.mark.parametrize("rate", [0.0, -0.1, 1.1, float("nan")])
def test_a_rate_that_is_none_is_refused(rate: float) -> None:
    with pytest.raises(ValueError, match="outside"):
        poisson(10, rate, SimulationSource(0).stream("draw"))
