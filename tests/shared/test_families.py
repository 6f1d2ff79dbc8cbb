"""The contract of a frozen model, the same for every family: a new one is its file and a line in tests/families.py."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from shared.backbone import Hidden
from shared.scoring import Scorer, build
from tests.families import FAMILIES, Family

LABELS = torch.tensor([0, 1, 1, 0])
CLOSE = {"atol": 2e-5, "rtol": 1e-4}


@pytest.fixture(scope="module", params=FAMILIES, ids=lambda family: family.name)
def family(request: pytest.FixtureRequest) -> Family:
    return request.param


@pytest.fixture(scope="module")
def folder(family: Family, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return family.write(tmp_path_factory.mktemp(family.name))


PLACES = {
    "input": "layer = 0",
    "late": "layer = 1",
    "last": "layer = 2",
    "deep": "deep = true",
    "deep-late": "layer = 1\ndeep = true",
}


@pytest.fixture(scope="module", params=PLACES)
def ready(request: pytest.FixtureRequest, family: Family, folder: Path) -> Iterator[tuple[Scorer, Tensor, Hidden]]:
    """The scorer, a prompt that is not the start, and the records as they are read."""
    if request.param not in family.places:
        pytest.skip("not a place for this family's prompt")
    scorer, start = build(family.task(folder, PLACES[request.param]).card)
    moved = torch.from_numpy(start) + 0.5 * torch.randn(start.shape, generator=torch.Generator().manual_seed(2))
    return scorer, moved, scorer.read(family.records())


def test_weights_are_frozen_and_stay_as_they_are(ready: tuple[Scorer, Tensor, Hidden]) -> None:
    scorer, prompt, hidden = ready
    model = scorer.backbone.model
    before = [p.clone() for p in model.parameters()]
    scorer.record_gradients(hidden, LABELS, prompt)
    assert not any(p.requires_grad or p.grad is not None for p in model.parameters())
    assert not any(module.training for module in model.modules())
    assert all(torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))
    assert scorer.backbone.parameters >= sum(p.numel() for p in model.parameters())


def test_gradients_are_those_of_one_record_after_the_other(family: Family, ready: tuple[Scorer, Tensor, Hidden]) -> None:
    """Also: neither padding nor company matters, because the loop reads every record alone."""
    scorer, prompt, hidden = ready
    fast = scorer.record_gradients(hidden, LABELS, prompt, batch=3)
    for number, record in enumerate(alone(family)):
        leaf = prompt.clone().requires_grad_()
        functional.cross_entropy(scorer.logits(scorer.read(record), leaf), LABELS[number : number + 1]).backward()
        torch.testing.assert_close(fast[number], leaf.grad, **CLOSE)
    assert fast.abs().amax((0, 2)).min() > 1e-6  # every row, prompt and label, is trained


def test_neither_padding_nor_company_changes_a_score(family: Family, ready: tuple[Scorer, Tensor, Hidden]) -> None:
    scorer, prompt, hidden = ready
    together = scorer.logits(hidden, prompt)
    each = torch.cat([scorer.logits(scorer.read(record), prompt) for record in alone(family)])
    torch.testing.assert_close(together, each, **CLOSE)
    assert (together[0] - together[1:]).abs().max() > 1e-3  # records do differ


def test_the_order_of_a_batch_does_not_matter(ready: tuple[Scorer, Tensor, Hidden]) -> None:
    scorer, prompt, hidden = ready
    turned = torch.tensor([2, 0, 3, 1])
    torch.testing.assert_close(scorer.logits(hidden[turned], prompt), scorer.logits(hidden, prompt)[turned], **CLOSE)


def test_a_record_may_have_a_prompt_of_its_own(ready: tuple[Scorer, Tensor, Hidden]) -> None:
    scorer, prompt, hidden = ready
    prompts = torch.stack([prompt, -prompt, prompt, 2 * prompt])  # (B, P+L, D)
    mixed = scorer.logits(hidden, prompts)
    for number in range(4):
        one = torch.tensor([number])
        torch.testing.assert_close(mixed[number : number + 1], scorer.logits(hidden[one], prompts[number]), **CLOSE)


def test_states_are_those_of_the_models_own_forward(family: Family, ready: tuple[Scorer, Tensor, Hidden]) -> None:
    """Cached lower layers give what one pass of the Hugging Face class gives, into which the rows are put by a hook."""
    scorer, prompt, _ = ready
    rows = scorer.shape.split(prompt)[0]  # (n P, D)
    for record in alone(family):
        hidden = scorer.read(record)
        found = scorer.pooled(hidden, rows.unsqueeze(0))
        torch.testing.assert_close(found, family.whole(scorer, record, rows).float(), **CLOSE)


def test_bfloat16_runs_and_the_gradient_is_float32(family: Family, folder: Path) -> None:
    scorer, start = build(family.task(folder, dtype="bfloat16").card)
    hidden = scorer.read(family.records())
    assert hidden.states.dtype == torch.bfloat16
    found = scorer.record_gradients(hidden, LABELS, torch.from_numpy(start))
    assert found.dtype == torch.float32
    assert found.isfinite().all()


def test_no_records_are_no_error(ready: tuple[Scorer, Tensor, Hidden], family: Family) -> None:
    scorer, prompt, _ = ready
    hidden = scorer.read(family.records()[:0])
    assert scorer.probabilities(hidden, prompt).shape == (0, 2)
    assert scorer.record_gradients(hidden, LABELS[:0], prompt).shape == (0, *prompt.shape)


def test_the_start_is_the_same_every_time(family: Family, folder: Path) -> None:
    card = family.task(folder).card
    assert np.array_equal(build(card)[1], build(card)[1])


def alone(family: Family) -> Iterator[object]:
    records = family.records()
    return (records[number : number + 1] for number in range(len(records)))
