from dataclasses import replace
from pathlib import Path

import pytest
import torch

from shared.backbone import Backbone, Hidden, fingerprint, load_backbone, locate
from shared.backbones.tuning import tuning_of
from shared.card import Task
from shared.errors import InputError
from shared.scoring import Scorer

TEXTS = ["age low pulse fast", "age high", "age middle pulse slow is a sick the low", "pulse missing"]


@pytest.fixture(scope="module")
def backbone(scorer: Scorer) -> Backbone:
    return scorer.backbone


def test_weights_are_frozen_and_dropout_is_off(backbone: Backbone) -> None:
    assert not any(p.requires_grad for p in backbone.model.parameters())
    assert not any(module.training for module in backbone.model.modules())


@pytest.mark.parametrize("layer", [0, 1, 2])
def test_cached_lower_layers_give_what_the_whole_model_gives(backbone: Backbone, layer: int) -> None:
    hidden = backbone.below(TEXTS, layer)
    ours = backbone.above(hidden, torch.zeros(len(TEXTS), 0, backbone.dim), layer)
    tokens = backbone.tokenizer(TEXTS, padding=True, return_tensors="pt")
    theirs = backbone.model(input_ids=tokens["input_ids"], attention_mask=tokens["attention_mask"]).last_hidden_state
    real = tokens["attention_mask"].bool()
    torch.testing.assert_close(ours[real], theirs[real], atol=1e-5, rtol=1e-5)


def test_rows_at_the_input_stand_where_peft_puts_them(backbone: Backbone) -> None:
    rows = torch.randn(1, 2, backbone.dim, generator=torch.Generator().manual_seed(3)).expand(len(TEXTS), -1, -1)
    ours = backbone.above(backbone.below(TEXTS, 0), rows, 0)
    tokens = backbone.tokenizer(TEXTS, padding=True, return_tensors="pt")
    words = torch.cat([rows, backbone.model.embeddings.word_embeddings(tokens["input_ids"])], 1)
    mask = torch.cat([torch.ones(len(TEXTS), 2), tokens["attention_mask"]], 1)
    theirs = backbone.model(inputs_embeds=words, attention_mask=mask).last_hidden_state[:, 2:]
    real = tokens["attention_mask"].bool()
    torch.testing.assert_close(ours[real], theirs[real], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("layer", [0, 1])
def test_neither_padding_nor_company_changes_a_record(backbone: Backbone, layer: int) -> None:
    rows = torch.ones(1, 1, backbone.dim)
    together = backbone.below(TEXTS, layer)
    for number, text in enumerate(TEXTS):
        alone = backbone.below([text], layer)
        length = int(alone.mask.sum())
        both = backbone.above(together, rows.expand(len(TEXTS), -1, -1), layer)[number, :length]
        torch.testing.assert_close(both, backbone.above(alone, rows, layer)[0], atol=1e-5, rtol=1e-5)


def test_hidden_states_are_cut_to_the_longest_record(backbone: Backbone) -> None:
    hidden = backbone.below(TEXTS, 1)
    assert hidden[torch.tensor([1])].states.shape[1] == 4
    assert len(hidden[torch.tensor([], dtype=torch.long)]) == 0


def test_bfloat16_is_close_to_float32(task: Task, backbone_folder: Path, backbone: Backbone) -> None:
    half = load_backbone(f"folder:{backbone_folder}", fingerprint(backbone_folder), "bfloat16")
    assert half.below(TEXTS, 1).states.dtype == torch.bfloat16
    torch.testing.assert_close(half.below(TEXTS, 1).states.float(), backbone.below(TEXTS, 1).states, atol=0.1, rtol=0.1)


def test_a_changed_weight_or_tokenizer_changes_the_fingerprint(backbone_folder: Path, tmp_path: Path) -> None:
    import shutil

    copy = Path(shutil.copytree(backbone_folder, tmp_path / "copy"))
    assert fingerprint(copy) == fingerprint(backbone_folder)
    (copy / "tokenizer.json").write_text((copy / "tokenizer.json").read_text() + " ")
    assert fingerprint(copy) != fingerprint(backbone_folder)
    with pytest.raises(InputError, match=r"fingerprint is \w{64}, the card pins \w{64}; install the model that the card names"):
        load_backbone(f"folder:{copy}", fingerprint(backbone_folder))


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("package:no_such_package/model", "package no_such_package is not installed; run pip install"),
        ("folder:/no/such/folder", "has no config.json; name the folder"),
        ("hub:nobody/nothing", "cannot be had"),
    ],
)
def test_a_missing_model_gets_one_sentence(source: str, said: str) -> None:
    with pytest.raises(InputError, match="backbone '") as caught:
        locate(source)
    assert said in str(caught.value)


