"""Changes of the model that stand in the prompt's place, on every family, held to a copy whose weights were really changed."""

import copy
import tomllib
import warnings
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import peft
import pytest
import tomli_w
import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import BertModel

from shared.backbones.tuning import Tuning
from shared.card import Task
from shared.errors import InputError
from shared.library import open_entry
from shared.peft_format import load_prompt, save_prompt
from shared.reading import Reading, logits_of, open_reader
from shared.scoring import Scorer, build
from tests.families import FAMILIES, Family

LABELS = torch.tensor([0, 1, 1, 0])
CLOSE = {"atol": 2e-5, "rtol": 1e-4}
BEFORE = [family for family in FAMILIES if "after" not in family.prompt]


def tuned(task: Task, kind: str = "lora", **prompt: Any) -> Task:
    raw = tomllib.loads(task.text)
    raw["tune"] = {"kind": kind, "rank": 2, "alpha": 3.0}
    raw["prompt"] = raw.get("prompt", {}) | prompt
    return Task.parse(tomli_w.dumps(raw), "tuned.toml")


def moved_from(start: Any, stretch: float = 0.3) -> Tensor:
    return torch.from_numpy(start) + stretch * torch.randn(start.shape, generator=torch.Generator().manual_seed(2))


@pytest.fixture(scope="module", params=[(f, k) for f in BEFORE for k in ("lora", "layers")], ids=lambda c: f"{c[0].name}-{c[1]}")
def ready(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Family, Task, Scorer, Tensor]:
    family, kind = request.param
    task = tuned(family.task(family.write(tmp_path_factory.mktemp(family.name)), "layer = 1"), kind)
    scorer, start = build(task.card)
    return family, task, scorer, moved_from(start)


def rewritten(scorer: Scorer, rows: Tensor) -> Scorer:
    """The slow readable twin: a copy of the model with its weights changed, read by the frozen prompt's rows."""
    assert scorer.tuning is not None
    twin = copy.deepcopy(scorer.backbone)
    modules = dict(twin.model.named_modules())
    for part, own in zip(scorer.tuning.parts, scorer.tuning.cut(rows.unsqueeze(0)), strict=True):
        module = modules[part.name]
        changes = [part.scale * own[1][0] @ own[0][0]] if part.scale else [tensor[0] for tensor in own]
        for weight, change in zip((module.weight, module.bias), changes, strict=False):
            turned = weight.dim() == 2 and not isinstance(module, nn.Linear)  # GPT-2 keeps them so
            weight.data += change.T if turned else change
    return replace(scorer, backbone=twin, tuning=None)


def test_the_start_is_the_prompted_model(ready: tuple[Family, Task, Scorer, Tensor]) -> None:
    family, task, scorer, _ = ready
    plain = task.card.model_copy(update={"tune": None})
    before, prompt = build(plain)
    hidden, start = scorer.read(family.records()), build(task.card)[1]
    torch.testing.assert_close(
        scorer.logits(hidden, torch.from_numpy(start)), before.logits(hidden, torch.from_numpy(prompt)), **CLOSE
    )


def test_scores_are_those_of_a_model_whose_weights_were_changed(ready: tuple[Family, Task, Scorer, Tensor]) -> None:
    family, _, scorer, tensor = ready
    assert scorer.tuning is not None
    hidden, frozen = scorer.read(family.records()), scorer.tuning.frozen
    rows, labels = scorer.shape.split(tensor)
    twin = rewritten(scorer, rows)
    twin = replace(twin, shape=replace(twin.shape, rows=len(frozen)))
    found = scorer.logits(hidden, tensor)
    torch.testing.assert_close(found, twin.logits(hidden, torch.cat([frozen, labels])), **CLOSE)
    unmoved = scorer.logits(hidden, torch.cat([0 * rows, labels]))
    assert (found - unmoved).abs().max() > 1e-4


def test_gradients_are_those_of_one_record_after_the_other(ready: tuple[Family, Task, Scorer, Tensor]) -> None:
    family, _, scorer, tensor = ready
    hidden = scorer.read(family.records())
    fast = scorer.record_gradients(hidden, LABELS, tensor, batch=3)
    for number in range(4):
        leaf, one = tensor.clone().requires_grad_(), torch.tensor([number])
        functional.cross_entropy(scorer.logits(hidden[one], leaf), LABELS[one]).backward()
        torch.testing.assert_close(fast[number], leaf.grad, **CLOSE)
    assert fast.abs().amax((0, 2)).max() > 1e-4
    assert not any(p.requires_grad or p.grad is not None for p in scorer.backbone.model.parameters())


