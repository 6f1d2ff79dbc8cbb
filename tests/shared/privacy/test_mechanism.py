"""Clipping bounds every patient; the noise has the stated law, and the same test rejects another scale."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from torch import Tensor

from shared.privacy.mechanism import Mechanism, gaussian, release, without_privacy
from shared.privacy.source import SecureSource, SimulationSource, Stream

SILENT = Mechanism(0.5, 1.0, 0.0)


def stream(number: int = 0) -> Stream:
    return SimulationSource(5).stream("noise", number)


def clipped_sum(gradients: Tensor, clip: float) -> Tensor:
    """The slow readable twin."""
    total = torch.zeros(gradients.shape[1:], dtype=torch.float64)
    for gradient in gradients.double():
        if gradient.isfinite().all():
            total += gradient * min(1.0, clip / (float(gradient.norm()) + 1e-6))
    return total


@pytest.mark.parametrize("clip", [0.05, 1.0, 100.0])
@pytest.mark.parametrize("count", [0, 1, 17])
def test_the_sum_is_that_of_the_one_by_one_loop(count: int, clip: float) -> None:
    gradients = torch.randn(count, 3, 8, generator=torch.Generator().manual_seed(count))
    found = release(gradients, Mechanism(0.5, clip, 0.0), stream())
    torch.testing.assert_close(found.value.double(), clipped_sum(gradients, clip), atol=1e-5, rtol=1e-5)
    assert (found.l2_sensitivity, found.unit, found.adjacency) == (clip, "patient", "add-or-remove-one")


@settings(max_examples=50, deadline=None)
@given(st.floats(1e-6, 1e6), st.floats(1e-3, 1e3), st.integers(0, 10_000))
def test_one_patient_moves_the_sum_by_at_most_the_clip_norm(scale: float, clip: float, seed: int) -> None:
    gradients = scale * torch.randn(6, 4, 4, generator=torch.Generator().manual_seed(seed))
    mechanism = Mechanism(0.5, clip, 0.0)
    moved = release(gradients, mechanism, stream()).value - release(gradients[:5], mechanism, stream()).value
    assert float(moved.norm()) <= clip * (1 + 1e-5)


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_a_patient_that_is_not_finite_is_dropped_whole(bad: float) -> None:
    gradients = torch.ones(3, 2, 2)
    gradients[1, 0, 1] = bad
    found = release(gradients, SILENT, stream()).value
    torch.testing.assert_close(found, release(gradients[[0, 2]], SILENT, stream()).value)


def noise_fits(std: float, found: Tensor) -> bool:
    return bool(stats.kstest(found.flatten().numpy(), "norm", args=(0, std)).pvalue > 1e-4)


@pytest.mark.parametrize("source", [SecureSource(), SimulationSource(9)])
def test_an_empty_draw_releases_noise_of_exactly_the_stated_scale(source: SecureSource | SimulationSource) -> None:
    found = release(torch.zeros(0, 100, 400), Mechanism(0.5, 2.0, 1.5), source.stream("noise"))
    assert found.noise_std == 3.0
    assert noise_fits(3.0, found.value)
    for wrong in (0.9, 1.1):
        assert not noise_fits(3.0 * wrong, found.value)


def test_noise_does_not_depend_on_the_patients() -> None:
    """Same stream, other patients: the difference of the releases is the difference of the clipped sums."""
    mechanism = Mechanism(0.5, 1.0, 2.0)
    some, none = torch.ones(4, 2, 2), torch.zeros(0, 2, 2)
    moved = release(some, mechanism, stream()).value - release(none, mechanism, stream()).value
    torch.testing.assert_close(moved.double(), clipped_sum(some, 1.0), atol=1e-5, rtol=0)


def test_rounds_and_sites_have_independent_noise() -> None:
    found = np.stack(
        [gaussian((4000,), 1.0, SimulationSource(0).stream("noise", site, r)).numpy() for site in "AB" for r in (1, 2)]
    )
    correlation = np.corrcoef(found) - np.eye(4)
    assert abs(correlation).max() < 5 / np.sqrt(4000)
    shared = gaussian((4000,), 1.0, SimulationSource(0).stream("noise", "A", 1)).numpy()
    assert abs(np.corrcoef(shared, found[0])[0, 1]) > 5 / np.sqrt(4000)  # the test convicts noise that two sites share


def test_no_seed_changes_the_noise_of_a_site() -> None:
    found = []
    for _ in range(2):
        torch.manual_seed(0)
        found.append(release(torch.zeros(0, 2, 2), Mechanism(0.5, 1.0, 1.0), SecureSource().stream("noise")).value)
    assert not torch.equal(found[0], found[1])


@pytest.mark.parametrize(
    "numbers", [(0.0, 1.0, 1.0), (0.5, 0.0, 1.0), (0.5, 1.0, -1.0), (0.5, float("inf"), 1.0), (0.5, float("nan"), 1.0)]
)
def test_a_mechanism_without_a_guarantee_cannot_be_made(numbers: tuple[float, float, float]) -> None:
    with pytest.raises(ValueError, match=r"is no mechanism|protects nobody"):
        Mechanism(*numbers)


def test_without_privacy_nothing_is_clipped_and_nothing_added() -> None:
    gradients = 1e3 * torch.ones(2, 3, 3)
    torch.testing.assert_close(release(gradients, without_privacy(0.5), stream()).value, gradients.sum(0))
