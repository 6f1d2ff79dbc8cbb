"""Tiny random models of the real Hugging Face classes, one a family, with the card that uses them."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers as hf
from torch import Tensor

from shared.backbone import fingerprint
from shared.card import Task
from shared.scoring import Scorer
from tests.conftest import WORDS, write_tokenizer

SIZES = {"hidden_size": 16, "num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 32}
IMAGE = SIZES | {"image_size": 12, "patch_size": 4, "num_channels": 2}
PROMPT_ROWS = 2  # of the cards, in each layer that has some
TEXTS = ["age low pulse fast", "age high", "age middle pulse slow is a sick the low", "pulse missing"]

CARD = """
schema = 1
name = "tiny"
title = "A tiny task"
labels = [{{ name = "well", text = "{well}" }}, {{ name = "sick", text = "{sick}" }}]
backbone = {{ source = "folder:{folder}", fingerprint = "{fingerprint}", dtype = "{dtype}" }}
{template}

[prompt]
rows = 2
public_records = 8
{prompt}

[privacy]
delta = 1e-4
sample_rate = 0.5
clip_norm = 1.0
noise_multiplier = 3.0

[plan]
rounds = 6
patients_per_round = 10.0
sites = ["North", "South"]
"""


def placed(layers: Any, rows: dict[int, Tensor], first: int | None, run: Callable[[], Any]) -> Any:
    """Run a model's own forward while hooks put rows (1, P, D) before its layers: inserted at layer `first`, else in place."""

    def hook(number: int, own: Tensor) -> Any:
        def put(_: Any, args: Any, kwargs: Any) -> Any:
            states = args[0] if number == first else args[0][:, own.shape[1] :]
            return (torch.cat([own, states], 1), *args[1:]), kwargs

        return layers[number].register_forward_pre_hook(put, with_kwargs=True)

    hooks = [hook(number, own) for number, own in rows.items()]
    try:
        return run()
    finally:
        for each in hooks:
            each.remove()


def cut(scorer: Scorer, rows: Tensor) -> dict[int, Tensor]:
    """Return the rows (1, P, D) of each layer that has some."""
    stop = scorer.backbone.depth if scorer.deep else scorer.layer + 1
    return {scorer.layer + n: own[None] for n, own in enumerate(rows.reshape(stop - scorer.layer, -1, scorer.shape.dim))}


def text_states(scorer: Scorer, texts: list[str], rows: Tensor) -> Tensor:
    """The last states (1, P+T, D) of rows and one text, by a BERT-like class."""
    backbone: Any = scorer.backbone
    model, own = backbone.model, cut(scorer, rows)
    words = model.embeddings.word_embeddings(backbone.tokenizer(texts, return_tensors="pt")["input_ids"])  # (1, T, D)
    if scorer.layer == 0:  # rows at the input get positions, as PEFT does it; later rows have none
        words = torch.cat([own.pop(0), words], 1)
    return placed(model.encoder.layer, own, scorer.layer or None, lambda: model(inputs_embeds=words).last_hidden_state)


def mean_of_text(scorer: Scorer, texts: list[str], rows: Tensor) -> Tensor:
    return text_states(scorer, texts, rows)[:, PROMPT_ROWS:].mean(1)


def pooler_of_text(scorer: Scorer, texts: list[str], rows: Tensor) -> Tensor:
    return scorer.backbone.model.pooler(text_states(scorer, texts, rows))


def image_states(layers: Callable[[Any], Any]) -> Callable[..., Tensor]:
    def states(scorer: Scorer, images: Any, rows: Tensor) -> Tensor:
        """The last states (1, T, D) of one image, by its class."""
        model, pixels = scorer.backbone.model, torch.from_numpy(images)
        out = placed(layers(model), cut(scorer, rows), scorer.layer, lambda: model(pixels).last_hidden_state)
        return out[:, PROMPT_ROWS:]

    return states


def vit_states(scorer: Scorer, images: Any, rows: Tensor) -> Tensor:
    return image_states(lambda model: model.layers)(scorer, images, rows)


@dataclass(frozen=True)
class Family:
    """How a family's tiny model is made and what its card says; `whole` gives the last states as the class itself does."""

    name: str
    make: Callable[[], Any]
    images: bool = False
    prompt: str = ""
    places: tuple[str, ...] = ("input", "late", "last", "deep", "deep-late")
    whole: Callable[[Scorer, Any, Tensor], Tensor] = mean_of_text

    def write(self, folder: Path) -> Path:
        torch.manual_seed(1)
        model = self.make()
        for weight in model.parameters():  # the classes start so small that nothing would matter
            weight.data += 0.1 * torch.randn(weight.shape)
        model.save_pretrained(folder)
        if not self.images:
            write_tokenizer(folder)
        return folder

    def task(self, folder: Path, prompt: str = "", dtype: str = "float32") -> Task:
        template = "" if self.images else 'template = { text = "age {age} pulse {pulse}" }'
        words = {"well": "", "sick": ""} if self.images else {"well": "age low pulse slow", "sick": "age high pulse fast"}
        lines = "\n".join(line for line in (self.prompt, prompt) if line)
        facts = words | {"folder": folder, "fingerprint": fingerprint(folder), "dtype": dtype}
        return Task.parse(CARD.format(template=template, prompt=lines, **facts), f"{self.name}.toml")

    def records(self) -> Any:
        if self.images:
            return np.random.default_rng(5).standard_normal((4, 2, 12, 12), dtype=np.float32)
        return TEXTS


def bert() -> Any:
    return hf.BertModel(hf.BertConfig(vocab_size=len(WORDS), max_position_embeddings=32, **SIZES))


def roberta() -> Any:
    return hf.RobertaModel(hf.RobertaConfig(vocab_size=len(WORDS), max_position_embeddings=32, pad_token_id=0, **SIZES))


def camembert() -> Any:
    return hf.CamembertModel(hf.CamembertConfig(vocab_size=len(WORDS), max_position_embeddings=32, pad_token_id=0, **SIZES))


def electra() -> Any:
    return hf.ElectraModel(hf.ElectraConfig(vocab_size=len(WORDS), embedding_size=16, max_position_embeddings=32, **SIZES))


def vit() -> Any:
    return hf.ViTModel(hf.ViTConfig(**IMAGE))


FAMILIES = [
    Family("bert", bert),
    Family("bert-pooler", bert, prompt='readout = "pooler"', whole=pooler_of_text),
    Family("roberta", roberta),
    Family("camembert", camembert),
    Family("electra", electra),
    Family("vit", vit, images=True, whole=lambda *a: vit_states(*a)[:, 0]),
    Family("vit-mean", vit, images=True, prompt='readout = "mean"', whole=lambda *a: vit_states(*a)[:, 1:].mean(1)),
]
