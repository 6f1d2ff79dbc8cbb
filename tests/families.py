"""Tiny random models of the real Hugging Face classes, one a family, with the card that uses them."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers as hf
from tokenizers.pre_tokenizers import ByteLevel
from torch import Tensor

from shared.backbone import fingerprint
from shared.card import Task
from shared.scoring import Scorer
from tests.conftest import WORDS as PLAIN
from tests.conftest import write_tokenizer

WORDS = [*PLAIN, "[MASK]"]
SIZES = {"hidden_size": 16, "num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 32}
IMAGE = SIZES | {"image_size": 12, "patch_size": 4, "num_channels": 2}
INPUT, LATE, LAST, DEEP = "layer = 0", "layer = 1", "layer = 2", "deep = true"
OWN_LOOP = ("bert", "bert-mask", "gpt2", "llama", "vit")
PROMPT_ROWS = 2  # of the cards, in each layer that has some
TEXTS = ["age low pulse fast", "age high", "age middle pulse slow is a sick the low", "pulse missing"]

CARD = """
schema = 1
name = "tiny"
title = "A tiny task"
labels = [{{ name = "well", text = "{well}" }}, {{ name = "sick", text = "{sick}" }}]
backbone = {{ source = "folder:{folder}", fingerprint = "{fingerprint}", dtype = "{dtype}", max_tokens = {tokens} }}
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


vit_states = image_states(lambda model: model.layers)
dinov2_states = image_states(lambda model: model.encoder.layer)
tower_states = image_states(lambda model: model.encoder.layers)


def clip_output(scorer: Scorer, images: Any, rows: Tensor) -> Tensor:
    """CLIP's pooler output is the normed class token."""
    return scorer.backbone.model.post_layernorm(tower_states(scorer, images, rows)[:, 0])


def siglip_output(scorer: Scorer, images: Any, rows: Tensor) -> Tensor:
    return scorer.backbone.model.head(tower_states(scorer, images, rows))


def before_norm(head: Any, run: Callable[[], Any]) -> Tensor:
    """Return what enters an output layer (1, T, D) while a model runs."""
    seen: list[Tensor] = []
    hook = head.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    run()
    hook.remove()
    return seen[0]


def masked_word(scorer: Scorer, texts: list[str], rows: Tensor) -> Tensor:
    """What BERT's own output layer gets at the mask."""
    backbone: Any = scorer.backbone
    model, own = backbone.model, cut(scorer, rows)
    ids = backbone.tokenizer([text.replace("[MASK]", backbone.tokenizer.mask_token) for text in texts], return_tensors="pt")[
        "input_ids"
    ]
    words = model.get_input_embeddings()(ids)  # (1, T, D)
    if scorer.layer == 0:
        words = torch.cat([own.pop(0), words], 1)
    layers = model.base_model.encoder.layer
    out = before_norm(
        model.get_output_embeddings(), lambda: placed(layers, own, scorer.layer or None, lambda: model(inputs_embeds=words))
    )
    return out[:, PROMPT_ROWS + int((ids[0] == backbone.tokenizer.mask_token_id).nonzero())]


