"""Clipping bounds every patient; the noise has the stated law, and the same test rejects another scale."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import ndtri
from torch import Tensor

from audits.statistics import LEVEL, examine_noise, shared_stream
from shared.errors import InputError
from shared.privacy.clip import clipped_sum as exact_sum
from shared.privacy.float_path import CHUNK, float_release, gaussian
from shared.privacy.mechanism import Mechanism, decode, encode, release, without_privacy
from shared.privacy.noise import _measurement, add_noise, discrete_gaussian
from shared.privacy.source import SecureSource, SecureStream, SimulationSource, Stream, uniform

both_paths = pytest.mark.parametrize("exact", [True, False], ids=["exact", "float"])


def released(gradients: Tensor, mechanism: Mechanism, source: Stream) -> Tensor:
    """What the coordinator reads, as gradients."""
    return torch.from_numpy(decode(encode(release(gradients, mechanism, source).value, mechanism), mechanism))


def bare(gradients: Tensor, clip: float, exact: bool) -> Tensor:
    """The clipped sum without noise, as gradients."""
    if exact:
        found = exact_sum(gradients, clip)
        return torch.from_numpy(found.value * found.grid)
    return released(gradients, Mechanism(0.5, clip, 0.0, exact=False), stream())


def stream(number: int = 0) -> Stream:
    return SimulationSource(5).stream("noise", number)


def clipped_sum(gradients: Tensor, clip: float) -> Tensor:
    """The slow readable twin."""
    total = torch.zeros(gradients.shape[1:], dtype=torch.float64)
    for gradient in gradients.double():
        if gradient.isfinite().all():
            total += gradient * min(1.0, clip / (float(gradient.norm()) + 1e-6))
    return total


@both_paths
@pytest.mark.parametrize("clip", [0.05, 1.0, 100.0])
@pytest.mark.parametrize("count", [0, 1, 17])
def test_the_sum_is_that_of_the_one_by_one_loop(count: int, clip: float, exact: bool) -> None:
    gradients = torch.randn(count, 3, 8, generator=torch.Generator().manual_seed(count))
    near = 20 * clip / 20_000 if exact else 1e-5  # each patient's coordinate is cut by less than a grid step
    torch.testing.assert_close(bare(gradients, clip, exact), clipped_sum(gradients, clip), atol=near, rtol=1e-5)


@both_paths
def test_the_guarantee_comes_with_the_value(exact: bool) -> None:
    found = release(torch.ones(2, 3, 4), Mechanism(0.5, 0.7, 2.0, exact), stream())
    assert found.l2_sensitivity * found.grid == pytest.approx(0.7, rel=1e-12)
    assert found.noise_scale == 2.0 * found.l2_sensitivity
    assert found.rho == pytest.approx(1 / 8)
    assert (found.unit, found.adjacency) == ("patient", "add-or-remove-one")


@settings(max_examples=60, deadline=None)
@given(st.floats(1e-30, 1e30), st.floats(1e-3, 1e3), st.integers(0, 10_000), st.booleans())
def test_one_patient_moves_the_sum_by_at_most_the_clip_norm(scale: float, clip: float, seed: int, one_hot: bool) -> None:
    gradients = scale * torch.randn(6, 4, 4, generator=torch.Generator().manual_seed(seed))
    if one_hot:
        gradients[5] = 0
        gradients[5, 1, 2] = scale
    more, less = exact_sum(gradients, clip), exact_sum(gradients[:5], clip)
    squared = sum(int(x) ** 2 for x in (more.value - less.value).flatten())  # exact, in whole numbers
    assert squared <= int(more.l2_sensitivity) ** 2
    if scale < 1e6:
        moved = bare(gradients, clip, False) - bare(gradients[:5], clip, False)
        assert float(moved.norm()) <= clip * (1 + 1e-4)


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf"), 1e39])
def test_the_float_path_by_itself_drops_a_patient_that_is_not_finite(bad: float) -> None:
    gradients = torch.ones(3, 2, 2, dtype=torch.float64)
    gradients[1, 0, 1] = bad  # the last is finite in double precision only
    found, wanted = (float_release(g, 1.0, 1.0, stream()).value for g in (gradients, gradients[[0, 2]]))
    np.testing.assert_allclose(found, wanted, atol=1e-6)


@pytest.mark.parametrize("numbers", [(0.0, 1.0), (-1.0, 1.0), (1.0, -1.0), (1.0, math.nan), (math.inf, 1.0), (math.nan, 1.0)])
def test_the_float_path_refuses_numbers_without_a_guarantee(numbers: tuple[float, float]) -> None:
    with pytest.raises(ValueError, match="protects nobody"):
        float_release(torch.zeros(0, 2, 2), *numbers, stream())


def test_the_float_path_clips_a_long_gradient_as_it_clips_a_short_one() -> None:
    """Four million squares that are added up in float32 lose enough for the clip to be .007 % too wide."""
    found = float_release(torch.rand(1, 1, 2**22, generator=torch.Generator().manual_seed(0)), 2.0, 0.0, stream()).value
    assert np.linalg.norm(found) == pytest.approx(2.0, rel=1e-5)


def test_noise_is_the_same_however_much_is_drawn_at_once() -> None:
    count = CHUNK + 7
    at_once = ndtri(uniform(SimulationSource(3).stream("noise"), count)) * 1.5
    np.testing.assert_array_equal(gaussian((count,), 1.5, SimulationSource(3).stream("noise")).numpy(), at_once)


def test_more_coordinates_than_epsilon_is_proven_for_are_refused() -> None:
    gradients = torch.zeros(1, 1, 1).expand(0, 2**12, 2**12 + 1)
    with pytest.raises(ValueError, match="coordinates that epsilon is proven for"):
        release(gradients, Mechanism(0.5, 1.0, 2.0), stream())


@both_paths
@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_a_patient_that_is_not_finite_is_dropped_whole(bad: float, exact: bool) -> None:
    gradients = torch.ones(3, 2, 2)
    gradients[1, 0, 1] = bad
    torch.testing.assert_close(bare(gradients, 1.0, exact), bare(gradients[[0, 2]], 1.0, exact))


@both_paths
@pytest.mark.parametrize("source", [SecureSource(), SimulationSource(9)], ids=["secure", "seeded"])
def test_an_empty_draw_releases_noise_of_exactly_the_stated_scale(source: SecureSource | SimulationSource, exact: bool) -> None:
    mechanism = Mechanism(0.5, 2.0, 1.5, exact)
    found = release(torch.zeros(0, 30, 400), mechanism, source.stream("noise")).value
    stated = 3.0 / mechanism.grid
    assert examine_noise(found, stated).p_value > LEVEL
    for wrong in (0.9, 1.1):
        assert examine_noise(found, stated * wrong).p_value < LEVEL


@pytest.mark.parametrize("source", [SecureSource(), SimulationSource(9)], ids=["secure", "seeded"])
@pytest.mark.parametrize("scale", [0.7, 2.5])
def test_discrete_noise_has_the_discrete_gaussians_law(source: SecureSource | SimulationSource, scale: float) -> None:
    """On the exact probabilities; another scale is convicted, and so is a rounded continuous Gaussian."""
    assert examine_noise(discrete_gaussian(30_000, scale, source.stream("noise")), scale).p_value > LEVEL
    assert examine_noise(discrete_gaussian(30_000, 1.1 * scale, source.stream("noise")), scale).p_value < LEVEL
    rounded = np.rint(gaussian((30_000,), scale, SimulationSource(3).stream("noise")).numpy()).astype(np.int64)
    convicted = examine_noise(rounded, scale).law < LEVEL
    assert convicted or scale > 1  # at larger scales the two cannot be told apart, which is the point


def test_what_leaves_are_whole_grid_steps() -> None:
    mechanism = Mechanism(0.5, 0.7, 2.0)
    sent = encode(release(torch.ones(5, 2, 3), mechanism, SecureSource().stream("noise")).value, mechanism)
    assert sent.dtype == np.int32
    huge = encode(np.array([2**40, -(2**40)]), mechanism)
    assert huge.tolist() == [2**31 - 1, -(2**31)]


@both_paths
def test_noise_does_not_depend_on_the_patients(exact: bool) -> None:
    """Same stream, other patients: the difference of the releases is the difference of the clipped sums."""
    mechanism = Mechanism(0.5, 1.0, 2.0, exact)
    some, none = torch.ones(4, 2, 2), torch.zeros(0, 2, 2)
    moved = released(some, mechanism, stream()) - released(none, mechanism, stream())
    torch.testing.assert_close(moved, clipped_sum(some, 1.0), atol=3e-4, rtol=0)


@both_paths
def test_rounds_and_sites_have_independent_noise(exact: bool) -> None:
    """`tests/audits` convicts noise that two of them share; here, every one has its own."""
    mechanism = Mechanism(0.5, 1.0, 2.0, exact)
    streams = [SimulationSource(0).stream("noise", site, round_) for site in "AB" for round_ in (1, 2)]
    found = np.stack([release(torch.zeros(0, 40, 100), mechanism, each).value for each in streams])
    assert shared_stream(found) > LEVEL
    assert (
        shared_stream(
            np.stack([*found, release(torch.zeros(0, 40, 100), mechanism, SimulationSource(0).stream("noise", "A", 1)).value])
        )
        < LEVEL
    )


@both_paths
def test_no_seed_changes_the_noise_of_a_site(exact: bool) -> None:
    found = []
    for _ in range(2):
        torch.manual_seed(0)
        np.random.seed(0)
        found.append(released(torch.zeros(0, 2, 2), Mechanism(0.5, 1.0, 1.0, exact), SecureSource().stream("noise")))
    assert not torch.equal(found[0], found[1])


def test_a_hospitals_noise_is_opendps_own() -> None:
    """No word of a stream is read, and the same stream twice gives other noise: there is no key to steal or to reuse."""
    secure = SecureSource().stream("noise")
    found = [discrete_gaussian(100, 50.0, secure) for _ in range(2)]
    assert not np.array_equal(*found)
    key = bytes(32)
    discrete_gaussian(100, 50.0, used := SecureStream(key))
    assert (used.words(4) == SecureStream(key).words(4)).all()


def test_opendp_gives_the_same_guarantee() -> None:
    """Its own privacy map, for our scale and sensitivity, is the rho that comes with our release."""
    found = release(torch.zeros(0, 2, 2), Mechanism(0.5, 1.0, 2.4), SecureSource().stream("noise"))
    assert _measurement(found.noise_scale).map(float(found.l2_sensitivity)) == pytest.approx(found.rho, rel=1e-9)


@pytest.mark.parametrize(
    "numbers",
    [
        (0.0, 1.0, 1.0),
        (0.5, 0.0, 1.0),
        (0.5, 1.0, -1.0),
        (0.5, float("inf"), 1.0),
        (0.5, float("nan"), 1.0),
        (0.5, 1e-310, 1.0),
        (0.5, 1e40, 1.0),
        (0.5, 1.0, 1e14),
    ],
)
def test_a_mechanism_without_a_guarantee_cannot_be_made(numbers: tuple[float, float, float]) -> None:
    with pytest.raises(ValueError, match=r"is no mechanism|protects nobody"):
        Mechanism(*numbers)


def test_without_privacy_nothing_is_clipped_and_nothing_added() -> None:
    gradients = 1e3 * torch.ones(2, 3, 3)
    torch.testing.assert_close(released(gradients, without_privacy(0.5), stream()), gradients.sum(0).double())


@pytest.mark.parametrize("clip", [0.0, -1.0, 1e-310, 1e300, float("nan"), float("inf")])
def test_a_clip_norm_at_the_ends_of_floating_point_is_refused(clip: float) -> None:
    with pytest.raises(ValueError, match="clip_norm"):
        exact_sum(torch.ones(1, 2, 2), clip)


@pytest.mark.parametrize("sigma", [0.0, -1.0, 1e15, float("nan"), float("inf")])
def test_noise_that_protects_nobody_or_saturates_is_refused(sigma: float) -> None:
    with pytest.raises(ValueError, match="protects nobody"):
        add_noise(exact_sum(torch.ones(1, 2, 2), 1.0), sigma, SecureSource().stream("noise"))


def test_a_simulation_says_that_its_table_would_be_too_large() -> None:
    with pytest.raises(InputError, match="more than a simulation draws; raise epsilon"):
        discrete_gaussian(1, 1e7, SimulationSource(0).stream("noise"))
