"""What a card can say of its model, what it cannot, and where a prompt starts."""

import importlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers as hf

from audits.subject import Subject, made_up_pool
from client.records import Cohort
from client.round import patient_gradients, pool
from shared.backbone import FAMILIES as NAMES
from shared.backbone import fingerprint
from shared.backbones.text import padded
from shared.backbones.vision import NOISE
from shared.card import Task
from shared.errors import InputError
from shared.scoring import Scorer, build
from tests.families import AFTER, FAMILIES, IMAGE, MASK, SIZES, TEXTS, WORDS, Family

BY_NAME = {family.name: family for family in FAMILIES}


def made(name: str, tmp_path: Path, prompt: str = "") -> tuple[Scorer, torch.Tensor]:
    family = BY_NAME[name]
    scorer, start = build(family.task(family.write(tmp_path), prompt).card)
    return scorer, torch.from_numpy(start)


@pytest.mark.parametrize("name", ["bert-mask", "roberta-mask", "gpt2", "llama"])
def test_a_language_model_starts_with_its_own_scores_of_the_label_words(name: str, tmp_path: Path) -> None:
    """Without prompt rows, label probabilities are those of the model's words; of two tokens, their mean score."""
    _, start = made(name, tmp_path)
    scorer, alone = build(replaced_rows(BY_NAME[name], tmp_path).card)
    backbone: Any = scorer.backbone
    for text in BY_NAME[name].records():
        ids = backbone.tokenizer([text.replace("[MASK]", backbone.tokenizer.mask_token)], return_tensors="pt")["input_ids"]
        scores = backbone.model(input_ids=ids).logits[0]  # (T, V)
        word = scores[int((ids[0] == backbone.tokenizer.mask_token_id).nonzero())] if BY_NAME[name].masked else scores[-1]
        low, high, slow = (int(backbone.tokenizer.convert_tokens_to_ids(word)) for word in ("low", "high", "slow"))
        expected = torch.stack([word[low], (word[high] + word[slow]) / 2])
        found = scorer.logits(scorer.read([text]), torch.from_numpy(alone))[0]
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
    assert torch.equal(start[2:], torch.from_numpy(alone))  # the label rows; prompt rows are before them


def replaced_rows(family: Family, folder: Path) -> Task:
    task = family.task(folder)
    return Task.parse(task.text.replace("rows = 2", "rows = 0", 1), "alone.toml")


@pytest.mark.parametrize("name", ["gpt2", "gpt2-after"])
def test_a_long_text_loses_its_beginning_and_an_empty_one_is_no_error(name: str, tmp_path: Path) -> None:
    family = BY_NAME[name]
    task = family.task(family.write(tmp_path))
    short = Task.parse(task.text.replace("max_tokens = 28", "max_tokens = 4"), "short.toml")
    scorer, start = build(short.card)
    prompt = torch.from_numpy(start)
    long, tail = scorer.read(["the the the age high pulse fast"]), scorer.read(["is is is age high pulse fast"])
    assert long.mask.shape == (1, 4)
    torch.testing.assert_close(scorer.logits(long, prompt), scorer.logits(tail, prompt))
    assert padded([[5, 6], [7]])[0].tolist() == [[5, 6], [7, 0]]
    assert scorer.logits(scorer.read(["", "age"]), prompt).isfinite().all()


def test_images_without_public_ones_are_centred_on_noise_and_start_in_public_directions(tmp_path: Path) -> None:
    scorer, start = made("vit", tmp_path)
    public = scorer.backbone.public_images
    assert public is not None
    assert public.images.shape == (NOISE, 2, 12, 12)
    torch.testing.assert_close(scorer.embed(public.images[:8], start[:2]).mean(0), scorer.centre)
    assert torch.equal(build_with(tmp_path, 'centre = "none"').centre, torch.zeros(16))


def build_with(folder: Path, prompt: str) -> Scorer:
    return build(BY_NAME["vit"].task(folder, prompt).card)[0]


