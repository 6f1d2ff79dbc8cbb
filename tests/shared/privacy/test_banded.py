"""Banded noise: the published weights, the theorem's bound in whole numbers, the law of what leaves, and what it costs."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import stats

from shared.privacy import banded
from shared.privacy.accounting import Release, epsilon, spent
from shared.privacy.banded import BITS, Carry, fresh, inverse, parts, weights
from shared.privacy.clip import STEPS, clipped_rows
from shared.privacy.mechanism import Mechanism, decode, encode, parts_of, release, release_in_turn
from shared.privacy.noise import discrete_gaussian
from shared.privacy.source import SimulationSource, Stream

Integers = NDArray[np.int64]
TURNS = 24


def mechanism(bands: int, sigma: float = 3.0) -> Mechanism:
    return Mechanism(0.25, 1.0, sigma, bands=bands)


def stream(turn: int, seed: int = 5) -> Stream:
    return SimulationSource(seed).stream("noise", turn)


def sums_of(turns: int, bands: int, numbers: int = 6) -> Integers:
    """Return clipped gradients of one patient a turn, (T, K)."""
    public = np.random.default_rng(1).standard_normal((turns, numbers))
    return clipped_rows(torch.from_numpy(public), 1.0)


def run(rows: Integers, one: Mechanism, seed: int = 5) -> Integers:
    """Return what leaves in each turn (T, K) when in each turn one patient is in."""
    carry, left = fresh(one.bands, rows.shape[1]), []
    for turn, row in enumerate(rows):
        noised, carry = release_in_turn(parts(row[None], one.bands).sum(1), one, stream(turn, seed), carry)
        left.append(noised.value)
    return np.stack(left)


def toeplitz(column: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.array([[column[i - j] if i >= j else 0.0 for j in range(len(column))] for i in range(len(column))])


def test_the_weights_are_those_of_the_square_root_of_running_sums() -> None:
    """Fichtenberger et al. (2023): with as many bands as turns, C C is the lower triangle of ones, up to C's length."""
    found = np.array(weights(4)) / 2**BITS
    length = math.sqrt(1 + 1 / 4 + 9 / 64 + 25 / 256)
    np.testing.assert_allclose(found, np.array([1, 1 / 2, 3 / 8, 5 / 16]) / length, atol=2**-BITS)
    square = toeplitz(found * length)
    np.testing.assert_allclose(square @ square, np.tril(np.ones((4, 4))), atol=1e-5)
    for bands in (1, 2, 7, 64):
        assert 1 - 1e-4 < sum(k * k for k in weights(bands)) / 4**BITS <= 1


def test_the_error_of_running_sums_is_that_of_kalinin_and_lampert() -> None:
    """With b = T a running sum's noise is a row of C times C's longest column, their bound in equality; with b = 1, sqrt(t)."""
    turns = 16
    for bands, wanted in (
        (1, np.sqrt(np.arange(1, turns + 1))),
        (turns, np.sqrt(np.cumsum(np.array([math.comb(2 * j, j) / 4**j for j in range(turns)]) ** 2))),
    ):
        running = np.tril(np.ones((turns, turns))) @ toeplitz(inverse(bands, turns))
        longest = 1.0 if bands == 1 else wanted[-1]
        np.testing.assert_allclose(np.linalg.norm(running, axis=1), wanted * longest, rtol=1e-4)


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 9), st.integers(0, 10_000), st.floats(0.1, 3.0), st.integers(1, 40))
def test_a_patients_parts_are_no_longer_than_its_gradient(bands: int, seed: int, scale: float, numbers: int) -> None:
    rows = clipped_rows(torch.from_numpy(scale * np.random.default_rng(seed).standard_normal((3, numbers))), 1.0)
    cut = parts(rows, bands)  # (b, 3, K)
    for n, row in enumerate(rows):
        assert sum(int(x) ** 2 for x in cut[:, n].ravel()) <= sum(int(x) ** 2 for x in row) <= STEPS**2


@pytest.mark.parametrize("bands", [1, 2, 3, 4])
def test_a_patient_is_in_the_sums_of_its_own_blocks_only(bands: int) -> None:
    """The theorem's v, in whole numbers, at rate 1; and the same measure convicts a patient who is drawn in every turn."""
    big = clipped_rows(torch.full((1, 5), 9.0), 1.0)

    def moved(turns_in: set[int]) -> Integers:
        """Return what the patient adds to y in each turn (T, K)."""
        carry, found = fresh(bands, 5), []
        for turn in range(TURNS):
            total, owed = banded.due(carry, parts(big if turn in turns_in else big[:0], bands).sum(1))
            found.append(total)
            carry = banded.after(carry, owed, np.zeros(5, dtype=np.int64))
        return np.stack(found)

    for group in range(bands):
        mine = moved(set(range(group, TURNS, bands)))
        assert not mine[:group].any()
        for start in range(group, TURNS - bands + 1, bands):
            assert 0.99 * STEPS**2 < (mine[start : start + bands] ** 2).sum() <= STEPS**2
    if bands > 1:
        assert (moved(set(range(TURNS)))[bands : 2 * bands] ** 2).sum() > 1.5 * STEPS**2


