"""The contract of a frozen model, the same for every family: a new one is its file and a line in tests/families.py."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from shared.backbone import Hidden
from shared.backbones.protocol import weights_of
from shared.scoring import Scorer, build
from tests.families import FAMILIES, Family

LABELS = torch.tensor([0, 1, 1, 0])
CLOSE = {"atol": 2e-5, "rtol": 1e-4}


CASES = [(family, place) for family in FAMILIES for place in family.places]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return {family.name: family.write(tmp_path_factory.mktemp(family.name)) for family in FAMILIES}


@pytest.fixture(scope="module", params=CASES, ids=lambda case: "-".join((case[0].name, *case[1].split())))
def case(request: pytest.FixtureRequest) -> tuple[Family, str]:
    return request.param


@pytest.fixture(scope="module")
def family(case: tuple[Family, str]) -> Family:
    return case[0]


@pytest.fixture(scope="module")
def ready(case: tuple[Family, str], folders: dict[str, Path]) -> tuple[Scorer, Tensor, Hidden]:
    """The scorer, a prompt that is not the start, and the records as they are read."""
    family, place = case
    scorer, start = build(family.task(folders[family.name], place).card)
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
    assert weights_of(scorer.backbone.model) >= sum(p.numel() for p in model.parameters())


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


def test_the_attention_in_use_does_not_matter(ready: tuple[Scorer, Tensor, Hidden], family: Family) -> None:
    """Masks are those of every kernel: read and scored by the eager one, records score the same."""
    scorer, prompt, hidden = ready
    model = scorer.backbone.model
    usual = model.config._attn_implementation
    model.set_attn_implementation("eager")
    try:
        eager = scorer.logits(scorer.read(family.records()), prompt)
    finally:
        model.set_attn_implementation(usual)
    assert usual == "sdpa"
    torch.testing.assert_close(eager, scorer.logits(hidden, prompt), **CLOSE)


def test_no_records_are_no_error(ready: tuple[Scorer, Tensor, Hidden], family: Family) -> None:
    scorer, prompt, _ = ready
    hidden = scorer.read(family.records()[:0])
    assert scorer.probabilities(hidden, prompt).shape == (0, 2)
    assert scorer.record_gradients(hidden, LABELS[:0], prompt).shape == (0, *prompt.shape)


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
def test_bfloat16_runs_and_the_gradient_is_float32(family: Family, folders: dict[str, Path]) -> None:
    scorer, start = build(family.task(folders[family.name], dtype="bfloat16").card)
    hidden = scorer.read(family.records())
    assert hidden.states.dtype == torch.bfloat16
    found = scorer.record_gradients(hidden, LABELS, torch.from_numpy(start))
    assert found.dtype == torch.float32
    assert found.isfinite().all()


def alone(family: Family) -> Iterator[object]:
    records = family.records()
    return (records[number : number + 1] for number in range(len(records)))
