"""Every family gives on another device what it gives on the CPU, and leaves no tensor behind. `tests/far.py` pretends a device."""

import tomllib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import tomli_w
import torch

from shared.backbone import Hidden, load_backbone
from shared.card import Task
from shared.device import described, enough_memory, require_device
from shared.errors import InputError, RunError
from shared.scoring import build
from tests.conftest import make_cohort
from tests.families import AFTER, DEEP, FAMILIES, INPUT, LATE, OWN_LOOP, Family
from tests.far import FAR, MixedError, far_device

LABELS = torch.tensor([0, 1, 1, 0])
CLOSE = {"atol": 2e-5, "rtol": 1e-4}


def places(family: Family) -> tuple[str, ...]:
    """All of BERT's, whose last layer has code of its own; of others the one to three that differ in what moves."""
    if family.name == "bert":
        return family.places
    if family.prompt == AFTER:
        return INPUT, LATE
    words = "" if family.images or family.masked else '\ninit = "text:age high"'
    return (f"{DEEP}{words}", LATE) if family.name in OWN_LOOP else (LATE,)


SAME_CODE = ("camembert", "roberta", "roberta-mask", "qwen2", "qwen3-after", "vit-mean", "clip-both-towers", "siglip-both-towers")
SHOWN = [family for family in FAMILIES if family.name not in SAME_CODE]
CASES = [(family, place) for family in SHOWN for place in places(family)]
NO_GPU = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU is here")


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return {family.name: family.write(tmp_path_factory.mktemp(family.name)) for family in SHOWN}


@pytest.fixture
def far(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A device by the name that `build` takes."""
    monkeypatch.setattr("shared.backbone.require_device", lambda name: name)
    with far_device():
        yield FAR
    load_backbone.cache_clear()


def work(task: Task, records: Any, device: str) -> dict[str, Any]:
    """What training and scoring give of four records with the model on a device."""
    scorer, start = build(task.card, device)
    assert all(fact is None or fact.device.type == "cpu" for fact in (scorer.centre, scorer.bias, scorer.fixed_labels))
    hidden, nothing = scorer.read(records), scorer.read(records[:0])
    prompt = torch.from_numpy(start) + 0.5 * torch.randn(start.shape, generator=torch.Generator().manual_seed(2))
    prompts = torch.stack([prompt, -prompt, prompt, 2 * prompt])  # (B, P+L, D)
    return {
        "where": [part.device.type for part in (hidden.states, nothing.states, scorer.logits(hidden, prompt), hidden.mask)],
        "states": hidden.states.cpu(),
        "start": torch.from_numpy(start),
        "gradients": scorer.record_gradients(hidden, LABELS, prompt, batch=3),
        "gradients at prompts": scorer.record_gradients(hidden, LABELS, prompts),
        "probabilities": scorer.probabilities(hidden, prompt),
    }


def compare(found: dict[str, Any], wanted: dict[str, Any], device: str) -> None:
    assert found.pop("where") == [device, device, device, "cpu"]
    assert wanted.pop("where") == ["cpu"] * 4
    for name, value in found.items():
        assert value.device.type == "cpu", name
        torch.testing.assert_close(value, wanted[name], **CLOSE, msg=lambda said, name=name: f"{name}: {said}")


@pytest.mark.parametrize(("family", "place"), CASES, ids=lambda one: getattr(one, "name", one))
def test_every_family_leaves_no_tensor_on_the_cpu(family: Family, place: str, folders: dict[str, Path], far: str) -> None:
    task = family.task(folders[family.name], place)
    compare(work(task, family.records(), far), work(task, family.records(), "cpu"), "far")


@NO_GPU
@pytest.mark.parametrize(("family", "place"), CASES, ids=lambda one: getattr(one, "name", one))
def test_every_family_gives_the_same_on_a_gpu(family: Family, place: str, folders: dict[str, Path]) -> None:
    task = family.task(folders[family.name], place)
    compare(work(task, family.records(), "cuda"), work(task, family.records(), "cpu"), "cuda")


VARIANTS = {
    "lora": {"tune": {"kind": "lora", "rank": 2}},
    "layers": {"tune": {"kind": "layers"}},
    "windows": {"template": {"windows": 3, "overlap": 2}, "backbone": {"max_tokens": 9}},
    "start as words": {"prompt": {"init": "text:age high"}},
    "fixed labels": {"prompt": {"label_rows": False}},
}


@pytest.mark.parametrize("name", VARIANTS)
def test_what_cards_can_say_leaves_no_tensor_on_the_cpu(name: str, task: Task, far: str) -> None:
    raw = tomllib.loads(task.text)
    for table, keys in VARIANTS[name].items():
        raw[table] = raw.get(table, {}) | keys
    card = Task.parse(tomli_w.dumps(raw), "varied.toml")
    texts = [" ".join([text] * (1 + 2 * (n % 2))) for n, text in enumerate(make_cohort(task, 4, seed=1).records)]
    assert (build(card.card)[0].read(texts).windows is not None) == (name == "windows")
    compare(work(card, texts, far), work(card, texts, "cpu"), "far")


@pytest.mark.parametrize("forgotten", ["mask", "centre"])
def test_a_tensor_left_on_the_cpu_is_found(forgotten: str, task: Task, far: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The very lines that move them, without the move."""
    scorer, start = build(task.card, far)
    hidden = scorer.read(make_cohort(task, 4, seed=1).records)
    if forgotten == "mask":
        monkeypatch.setattr(Hidden, "to", lambda self, device: replace(self, states=self.states.to(device)))
    else:
        monkeypatch.setattr(type(scorer.centre), "to", lambda self, *_, **__: self)
    with pytest.raises(MixedError):
        scorer.record_gradients(hidden, LABELS, torch.from_numpy(start))


def test_the_pretended_device_lets_through_what_cuda_does_and_no_more(far: str) -> None:
    near, there = torch.arange(3.0), torch.arange(3.0).to(far)
    assert (there[torch.tensor([2, 0])] + 1.0).cpu().tolist() == [3.0, 1.0]  # indices of this machine, and a number
    assert (there * torch.tensor(2.0)).device.type == "far"  # without dimensions it is a number
    for mixed in (lambda: there + near, lambda: torch.cat([near, there]), lambda: near[there.long()]):
        with pytest.raises(MixedError):
            mixed()
    with pytest.raises(RuntimeError, match="numpy"):
        there.numpy()


def test_a_device_that_is_not_here_is_told_with_its_mend(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("gpu", "cuda:", "cuda:x", "far:0", "CPU"):
        with pytest.raises(InputError, match="there is no such device"):
            require_device(name)
    monkeypatch.setattr("torch.backends.cuda.is_built", lambda: False)
    with pytest.raises(InputError, match=r"built without CUDA; pip install .* torch==\d+\.\d+\.\d+, from PyPI"):
        require_device("cuda")
    monkeypatch.setattr("torch.backends.cuda.is_built", lambda: True)
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with pytest.raises(InputError, match="sees no GPU"):
        require_device("cuda:0")
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    assert require_device("cuda:1") == "cuda:1"
    with pytest.raises(InputError, match="sees 2 GPUs; name cuda:0 to cuda:1"):
        require_device("cuda:2")


def test_a_gpu_without_room_is_one_sentence() -> None:
    with pytest.raises(RunError, match="device 'cuda' has too little memory"), enough_memory("cuda"):
        raise torch.OutOfMemoryError
    assert described("cpu").startswith("cpu, ")