def test_a_record_may_have_changes_of_its_own(ready: tuple[Family, Task, Scorer, Tensor]) -> None:
    family, _, scorer, tensor = ready
    hidden = scorer.read(family.records())
    own = torch.stack([tensor, -tensor, tensor, 2 * tensor])  # (B, M+L, D)
    mixed = scorer.logits(hidden, own)
    for number in range(4):
        one = torch.tensor([number])
        torch.testing.assert_close(mixed[one], scorer.logits(hidden[one], own[number]), **CLOSE)


def test_two_threads_do_not_meet(task: Task) -> None:
    scorer, start = build(tuned(task).card)
    hidden, one = scorer.read(["age low pulse slow"] * 40), moved_from(start)
    alone = [scorer.logits(hidden, tensor) for tensor in (one, -one)]
    with ThreadPoolExecutor(2) as pool:
        for found in pool.map(lambda n: (n % 2, scorer.logits(hidden, (one, -one)[n % 2])), range(40)):
            torch.testing.assert_close(found[1], alone[found[0]])


def test_every_number_that_moves_changes_the_scores(task: Task) -> None:
    """Also that no number is used twice: the gradient of a sum of scores is dense where LoRA's A and B both moved."""
    scorer, start = build(tuned(task, rows=0).card)
    assert isinstance(scorer.tuning, Tuning)
    gradient = scorer.record_gradients(scorer.read(["age low pulse slow is"]), torch.tensor([1]), moved_from(start))[0]
    assert scorer.tuning.numbers == 2 * 2 * 2 * 2 * 16  # two layers, two modules, A and B, rank 2, width 16
    assert (gradient[: scorer.tuning.rows].flatten()[: scorer.tuning.numbers] != 0).all()


def test_peft_loads_lora(task: Task, tmp_path: Path, backbone_folder: Path) -> None:
    card = tuned(task, rows=0, layer=0)
    scorer, start = build(card.card)
    tensor = moved_from(start)
    save_prompt(tmp_path / "prompt", tensor.numpy(), card, scorer, {})
    texts = ["age low pulse slow", "age high pulse fast is a"]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PEFT's own
        model = peft.PeftModel.from_pretrained(BertModel.from_pretrained(backbone_folder), tmp_path / "prompt").eval()
    given = scorer.backbone.tokenizer(texts, return_tensors="pt", padding=True)  # type: ignore[attr-defined]
    states, mask = model(**given).last_hidden_state, given["attention_mask"].unsqueeze(-1)
    theirs = (states * mask).sum(1) / mask.sum(1)  # (B, D)
    ours = scorer.pooled(scorer.read(texts), tensor[: scorer.shape.rows].expand(2, -1, -1))
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("kind", ["lora", "layers"])
def test_what_was_saved_reads_the_same_beside_a_plain_prompt(kind: str, task: Task, tmp_path: Path) -> None:
    texts, readers, expected = ["age low pulse slow", "age high pulse fast"], [], []
    for number, card in enumerate((tuned(task, kind), task)):
        scorer, start = build(card.card)
        tensor, folder = moved_from(start), tmp_path / str(number) / "prompt"
        save_prompt(folder, tensor.numpy(), card, scorer, {})
        (folder / "task.toml").write_text(card.text)
        assert (load_prompt(folder)[0] == tensor.numpy()).all()
        readers.append(open_reader(open_entry(folder)))
        expected.append(scorer.logits(scorer.read(texts), tensor))
    found = logits_of(readers, [Reading(text, reader) for reader in (0, 1) for text in texts])
    torch.testing.assert_close(torch.stack(found), torch.cat(expected), **CLOSE)


def test_a_prompt_is_no_start_when_it_holds_changes(task: Task, tmp_path: Path) -> None:
    card = tuned(task)
    scorer, start = build(card.card)
    save_prompt(tmp_path / "prompt", start, card, scorer, {})
    (tmp_path / "prompt/task.toml").write_text(card.text)
    init = f"prompt:{tmp_path / 'prompt'}@{open_entry(tmp_path / 'prompt').digest}"
    with pytest.raises(InputError, match="holds changes of the model, which are no prompt"):
        build(tuned(task, init=init).card)


def test_rows_after_the_text_are_refused(task: Task) -> None:
    with pytest.raises(InputError, match="put the rows before"):
        tuned(task, position="after")
