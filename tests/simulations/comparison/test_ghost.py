"""The fast clipped sum is that of gradients that are made one by one, and a sum that is clipped otherwise is told from it."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from shared.backbones.text import tokens_of
from simulations.comparison import weights
from simulations.comparison.ghost import add_clipped, trained_layers, watched
from simulations.comparison.method import Method
from simulations.comparison.prompts import varied
from simulations.comparison.split import Split
from simulations.comparison.training import clipped_sum, patient_gradients
from simulations.comparison.weights import full

DRAWN = np.arange(12)  # every other patient has two records
CLIP = 0.5


@pytest.fixture(scope="module")
def method(split: Split) -> Method:
    return full(split)


def moved(method: Method) -> torch.Tensor:
    return torch.from_numpy(method.start) + 0.05 * torch.randn(len(method.start), generator=torch.Generator().manual_seed(1))


def apart(one: torch.Tensor, other: torch.Tensor) -> float:
    """Return how far two sums are apart, as a part of their length."""
    return float((one - other).norm() / other.norm())


def slow(method: Method, split: Split, clip_norm: float, theta: torch.Tensor) -> torch.Tensor:
    return clipped_sum(replace(method, add_clipped=None), split.records, DRAWN, theta, clip_norm)


@pytest.mark.parametrize("readout", ["mean", "cls", "pooler"])
@pytest.mark.parametrize("clip_norm", [0.01, CLIP, 1e6])
def test_both_ways_give_one_sum(split: Split, readout: str, clip_norm: float) -> None:
    like = replace(split, task=varied(split.task, readout=readout))
    method = full(like)
    theta = moved(method)
    assert method.add_clipped
    fast = clipped_sum(method, like.records, DRAWN, theta, clip_norm)
    assert apart(fast, slow(method, like, clip_norm, theta)) < 1e-5


def test_another_clip_is_told_apart(split: Split, method: Method) -> None:
    """A clip that is .1 % too wide, one of each record for itself, and one of each tensor for itself would be seen."""
    theta = moved(method)
    gradients = torch.cat(list(patient_gradients(method, split.records, DRAWN, theta)))
    assert int((gradients.norm(dim=1) > CLIP).sum()) > 0, "nothing is clipped, so nothing is tested"
    fast = clipped_sum(method, split.records, DRAWN, theta, CLIP)
    assert apart(fast, slow(method, split, CLIP * 1.001, theta)) > 1e-4
    each = tuple(record[None] for patient in DRAWN for record in split.records[patient])
    of_records = clipped_sum(replace(method, add_clipped=None), each, np.arange(len(each)), theta, CLIP)
    assert apart(fast, of_records) > 1e-2
    halves = [half * (CLIP / half.norm(dim=1)).clamp(max=1.0)[:, None] for half in gradients.chunk(2, 1)]
    assert apart(fast, torch.cat(halves, 1).sum(0)) > 1e-2


def test_micro_batches_change_nothing(split: Split, method: Method, monkeypatch: pytest.MonkeyPatch) -> None:
    theta = moved(method)
    whole = clipped_sum(method, split.records, DRAWN, theta, CLIP)
    monkeypatch.setattr("simulations.comparison.training.FAST_BATCH", 4)
    assert apart(clipped_sum(method, split.records, DRAWN, theta, CLIP), whole) < 1e-5


def test_a_patient_whose_gradient_is_not_finite_adds_nothing(split: Split, method: Method) -> None:
    """A word that is no number spoils the patients who have it, and nobody else in their batch."""
    encoder = weights._reader(split)[0]._scorer.backbone
    ids, _ = tokens_of(encoder.tokenizer, split.train, encoder.max_tokens)  # type: ignore[attr-defined]
    said = [set(ids[split.records[patient]].flatten().tolist()) for patient in DRAWN]
    word = next(word for word in set.union(*said) if 0 < sum(word in words for words in said) < len(DRAWN) / 2)
    theta = moved(method)
    theta[word * encoder.dim] = torch.nan  # the word embeddings stand first
    others = DRAWN[[word not in words for words in said]]
    fast = clipped_sum(method, split.records, DRAWN, theta, CLIP)
    assert apart(fast, clipped_sum(method, split.records, others, theta, CLIP)) < 1e-5
    assert apart(fast, slow(method, split, CLIP, theta)) < 1e-5


def test_a_model_with_other_layers_goes_the_slow_way() -> None:
    known = nn.Sequential(nn.Embedding(3, 4), nn.Linear(4, 4), nn.LayerNorm(4))
    assert set(trained_layers(known) or ()) == {"0", "1", "2"}
    assert trained_layers(nn.Sequential(known, nn.Conv1d(4, 4, 1))) is None
    assert trained_layers(nn.Sequential(known, nn.Conv1d(4, 4, 1).requires_grad_(False))) is not None


def test_a_layer_that_is_passed_twice_is_refused() -> None:
    """Its gradient is the sum of both passes', and their norms by themselves do not say how long that is."""
    layer = nn.Linear(4, 4)
    with watched({"0": layer}) as seen:
        given = layer(layer(torch.ones(1, 2, 4)))
    slopes = torch.autograd.grad(given.sum(), [each.given for each in seen])
    with pytest.raises(ValueError, match="passed twice"):
        add_clipped({"0.weight": torch.zeros(4, 4), "0.bias": torch.zeros(4)}, seen, slopes, {}, [1], 1.0)
    assert not layer._forward_hooks
