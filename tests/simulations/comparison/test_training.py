"""The comparison's private step is the hospitals' own, for any method and any length."""

import numpy as np
import pytest
import torch

from client.round import LocalPlan, Pool, answer
from server.aggregate import Rule
from shared.privacy.float_path import float_release
from shared.privacy.integers import COORDINATES
from shared.privacy.mechanism import Mechanism, decode, release
from shared.privacy.sampling import poisson
from shared.privacy.source import SimulationSource
from shared.prompt import Array
from shared.scoring import build
from simulations.comparison.method import Method
from simulations.comparison.methods import METHODS
from simulations.comparison.split import Split
from simulations.comparison.training import Plan, clipped_sum, fitting, noised_sum, patient_gradients, train

SOURCE = SimulationSource(5)


def test_a_site_sends_what_a_hospital_would(split: Split) -> None:
    """Records, draws, clipping and noise: the integers are those of `client.round.answer` on the site's own pool."""
    method, mechanism = METHODS["prompt"].build(split), Mechanism(0.5, 1.0, 3.0)
    scorer, prompt = build(split.task.card)
    mine = split.patients(1)
    start = int(split.records[mine[0]][0])
    rows = torch.from_numpy(split.records_of(1))
    hidden = scorer.read([split.train[int(i)] for i in rows])
    pool = Pool(hidden, split.labels[rows], tuple(split.records[patient] - start for patient in mine))
    hospitals = answer(pool, prompt, LocalPlan(mechanism, 1, 0.1, 1.0), scorer, SOURCE, "run", "South", 1)
    drawn = mine[poisson(len(mine), 0.5, SOURCE.stream("draw", "run", "South", 1, 0))]
    theta, stream = torch.from_numpy(method.start), SOURCE.stream("noise", "run", "South", 1, 0)
    ours = noised_sum(method, split.records, drawn, theta, mechanism, stream)
    grid = decode(hospitals, mechanism).ravel()
    assert np.abs(ours - grid).max() <= 20 * mechanism.grid  # padding differs, and with it the last bits before the cut
    assert np.abs(ours).max() > 1000 * mechanism.grid


@pytest.mark.parametrize("exact", [True, False])
def test_micro_batches_change_nothing(split: Split, exact: bool) -> None:
    method, mechanism = METHODS["logistic"].build(split), Mechanism(0.5, 0.7, 2.0, exact)
    theta, drawn = torch.from_numpy(method.start), np.arange(0, 40)
    small = Method(method.start, method.record_gradients, method.probabilities, batch=3)
    everything = torch.cat(list(patient_gradients(method, split.records, drawn, theta)))
    pieces = noised_sum(small, split.records, drawn, theta, mechanism, SOURCE.stream("noise"))
    if exact:
        whole = release(everything, mechanism, SOURCE.stream("noise")).value * mechanism.grid
    else:
        whole = float_release(everything, 0.7, 2.0, SOURCE.stream("noise")).value
    np.testing.assert_allclose(pieces, whole, atol=2e-4)


@pytest.mark.parametrize("exact", [True, False])
@pytest.mark.parametrize("name", ["prompt", "lora", "full", "logistic"])
def test_one_patient_moves_a_sum_by_at_most_the_clip_norm(split: Split, name: str, exact: bool) -> None:
    """All trained tensors lie in one ball together, whatever a patient's records say; without the clip it would be more."""
    method, mechanism = METHODS[name].build(split), Mechanism(0.5, 0.01, 2.0, exact)
    theta = torch.from_numpy(method.start)
    sums = [noised_sum(method, split.records, np.arange(n), theta, mechanism, SOURCE.stream("noise")) for n in (8, 9)]
    [unclipped] = patient_gradients(method, split.records, np.array([8]), theta)
    assert float(unclipped.norm()) > 0.02
    assert 0.005 < np.linalg.norm(sums[1] - sums[0]) <= 0.01 * (1 + (0 if exact else 1e-4))


def test_a_patient_without_a_gradient_adds_nothing(split: Split) -> None:
    broken = Method(
        np.zeros(4, dtype=np.float32), lambda index, _: torch.full((len(index), 4), torch.nan), lambda _: np.zeros((1, 2))
    )
    for exact in (True, False):
        mechanism = Mechanism(0.5, 1.0, 1.0, exact)
        with_it, without = (
            noised_sum(broken, split.records, drawn, torch.zeros(4), mechanism, SOURCE.stream("noise"))
            for drawn in (np.array([0]), np.array([], dtype=np.int64))
        )
        np.testing.assert_array_equal(with_it, without)


def test_no_gradient_is_too_long_for_its_norm_to_be_exact() -> None:
    """Sixteen million squares that are added up in float32 lose .2 %, and the clip would be that much too wide."""
    long = Method(np.zeros(2**24, dtype=np.float32), lambda index, _: torch.rand(len(index), 2**24), lambda _: np.zeros((1, 2)))
    found = clipped_sum(long, (torch.tensor([0]),), np.array([0]), torch.zeros(2**24), 2.0)
    assert float(found.double().norm()) == pytest.approx(2.0, rel=1e-5)


def test_more_numbers_than_are_proven_go_by_the_float_path() -> None:
    mechanism = Mechanism(0.3, 2.0, 2.37)
    assert fitting(mechanism, COORDINATES).exact
    assert not fitting(mechanism, COORDINATES + 1).exact


def learned(split: Split, sites: dict[str, np.ndarray], noise: float) -> Array:
    method = METHODS["logistic"].build(split)
    plan = Plan(Mechanism(1.0, 10.0, noise), Rule("sgd", 0.5, 0.0, 40.0, 1), 5)
    return train(method, split.records, sites, plan, SOURCE, "test")


def test_federated_is_pooled_but_for_the_noise(split: Split) -> None:
    apart = {name: split.patients(number) for number, name in enumerate(split.sites)}
    together = {"everybody": np.arange(len(split.records))}
    np.testing.assert_allclose(learned(split, apart, 1e-3), learned(split, together, 1e-3), atol=2e-3)
    alone = learned(split, {"North": apart["North"]}, 1e-3)
    assert np.abs(alone - learned(split, together, 1e-3)).max() > 0.02
    noisy = [learned(split, sites, 2.0) for sites in (apart, together)]
    assert np.abs(noisy[0] - noisy[1]).max() > 0.1