@pytest.mark.parametrize("bands", [1, 2, 4])
def test_what_leaves_is_the_sum_and_the_matrix_times_the_noise(bands: int) -> None:
    rows, one = sums_of(TURNS, bands), mechanism(bands)
    noise = np.stack([discrete_gaussian(6, one.noise_multiplier * STEPS, stream(t)) for t in range(TURNS)])  # (T, K)
    expected = rows + toeplitz(inverse(bands, TURNS)) @ noise
    np.testing.assert_allclose(run(rows, one), expected, atol=0 if bands == 1 else 4)  # whole grid steps of tens of thousands


def test_one_band_is_the_release_of_dp_sgd() -> None:
    gradients, one = torch.randn(7, 2, 3, generator=torch.Generator().manual_seed(1)), mechanism(1)
    noised, after = release_in_turn(parts_of(gradients, one).sum(1), one, stream(0), fresh(1, 6))
    assert noised.value.reshape(2, 3).tolist() == release(gradients, one, stream(0)).value.tolist()
    assert (after.turn, after.owed.shape, after.sent.shape) == (1, (0, 6), (0, 6))


def test_the_noise_of_running_sums_is_smaller_and_of_the_stated_law() -> None:
    """What leaves has the covariance of C^-1; restored, it is independent noise of scale s. A test of either rejects the other."""
    nobody, one = np.zeros((TURNS, 3000), dtype=np.int64), mechanism(4)
    left = run(nobody, one).astype(float)  # (T, K)
    rows = toeplitz(inverse(4, TURNS))
    scale = one.noise_multiplier * STEPS

    def p_of(samples: NDArray[np.float64], wanted: NDArray[np.float64]) -> float:
        """Return the p-value of the worst of all turns' variances."""
        law = stats.chi2(samples.shape[1])
        squares = (samples**2).sum(1) / wanted
        return float(2 * TURNS * min(law.cdf(squares).min(), law.sf(squares).min()))

    assert p_of(left, scale**2 * (rows**2).sum(1)) > 1e-4
    assert p_of(left, np.full(TURNS, scale**2)) < 1e-9
    whole = np.stack([banded.restored(left[t::-1], 4) for t in range(TURNS)])
    assert p_of(whole, np.full(TURNS, scale**2)) > 1e-4
    lagged = float((whole[1:] * whole[:-1]).mean() / scale**2) * math.sqrt(whole[1:].size)
    assert abs(lagged) < 5
    assert float((left[1:] * left[:-1]).mean() / scale**2) * math.sqrt(left[1:].size) < -30
    assert left.sum(0).std() < 0.8 * scale * math.sqrt(TURNS)  # of DP-SGD's noise in the sum of all turns


def test_what_a_site_may_send_stays_in_range_and_a_coordinator_knows_its_height() -> None:
    one = mechanism(4, 50.0)
    left = run(np.zeros((200, 50), dtype=np.int64), one)[-20:]
    assert decode(encode(left, one), one).std() == pytest.approx(one.noise_std, rel=0.1)
    assert one.noise_std > mechanism(1, 50.0).noise_std * 1.2


def test_what_a_run_costs() -> None:
    for turns, bands in ((12, 1), (12, 3), (13, 3), (2, 5)):
        assert sum(banded.releases(1, bands, t) for t in range(turns)) == banded.releases(turns, bands) == math.ceil(turns / bands)
    for turns, bands, at in ((7, 3, 1), (7, 3, 2), (7, 3, 3), (1, 4, 0), (1, 4, 1)):
        assert banded.releases(turns, bands, at) == sum(banded.releases(1, bands, t) for t in range(at, at + turns))
    one = mechanism(4)  # 4 bands at rate 1/4: every patient is in once in 4 turns for certain
    assert one.spends == Release(1.0, 3.0, STEPS)
    found = spent([one.spends] * one.releases(20), 1e-5).epsilon
    mu = math.sqrt(5) / 3.0  # 5 Gaussian releases (Dong et al. 2022, corollary 3.3, and their delta of epsilon)
    delta = stats.norm.cdf(-found / mu + mu / 2) - math.exp(found) * stats.norm.cdf(-found / mu - mu / 2)
    assert delta == pytest.approx(1e-5, rel=2e-3)
    assert epsilon(0.5, 3.0, 10, 1e-5, STEPS) == pytest.approx(
        spent([mechanism(2).spends] * mechanism(2).releases(20), 1e-5).epsilon
    )


@pytest.mark.parametrize("wrong", [{"bands": 5}, {"bands": 0}, {"bands": 2, "exact": False}, {"bands": 65, "sample_rate": 0.001}])
def test_bands_that_make_no_mechanism_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="no mechanism"):
        Mechanism(**{"sample_rate": 0.25, "clip_norm": 1.0, "noise_multiplier": 3.0, **wrong})  # type: ignore[arg-type]


def test_a_prompt_that_is_too_large_for_the_proof_is_refused() -> None:
    with pytest.raises(ValueError, match="4 bands are more than"):
        parts_of(torch.zeros(0, 2**22 + 1, 1), mechanism(4))


def test_groups_hang_on_the_key_alone() -> None:
    keys = np.array([7, 8, 2**63 + 5], dtype=np.uint64)
    assert banded.groups(keys, 4).tolist() == [3, 0, 1]
    assert isinstance(fresh(3, 2), Carry)
