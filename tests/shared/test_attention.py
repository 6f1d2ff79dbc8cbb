"""Attention as plain products gives what the fused kernel gives; in bfloat16 each record's gradient stays its own."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from client.records import Cohort
from shared.attention import NAME, attend, products
from shared.card import Task
from shared.prompt import Array
from shared.scoring import Scorer, build
from tests.conftest import card_text, make_cohort

B, H, Q, K, E = 3, 2, 5, 7, 4


def parts(dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    torch.manual_seed(0)
    query, key, value = (torch.randn(B, H, n, E).to(dtype).requires_grad_() for n in (Q, K, K))
    mask = torch.zeros(B, 1, 1, K, dtype=dtype)
    mask[1, ..., -2:] = torch.finfo(dtype).min
    return query, key, value, mask


@pytest.mark.parametrize("masked", [True, False])
@pytest.mark.parametrize("scale", [None, 0.3])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.bfloat16, 0.04)])
def test_products_give_what_the_fused_kernel_gives(dtype: torch.dtype, tolerance: float, scale: float | None, masked: bool) -> None:
    *given, mask = parts(dtype)
    say = mask if masked else None
    fused = functional.scaled_dot_product_attention(*given, attn_mask=say, scale=scale)
    plain = products(*given, say, scale)
    assert plain.dtype == dtype
    weight = torch.randn_like(plain)
    torch.testing.assert_close(plain, fused, atol=tolerance, rtol=0)
    for one, other in zip(torch.autograd.grad(plain, given, weight), torch.autograd.grad(fused, given, weight), strict=True):
        torch.testing.assert_close(one, other, atol=2 * tolerance, rtol=0)
    if masked:
        assert not torch.allclose(products(*given, None, scale), fused, atol=tolerance)


def test_only_gradients_in_bfloat16_take_the_plain_way(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    monkeypatch.setattr("shared.attention.products", lambda *given: asked.append(given[0].dtype) or given[0])
    for dtype in (torch.float32, torch.bfloat16):
        attend(*parts(dtype))
        with torch.no_grad():
            attend(*parts(dtype))
    assert asked == [torch.bfloat16]


@pytest.fixture(scope="module", params=[0, 1, 2], ids=["input", "in between", "last layer"])
def both(request: pytest.FixtureRequest, backbone_folder: Path) -> tuple[Scorer, Scorer, Array]:
    """The same card with the model in float32 and in bfloat16, the prompt at an outer, a middle and the last layer."""
    text = card_text(backbone_folder, layer=request.param)
    exact, prompt = build(Task.parse(text, "float32").card)
    rough = build(Task.parse(text.replace("max_tokens", 'dtype = "bfloat16"\nmax_tokens'), "bfloat16").card)[0]
    return exact, replace(rough, centre=exact.centre), prompt


def gradients(scorer: Scorer, cohort: Cohort, prompt: Array) -> Tensor:
    given = torch.from_numpy(prompt)
    return scorer.record_gradients(scorer.read(cohort.records), torch.tensor(cohort.labels), given)


def test_bfloat16_gives_the_gradients_of_float32_within_a_few_percent(both: tuple[Scorer, Scorer, Array], task: Task) -> None:
    exact, rough, prompt = both
    assert rough.backbone.model.dtype == torch.bfloat16
    assert rough.backbone.model.config._attn_implementation == NAME
    cohort = make_cohort(task, 40, seed=3)
    one, other = gradients(exact, cohort, prompt), gradients(rough, cohort, prompt)  # (N, P+L, D)
    assert other.dtype == torch.float32
    off = (one - other).flatten(1).norm(dim=1) / one.flatten(1).norm(dim=1)  # (N,)
    assert off.median() < 0.05
    assert off.median() > 1e-5  # it is another arithmetic
    probabilities = [s.probabilities(s.read(cohort.records), torch.from_numpy(prompt)) for s in (exact, rough)]
    torch.testing.assert_close(*probabilities, atol=0.08, rtol=0)


def test_a_records_gradient_in_bfloat16_hangs_on_no_other_record(both: tuple[Scorer, Scorer, Array], task: Task) -> None:
    _, rough, prompt = both
    cohort = make_cohort(task, 12, seed=4)
    hidden, labels, given = rough.read(cohort.records), torch.tensor(cohort.labels), torch.from_numpy(prompt)
    whole = rough.record_gradients(hidden, labels, given)  # (N, P+L, D)
    turned = rough.record_gradients(hidden, 1 - labels, given)
    mixed = labels.clone()
    mixed[6:] = 1 - mixed[6:]
    found = rough.record_gradients(hidden, mixed, given)  # the other half's labels changed: the first half's gradients stay
    torch.testing.assert_close(found[:6], whole[:6], atol=0, rtol=0)
    assert not torch.allclose(found[6:], whole[6:], rtol=1e-2)
    torch.testing.assert_close(found[6:], turned[6:], atol=0, rtol=0)


def test_prompts_per_record_give_each_record_the_gradient_at_its_own(scorer: Scorer, task: Task, prompt: Array) -> None:
    cohort = make_cohort(task, 10, seed=5)
    hidden, labels = scorer.read(cohort.records), torch.tensor(cohort.labels)
    one = torch.from_numpy(prompt)
    other = one + 0.1 * torch.randn(one.shape, generator=torch.Generator().manual_seed(0))
    each = torch.stack([one, other] * 5)  # (B, P+L, D)
    found = scorer.record_gradients(hidden, labels, each, batch=3)
    torch.testing.assert_close(found[::2], scorer.record_gradients(hidden, labels, one)[::2], atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(found[1::2], scorer.record_gradients(hidden, labels, other)[1::2], atol=1e-5, rtol=1e-4)
    assert not torch.allclose(found[1::2], scorer.record_gradients(hidden, labels, one)[1::2], atol=1e-4)
