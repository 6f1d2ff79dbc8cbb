"""Gradients of the methods: mapped over a batch, or one by one through plain autograd, they are the same."""

import dataclasses

import numpy as np
import pytest
import torch
from torch.nn import functional

from shared.backbones.text import tokens_of
from shared.errors import InputError
from simulations.comparison import weights
from simulations.comparison.method import Method
from simulations.comparison.methods import METHODS
from simulations.comparison.split import Split
from simulations.comparison.weights import LABELS, Layout, Reader, full, lora


@pytest.fixture(scope="module")
def methods(split: Split) -> dict[str, Method]:
    return {name: known.build(split) for name, known in METHODS.items()}


def moved(method: Method) -> torch.Tensor:
    """Return theta away from its start, where LoRA's B is zero and so are the gradients of its A."""
    return torch.from_numpy(method.start) + 0.05 * torch.randn(len(method.start), generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("name", list(METHODS))
def test_gradients_are_the_records_own(methods: dict[str, Method], name: str) -> None:
    method, index = methods[name], torch.tensor([0, 5, 17])
    theta = moved(method)
    together = method.record_gradients(index, theta)
    alone = torch.cat([method.record_gradients(index[i : i + 1], theta) for i in range(3)])
    assert together.shape == (3, len(method.start))
    assert together.norm(dim=1).min() > 1e-3
    torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-6)


def test_the_mapped_gradient_is_plain_autograds(split: Split) -> None:
    method = full(split)
    theta, number = moved(method), 7
    reader, label_start = weights._reader(split)
    named = {name: p for name, p in reader.named_parameters() if ".pooler." not in f".{name}"}
    layout = Layout({**{name: p.shape for name, p in named.items()}, LABELS: label_start.shape})
    values = layout.cut(theta)
    for name, parameter in named.items():
        parameter.data.copy_(values[name])
        parameter.requires_grad_()
    rows = values[LABELS].clone().requires_grad_()
    encoder = reader._scorer.backbone
    ids, mask = tokens_of(encoder.tokenizer, [split.train[number]], encoder.max_tokens)  # type: ignore[attr-defined]
    functional.cross_entropy(reader(ids, mask, rows), split.labels[number : number + 1]).backward()
    expected = [p.grad.flatten() for p in named.values() if p.grad is not None]
    assert len(expected) == len(named)
    assert rows.grad is not None
    found = method.record_gradients(torch.tensor([number]), theta)[0]
    torch.testing.assert_close(found, torch.cat([*expected, rows.grad.flatten()]), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", list(METHODS))
def test_gradients_are_the_slope_of_the_loss(methods: dict[str, Method], split: Split, name: str) -> None:
    """Along a direction, the loss of what `probabilities` predicts for a test record that is also trained on falls as told."""
    same = dataclasses.replace(
        split, test=split.train[:1], test_labels=split.labels[:1].numpy(), words=(split.words[0], split.words[0][:1])
    )
    method = METHODS[name].build(same)
    theta = moved(method).double().float()
    gradient = method.record_gradients(torch.tensor([0]), theta)[0]
    step = 1e-3 * gradient / gradient.norm()

    def loss(at: torch.Tensor) -> float:
        return -float(np.log(method.probabilities(at)[0, int(split.labels[0])]))

    assert (loss(theta + step) - loss(theta - step)) / 2e-3 == pytest.approx(float(gradient.norm()), rel=0.05)


def test_lora_starts_as_the_model_is_and_trains_few_numbers(methods: dict[str, Method]) -> None:
    start = {name: methods[name].probabilities(torch.from_numpy(methods[name].start)) for name in ("labels", "lora", "full")}
    np.testing.assert_allclose(start["lora"], start["labels"], atol=1e-5)
    np.testing.assert_allclose(start["full"], start["labels"], atol=1e-5)
    layers, width, labels = 3, 16, 2
    assert methods["lora"].start.size == layers * 2 * 2 * weights.RANK * width + labels * width
    assert methods["labels"].start.size < methods["lora"].start.size < methods["full"].start.size


def test_the_shared_model_stays_as_it_is(split: Split) -> None:
    before = METHODS["labels"].build(split)
    said = before.probabilities(torch.from_numpy(before.start))
    lora(split), full(split)
    after = METHODS["labels"].build(split)
    np.testing.assert_array_equal(said, after.probabilities(torch.from_numpy(after.start)))


def test_another_family_is_refused(split: Split) -> None:
    scorer = weights.build(split.task.card)[0]
    with pytest.raises(InputError, match="leave lora and full out of --methods"):
        Reader(dataclasses.replace(scorer, backbone=object()))  # type: ignore[arg-type]
