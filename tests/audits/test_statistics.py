"""The statistics accept what is right, a hundred times over, and convict each wrong thing."""

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from audits.statistics import LEVEL, examine_draws, examine_noise, shared_stream
from shared.privacy.float_path import gaussian
from shared.privacy.noise import discrete_gaussian
from shared.privacy.sampling import Indices, poisson
from shared.privacy.source import SecureSource, SimulationSource
from tests.audits.suite import PATIENTS, RATE, ROUNDS, inclusions, suite

PUBLIC = np.random.default_rng(0)
COUNT, SCALE = 8000, 30_000.0


def stream(*purpose: str | int) -> SimulationSource:
    return SimulationSource(3).stream("noise", *purpose)


def discrete(scale: float, *purpose: str | int, count: int = COUNT) -> NDArray[np.int64]:
    return discrete_gaussian(count, scale, stream(*purpose))


def continuous(scale: float, *purpose: str | int, count: int = COUNT) -> NDArray[np.float64]:
    return gaussian((count,), scale, stream(*purpose)).numpy()


both = pytest.mark.parametrize("draw", [discrete, continuous])
Draw = Callable[..., NDArray[np.generic]]


@both
def test_noise_of_the_stated_scale_is_accepted_and_ten_percent_off_is_convicted(draw: Draw) -> None:
    assert examine_noise(draw(SCALE), SCALE).p_value > LEVEL
    for wrong in (0.9, 1.1):
        found = examine_noise(draw(wrong * SCALE), SCALE)
        assert found.scale < LEVEL**5
        assert found.law < LEVEL  # sees it too, alone


def test_another_law_of_the_right_scale_is_convicted() -> None:
    laplace = PUBLIC.laplace(0, SCALE / np.sqrt(2), COUNT)
    for noise in (laplace, np.rint(laplace).astype(np.int64), np.full(COUNT, SCALE)):
        assert examine_noise(noise, SCALE).law < LEVEL


def test_a_rounded_continuous_gaussian_is_convicted_where_it_can_be_told_apart() -> None:
    assert examine_noise(discrete(0.7, count=60_000), 0.7).p_value > LEVEL
    rounded = np.rint(continuous(0.7, count=60_000)).astype(np.int64)
    assert examine_noise(rounded, 0.7).law < LEVEL


def convicted(draw: Callable[[int], Indices]) -> set[str]:
    found = examine_draws(inclusions([draw(round_) for round_ in range(ROUNDS)], PATIENTS), RATE)
    return {name for name, p in vars(found).items() if p < LEVEL}


def coins(round_: int) -> NDArray[np.float64]:
    return np.random.default_rng([7, round_]).random(PATIENTS)


def epochs(round_: int) -> Indices:
    """A data loader that shuffles once an epoch and hands out one batch after the other."""
    order, batch = np.random.default_rng([8, round_ // 5]).permutation(PATIENTS), int(PATIENTS * RATE)
    return order[round_ % 5 * batch :][:batch]


def couples(round_: int) -> Indices:
    """Neighbours in the table always come together, and one couple's coin is the opposite of none: the rate is right."""
    return np.flatnonzero(np.repeat(coins(round_)[::2] < RATE, 2))


@pytest.mark.parametrize(
    ("draw", "sees"),
    [
        (lambda r: poisson(PATIENTS, 0.8 * RATE, SimulationSource(1).stream("draw", r)), {"rate"}),
        (lambda r: coins(r).argsort()[: int(PATIENTS * RATE)], {"size"}),
        (epochs, {"size", "patients", "rounds"}),
        (lambda r: np.flatnonzero(coins(r) < RATE)[:10], {"size"}),
        (lambda r: np.flatnonzero(coins(r) < RATE * np.linspace(0.7, 1.3, PATIENTS)), {"patients"}),
        (couples, {"pairs"}),
        (lambda r: np.flatnonzero(coins(r // 2) < RATE), {"rounds"}),
        (lambda r: np.flatnonzero(coins(0) < RATE), {"patients", "pairs", "rounds"}),
    ],
    ids=["another rate", "shuffled", "epochs", "capped", "weighted", "couples", "used twice", "public seed"],
)
def test_draws_that_are_not_poisson_are_convicted(draw: Callable[[int], Indices], sees: set[str]) -> None:
    assert sees <= convicted(draw)


def test_poisson_draws_are_accepted() -> None:
    assert not convicted(lambda r: poisson(PATIENTS, RATE, SimulationSource(1).stream("draw", r)))


def correlated(draw: Draw, share: float) -> NDArray[np.float64]:
    """Noise of two sites that have a share of its variance in common."""
    common = draw(SCALE, "common", count=4000)
    mine = [draw(SCALE, site, count=4000) for site in "AB"]
    return np.stack([np.sqrt(1 - share) * own + np.sqrt(share) * common for own in mine])


@both
def test_independent_streams_are_accepted_and_shared_or_correlated_ones_convicted(draw: Draw) -> None:
    fresh = np.stack([draw(SCALE, site, round_, count=4000) for site in "AB" for round_ in (1, 2)])
    assert shared_stream(fresh) > LEVEL
    assert shared_stream(np.stack([*fresh, fresh[1]])) < LEVEL  # a seed that two sites share, or a round's noise again
    assert shared_stream(np.stack([fresh[0], -fresh[0]])) < LEVEL
    assert shared_stream(correlated(draw, 0.1)) < LEVEL


@both
def test_a_key_stream_used_at_another_offset_is_convicted(draw: Draw) -> None:
    whole = draw(SCALE, "A", count=6000)
    assert shared_stream(np.stack([whole[:4000], whole[2000:]])) < LEVEL
    assert shared_stream(np.tile(whole[:2000], 2)[None]) < LEVEL  # a release that repeats itself


@pytest.mark.slow
def test_at_most_five_false_alarms_in_a_hundred_clean_runs() -> None:
    """Fresh cryptographic randomness every time; five statistics at a level of 1e-4 are expected to give 0.05 alarms."""
    runs = [suite(SecureSource()) for _ in range(100)]
    alarms = [name for found in runs for name, p in found.items() if p < LEVEL]
    assert len(alarms) <= 5, alarms


def test_the_suite_accepts_a_simulations_streams() -> None:
    assert min(suite(SimulationSource(0)).values()) > LEVEL


def test_the_suite_convicts_one_public_seed_for_all() -> None:
    class PublicSeed:
        name = "public"

        def stream(self, *_purpose: str | int) -> object:
            return SimulationSource(42).stream("everything")

    found = suite(PublicSeed())  # type: ignore[arg-type]
    assert {name for name, p in found.items() if p < LEVEL} >= {"draws", "exact streams", "float streams"}
