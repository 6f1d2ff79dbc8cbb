"""Published counts: one patient moves one of them by one, and the noise has the stated law."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import stats

from shared.privacy.accounting import Release, attacker, spent
from shared.privacy.counts import count_release, release_counts, tally
from shared.privacy.source import SecureSource, SimulationSource

KINDS = st.lists(st.integers(-(2**62), 2**62) | st.integers(-1, 3), max_size=30)


@given(KINDS, st.integers(-(2**62), 2**62) | st.integers(-1, 3))
def test_one_patient_more_moves_the_counts_by_at_most_the_sensitivity(others: list[int], patient: int) -> None:
    less, more = (tally(np.array(kinds, dtype=np.int64), 3) for kinds in (others, [*others, patient]))
    moved = int(((more.value - less.value) ** 2).sum())
    assert moved == (1 if 0 <= patient < 3 else 0) <= less.l2_sensitivity**2
    assert less.value.sum() == sum(0 <= kind < 3 for kind in others)


def fits(found: NDArray[np.int64], scale: float) -> bool:
    """Chi-squared on the exact probabilities of the discrete Gaussian."""
    x = np.arange(-round(3 * scale), round(3 * scale) + 1)
    seen = np.array([(found == value).sum() for value in x])
    law = np.exp(-(x**2) / (2 * scale**2))
    return bool(stats.chisquare(seen, law / law.sum() * seen.sum()).pvalue > 1e-4)


@pytest.mark.parametrize("source", [SecureSource(), SimulationSource(4)], ids=["secure", "seeded"])
def test_the_counts_noise_has_the_stated_scale(source: SecureSource | SimulationSource) -> None:
    """Right at the stated scale; 0.9 and 1.1 of it are convicted, and so is noise for the sensitivity sqrt(2)."""
    kinds = np.zeros(7, dtype=np.int64)
    found = release_counts(kinds, 20_000, 5.0, source.stream("noise")).value - tally(kinds, 20_000).value
    assert fits(found, 5.0)
    assert not any(fits(found, wrong) for wrong in (4.5, 5.5, 5.0 * 2**0.5))


def test_the_guarantee_comes_with_the_counts_and_is_what_the_ledger_charges() -> None:
    found = release_counts(np.array([0, 1, 1]), 2, 8.0, SecureSource().stream("noise"))
    assert (found.l2_sensitivity, found.noise_scale, found.grid, found.unit) == (1, 8.0, 1.0, "patient")
    one = count_release(8.0)
    assert one == Release(1.0, 8.0, 1)
    assert found.rho == pytest.approx(1 / 128)
    mu, accuracy = attacker([one], 1e-4)
    assert mu == pytest.approx(1 / 60**0.5, abs=2e-3)  # s1^2 = 8^2 - 2^2
    assert spent([one], 1e-4).epsilon < 0.5
    assert accuracy < 0.53


@pytest.mark.parametrize("noise", [0.0, 2.0, -5.0, float("nan"), float("inf"), 1e14])
def test_noise_for_which_no_epsilon_is_proven_is_refused(noise: float) -> None:
    with pytest.raises(ValueError, match="is outside 2 to 10000"):
        release_counts(np.zeros(3, dtype=np.int64), 2, noise, SecureSource().stream("noise"))