def next_word(scorer: Scorer, texts: list[str], rows: Tensor) -> Tensor:
    """What a causal model's own output layer gets last. Below the prompt's layer, places are kept for it that nobody sees."""
    backbone: Any = scorer.backbone
    model, own = backbone.model, cut(scorer, rows)
    words = model.get_input_embeddings()(backbone.tokenizer(texts, return_tensors="pt")["input_ids"])  # (1, T, D)
    length, after = words.shape[1], backbone.position == "after"
    where = slice(length, length + PROMPT_ROWS) if after else slice(0, PROMPT_ROWS)
    first = own.get(0, torch.zeros(1, PROMPT_ROWS, words.shape[2]))
    both = torch.cat([words, first] if after else [first, words], 1)  # (1, P+T, D)
    seen = torch.ones(both.shape[1], both.shape[1]).tril()
    hidden = seen.clone()
    hidden[:, where] = torch.eye(both.shape[1])[:, where]  # a place sees itself, so that its softmax exists
    places = torch.arange(both.shape[1])
    if scorer.layer > 0 and not after and hasattr(model, "transformer"):  # positions were added to the text below the prompt
        places = places - PROMPT_ROWS * (places >= PROMPT_ROWS)

    def hook(number: int) -> Any:
        def put(_: Any, args: Any, kwargs: Any) -> Any:
            states = args[0].clone()
            if number in own and number > 0:
                states[:, where] = own[number]
            mask = seen if number >= scorer.layer else hidden
            closed = torch.zeros_like(mask).masked_fill(mask == 0, torch.finfo(torch.float32).min)[None, None]
            if len(args) > 1:  # GPT-2 gives its cache and its mask by place
                return (states, args[1], closed, *args[3:]), kwargs
            return (states,), kwargs | {"attention_mask": closed}

        return put

    layers = getattr(model.base_model, "layers", None) or model.base_model.h
    hooks = [layer.register_forward_pre_hook(hook(number), with_kwargs=True) for number, layer in enumerate(layers)]
    out = before_norm(model.get_output_embeddings(), lambda: model(inputs_embeds=both, position_ids=places[None]))
    for each in hooks:
        each.remove()
    return out[:, -1]


def write_bytes(folder: Path) -> None:
    """Write a tokenizer of bytes, of the class that Qwen's models ask for."""
    alphabet = sorted(ByteLevel.alphabet())
    hf.Qwen2Tokenizer(
        vocab={letter: number for number, letter in enumerate([*alphabet, "<|endoftext|>"])}, merges=[]
    ).save_pretrained(folder)


@dataclass(frozen=True)
class Family:
    """How a family's tiny model is made and what its card says; `whole` gives the last states as the class itself does."""

    name: str
    make: Callable[[], Any]
    images: bool = False
    prompt: str = ""
    bytes: bool = False  # tokens are bytes, as in Qwen's tokenizer
    whole: Callable[[Scorer, Any, Tensor], Tensor] = mean_of_text

    def write(self, folder: Path) -> Path:
        torch.manual_seed(1)
        model = self.make()
        for weight in model.parameters():  # the classes start so small that nothing would matter
            weight.data += 0.1 * torch.randn(weight.shape)
        model.save_pretrained(folder)
        if not self.images:
            write_bytes(folder) if self.bytes else write_tokenizer(folder, WORDS, mask_token="[MASK]")
        return folder

    @property
    def places(self) -> tuple[str, ...]:
        """Where the prompt can stand; families that share an adapter show only that it gets their parts."""
        if self.prompt == AFTER:
            return INPUT, LATE, LAST
        return (INPUT, LATE, LAST, DEEP, f"{LATE}\n{DEEP}") if self.name in OWN_LOOP else (LATE, DEEP)

    @property
    def masked(self) -> bool:
        return self.prompt == MASK

    def task(self, folder: Path, prompt: str = "", dtype: str = "float32") -> Task:
        end = " is [MASK]" if self.masked else ""
        template = "" if self.images else f'template = {{ text = "age {{age}} pulse {{pulse}}{end}" }}'
        words = {"well": "", "sick": ""} if self.images else {"well": "low", "sick": "high slow"}
        lines = "\n".join(line for line in (self.prompt, prompt) if line)
        facts = words | {"folder": folder, "fingerprint": fingerprint(folder), "dtype": dtype}
        facts |= {"tokens": 128 if self.bytes else 28}  # a byte each, or a word
        return Task.parse(CARD.format(template=template, prompt=lines, **facts), f"{self.name}.toml")

    def records(self) -> Any:
        if self.images:
            return np.random.default_rng(5).standard_normal((4, 2, 12, 12), dtype=np.float32)
        return [text + " is [MASK]" for text in TEXTS] if self.masked else TEXTS


def bert() -> Any:
    return hf.BertModel(hf.BertConfig(vocab_size=len(WORDS), max_position_embeddings=32, **SIZES))


def roberta() -> Any:
    return hf.RobertaModel(hf.RobertaConfig(vocab_size=len(WORDS), max_position_embeddings=32, pad_token_id=0, **SIZES))