def test_public_images_centre_the_output_start_label_rows_and_are_pinned(tmp_path: Path) -> None:
    folder = BY_NAME["vit"].write(tmp_path)
    before = fingerprint(folder)
    images = np.random.default_rng(1).standard_normal((6, 2, 12, 12), dtype=np.float32)
    images[3:] += 2
    np.savez(folder / "public_images.npz", images=images, labels=np.array(["well"] * 3 + ["sick"] * 3))
    assert fingerprint(folder) != before
    scorer, start = build(BY_NAME["vit"].task(folder).card)
    guesses = scorer.probabilities(scorer.read(images), torch.from_numpy(start)).argmax(1)
    assert guesses.tolist() == [0, 0, 0, 1, 1, 1]
    np.savez(folder / "public_images.npz", images=images[0])
    with pytest.raises(InputError, match=r"public_images.npz: 'images' has shape \(2, 12, 12\)"):
        build(BY_NAME["vit"].task(folder).card)


def test_loading_says_nothing_about_weights_that_are_not_used(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    hf.utils.logging.enable_propagation()
    try:
        made("vit", tmp_path)  # the folder has a pooler
    finally:
        hf.utils.logging.disable_propagation()
    assert caplog.text == ""
    assert hf.utils.logging.get_verbosity() == hf.utils.logging.WARNING


def test_an_image_processors_file_changes_the_fingerprint(tmp_path: Path) -> None:
    folder = BY_NAME["vit"].write(tmp_path)
    before = fingerprint(folder)
    (folder / "preprocessor_config.json").write_text("{}")
    assert fingerprint(folder) != before


def test_images_of_a_patient_become_one_gradient(tmp_path: Path) -> None:
    scorer, prompt = made("vit", tmp_path)
    images = np.random.default_rng(2).standard_normal((3, 2, 12, 12), dtype=np.float32)
    patients = pool(Cohort((), (0, 1, 1), (0, 0, 1), 2, images), scorer)
    each = scorer.record_gradients(scorer.read(images), torch.tensor([0, 1, 1]), prompt)
    found = patient_gradients(patients, [0, 1], prompt, scorer)
    torch.testing.assert_close(found, torch.stack([each[:2].mean(0), each[2]]))


def test_an_auditors_made_up_patients_are_of_the_cards_kind(tmp_path: Path) -> None:
    for name, width in (
        ("vit", 10),
        ("gpt2", 6),
    ):  # a class token and nine patches; "age missing pulse missing" and two special tokens
        family = BY_NAME[name]
        task = family.task(family.write(tmp_path / name))
        scorer, start = build(task.card)
        found = made_up_pool(Subject(task, scorer, (start,)), 3, seed=1, records=2)
        assert found.patients == 3
        assert len(found.hidden) == 6
        assert found.hidden.states.shape[1] == width


REFUSED: list[tuple[str, str, str]] = [
    ("bert", 'readout = "last"', "readout 'last' is not for a model of type 'bert'; choose mean or cls or pooler or mask"),
    ("roberta", 'readout = "pooler"', "readout 'pooler' is BERT's own; choose mean or cls"),
    ("bert", AFTER, "position 'after' needs a causal language model"),
    ("gpt2", 'readout = "mean"', "readout 'mean' is not for a model of type 'gpt2'; choose last"),
    ("gpt2-after", "deep = true", "deep rows after the text would be seen by nobody"),
    ("vit", 'init = "text:heart"', "init 'text:heart' needs a model that reads text"),
    ("vit", 'readout = "head"', "readout 'head' is not for a model of type 'vit'; choose cls or mean"),
    ("bert", MASK, "the weights have no 'cls.predictions."),
    ("clip", "layer = 3", "layer 3 is too deep"),
]


@pytest.mark.parametrize(("name", "prompt", "said"), REFUSED)
def test_what_a_model_cannot_do_is_said_in_one_sentence(name: str, prompt: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        made(name, tmp_path, prompt)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def no_template(text: str) -> str:
    return text.replace("template =", "# template =")


def no_label_text(text: str) -> str:
    return text.replace('text = "low"', 'text = ""')


@pytest.mark.parametrize(
    ("name", "change", "said"),
    [
        ("gpt2", no_template, "reads texts and needs a [template]"),
        (
            "vit",
            lambda text: text.replace("[prompt]", 'template = { text = "{age}" }\n[prompt]'),
            "reads images, which have no [template]",
        ),
        ("bert", no_label_text, "label 'well' has no text"),
        ("gpt2", lambda text: text.replace("rows = 2", 'rows = 0\nposition = "after"'), "position 'after' need rows"),
    ],
)
def test_a_card_that_does_not_fit_its_model_is_refused(name: str, change: Callable[[str], str], said: str, tmp_path: Path) -> None:
    family = BY_NAME[name]
    task = family.task(family.write(tmp_path))
    with pytest.raises(InputError) as caught:
        build(Task.parse(change(task.text), "changed.toml").card)
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("name", "records", "said"),
    [
        ("gpt2", np.zeros((1, 2, 12, 12), np.float32), "reads texts and the records are images"),
        ("bert-mask", np.zeros((1, 2, 12, 12), np.float32), "reads texts and the records are images"),
        ("vit", TEXTS, "reads images and the records are texts"),
        (
            "vit",
            np.zeros((1, 2, 16, 16), np.float32),
            "images of shape (2, 16, 16) do not fit the backbone, which takes (2, 12, 12)",
        ),
        ("dinov2", np.zeros((1, 2, 13, 12), np.float32), "do not fit the backbone"),
        ("bert-mask", ["age low"], "a text does not have one [MASK]"),
        ("bert-mask", ["age is [MASK] or [MASK]"], "a text does not have one [MASK]"),
    ],
)
def test_records_that_do_not_fit_are_refused_without_a_word_of_them(name: str, records: Any, said: str, tmp_path: Path) -> None:
    scorer, _ = made(name, tmp_path)
    with pytest.raises(InputError) as caught:
        scorer.read(records)
    assert said in str(caught.value)
    assert "age" not in str(caught.value).replace("message", "").replace("image", "")


def test_dinov2_takes_images_of_other_sizes(tmp_path: Path) -> None:
    scorer, prompt = made("dinov2", tmp_path)
    larger = np.random.default_rng(1).standard_normal((2, 2, 16, 20), dtype=np.float32)
    assert scorer.logits(scorer.read(larger), prompt).shape == (2, 2)


def test_a_model_of_no_known_family_is_refused(tmp_path: Path) -> None:
    folder = BY_NAME["bert"].write(tmp_path)
    for kind, said in (("t5", "'t5' is not supported; use one of bert, roberta"), (None, "no model_type can be read")):
        config = json.loads((folder / "config.json").read_text()) | {"model_type": kind}
        (folder / "config.json").write_text(json.dumps(config if kind else {"hidden_size": 16}))
        with pytest.raises(InputError) as caught:
            build(BY_NAME["bert"].task(folder).card)
        assert said in str(caught.value)


def test_a_siglip_without_its_head_is_read_by_the_mean(tmp_path: Path) -> None:
    hf.SiglipVisionModel(hf.SiglipVisionConfig(**IMAGE, vision_use_head=False)).save_pretrained(tmp_path)
    scorer, _ = build(BY_NAME["siglip"].task(tmp_path).card)
    states = scorer.backbone.model(torch.zeros(1, 2, 12, 12)).last_hidden_state
    hidden = scorer.read(np.zeros((1, 2, 12, 12), np.float32))
    torch.testing.assert_close(scorer.backbone.pooled(hidden, torch.zeros(1, 0, 16), 0), states.mean(1), atol=1e-5, rtol=1e-5)
    with pytest.raises(InputError, match="readout 'head' is not for this model; choose mean"):
        build(BY_NAME["siglip"].task(tmp_path, 'readout = "head"').card)


def test_sliding_attention_is_refused(tmp_path: Path) -> None:
    window = {"use_sliding_window": True, "sliding_window": 4, "max_window_layers": 0}
    config = hf.Qwen2Config(vocab_size=len(WORDS), num_key_value_heads=2, **SIZES, **window)
    hf.Qwen2ForCausalLM(config).save_pretrained(tmp_path)
    with pytest.raises(InputError, match="a model with sliding attention is not supported"):
        build(BY_NAME["qwen2"].task(tmp_path).card)


def test_the_page_names_every_model_type_and_readout() -> None:
    page = (Path(__file__).parents[2] / "docs/backbones.md").read_text()
    for name in NAMES:
        family = importlib.import_module(f"shared.backbones.{name}")
        for word in (*family.MODEL_TYPES, *family.READOUTS):
            assert f"`{word}`" in page or f'readout = "{word}"' in page, f"docs/backbones.md does not name {word} of {name}"