def test_pickled_weights_are_refused(tmp_path: Path) -> None:
    (tmp_path / "pytorch_model.bin").write_bytes(b"")
    with pytest.raises(InputError, match="pickled weights are refused"):
        fingerprint(tmp_path)


def test_the_last_layers_fast_path_equals_the_models_own_layer(backbone: Backbone) -> None:
    """States and the gradient for the rows, padded records included."""
    hidden, layer = backbone.below(TEXTS, 2), backbone.model.encoder.layer[2]
    start = torch.randn(len(TEXTS), 3, backbone.dim, generator=torch.Generator().manual_seed(1))
    weight = torch.randn(hidden.states.shape, generator=torch.Generator().manual_seed(2)) * hidden.mask.unsqueeze(-1)
    mask = torch.cat([hidden.mask.new_ones(len(TEXTS), 3), hidden.mask], 1)
    blocked = torch.zeros(mask.shape).masked_fill(mask == 0, torch.finfo(torch.float32).min)[:, None, None, :]
    found = []
    for path in ("fast", "slow"):
        rows = start.clone().requires_grad_()
        slow = layer(torch.cat([rows, hidden.states], 1), blocked)[:, 3:]
        states = backbone.above(hidden, rows, 2) if path == "fast" else slow
        (states * weight).sum().backward()
        found.append((states * hidden.mask.unsqueeze(-1), rows.grad))
    torch.testing.assert_close(found[0], found[1], atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("readout", ["mean", "cls"])
def test_a_prepared_layer_gives_the_same_scores_and_gradients(scorer: Scorer, readout: str) -> None:
    """What knows no prompt is computed once: padded records, an empty set and a subset included."""
    late = replace(scorer, layer=2, backbone=replace(scorer.backbone, readout=readout))  # type: ignore[type-var]
    plain, wide = late.read(TEXTS), late.prepared(late.read(TEXTS))
    assert wide.states.shape[2] == 4 * plain.states.shape[2]
    prompt = torch.randn(4, 16, generator=torch.Generator().manual_seed(4))
    labels = torch.tensor([0, 1, 1, 0])
    for index in (torch.arange(4), torch.tensor([3, 0]), torch.tensor([], dtype=torch.long)):
        torch.testing.assert_close(late.probabilities(wide[index], prompt), late.probabilities(plain[index], prompt))
        found = [late.record_gradients(of[index], labels[index], prompt) for of in (wide, plain)]
        torch.testing.assert_close(found[0], found[1], atol=1e-6, rtol=1e-4)
    assert len(late.prepared(late.read([]))) == 0


def test_nothing_is_prepared_below_other_layers_and_for_what_changes_the_model(scorer: Scorer) -> None:
    assert scorer.layer == 1
    hidden = scorer.read(TEXTS)
    assert scorer.prepared(hidden) is hidden
    pooler = replace(scorer, layer=2, backbone=replace(scorer.backbone, readout="pooler"))  # type: ignore[type-var]
    assert pooler.prepared(hidden) is hidden
    tuning = tuning_of(scorer.backbone, "lora", 2, 2, 4.0, torch.zeros(2, 16))
    assert replace(scorer, layer=2, tuning=tuning).prepared(hidden) is hidden


def test_parts_in_their_order_are_the_whole_and_others_a_copy(backbone: Backbone) -> None:
    hidden = backbone.below(TEXTS, 1)
    a, nobody, b = hidden.part(0, 3), hidden.part(3, 3), hidden.part(3, 4)
    whole, turned = Hidden.together([a, nobody, b]), Hidden.together([b, nobody, a])
    assert whole.states.data_ptr() == hidden.states.data_ptr()
    assert torch.equal(whole.states, hidden.states)
    assert torch.equal(turned.states, hidden.states[[3, 0, 1, 2]])
    apart = Hidden.together([a, replace(b, states=b.states.clone())])
    assert apart.states.data_ptr() != hidden.states.data_ptr()
    assert torch.equal(apart.states, hidden.states)
    assert Hidden.together([nobody, nobody]).states.shape == (0, *hidden.states.shape[1:])