def camembert() -> Any:
    return hf.CamembertModel(hf.CamembertConfig(vocab_size=len(WORDS), max_position_embeddings=32, pad_token_id=0, **SIZES))


def electra() -> Any:
    return hf.ElectraModel(hf.ElectraConfig(vocab_size=len(WORDS), embedding_size=16, max_position_embeddings=32, **SIZES))


def bert_lm() -> Any:
    return hf.BertForMaskedLM(hf.BertConfig(vocab_size=len(WORDS), max_position_embeddings=32, **SIZES))


def roberta_lm() -> Any:
    return hf.RobertaForMaskedLM(hf.RobertaConfig(vocab_size=len(WORDS), max_position_embeddings=32, pad_token_id=0, **SIZES))


def gpt2() -> Any:
    return hf.GPT2LMHeadModel(hf.GPT2Config(vocab_size=len(WORDS), n_embd=16, n_layer=3, n_head=2, n_positions=32))


GROUPED = SIZES | {"num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": len(WORDS)}


def llama() -> Any:
    return hf.LlamaForCausalLM(hf.LlamaConfig(**GROUPED))


def qwen2() -> Any:
    return hf.Qwen2ForCausalLM(hf.Qwen2Config(**GROUPED | {"vocab_size": 260}, tie_word_embeddings=True))


def qwen3() -> Any:
    return hf.Qwen3ForCausalLM(hf.Qwen3Config(**GROUPED, head_dim=8))


def dinov2() -> Any:
    return hf.Dinov2Model(hf.Dinov2Config(**SIZES | {"image_size": 12, "patch_size": 4, "num_channels": 2, "mlp_ratio": 2}))


def clip_tower() -> Any:
    return hf.CLIPVisionModel(hf.CLIPVisionConfig(**IMAGE))


def clip_both() -> Any:
    text = SIZES | {"vocab_size": len(WORDS), "max_position_embeddings": 32}
    return hf.CLIPModel(hf.CLIPConfig(text_config=text, vision_config=IMAGE, projection_dim=16))


def siglip_tower() -> Any:
    return hf.SiglipVisionModel(hf.SiglipVisionConfig(**IMAGE))


def siglip_both() -> Any:
    text = SIZES | {"vocab_size": len(WORDS), "max_position_embeddings": 32}
    return hf.SiglipModel(hf.SiglipConfig(text_config=text, vision_config=IMAGE))


def vit() -> Any:
    return hf.ViTModel(hf.ViTConfig(**IMAGE))


MASK, AFTER = 'readout = "mask"', 'position = "after"'
FAMILIES = [
    Family("bert", bert),
    Family("bert-pooler", bert, prompt='readout = "pooler"', whole=pooler_of_text),
    Family("roberta", roberta),
    Family("camembert", camembert),
    Family("electra", electra),
    Family("bert-mask", bert_lm, prompt=MASK, whole=masked_word),
    Family("roberta-mask", roberta_lm, prompt=MASK, whole=masked_word),
    Family("gpt2", gpt2, whole=next_word),
    Family("gpt2-after", gpt2, prompt=AFTER, whole=next_word),
    Family("llama", llama, whole=next_word),
    Family("llama-after", llama, prompt=AFTER, whole=next_word),
    Family("qwen2", qwen2, bytes=True, whole=next_word),
    Family("qwen3-after", qwen3, prompt=AFTER, whole=next_word),
    Family("vit", vit, images=True, whole=lambda *a: vit_states(*a)[:, 0]),
    Family("vit-mean", vit, images=True, prompt='readout = "mean"', whole=lambda *a: vit_states(*a)[:, 1:].mean(1)),
    Family("dinov2", dinov2, images=True, whole=lambda *a: dinov2_states(*a)[:, 0]),
    Family("clip", clip_tower, images=True, whole=clip_output),
    Family("clip-both-towers", clip_both, images=True, whole=clip_output),
    Family("siglip", siglip_tower, images=True, whole=siglip_output),
    Family("siglip-both-towers", siglip_both, images=True, whole=siglip_output),
]
