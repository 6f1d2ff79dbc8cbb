"""Llama and Qwen (Touvron et al. 2023; Yang et al. 2024): rotary positions, fewer key heads than query heads."""

from pathlib import Path
from typing import Any

from torch import Tensor

from shared.backbones.causal import Causal, Kept, Parts, causal_tokenizer
from shared.backbones.loading import Options, choose, load_model
from shared.backbones.protocol import Backbone, Readout
from shared.errors import InputError

MODEL_TYPES = ("llama", "qwen2", "qwen3")
READOUTS: tuple[Readout, ...] = ("last",)


def load(folder: Path, config: Any, options: Options) -> Backbone:
    """Load `folder` as a Llama or Qwen with its output layer; `InputError` where a layer sees only a window of the text."""
    import transformers  # noqa: PLC0415 (a second to import)

    choose(options, READOUTS, after=True)
    if "sliding_attention" in (getattr(config, "layer_types", None) or ()):
        raise InputError(f"{folder}: a model with sliding attention is not supported; use one whose layers see the whole text.")
    model = load_model(transformers.AutoModelForCausalLM, folder, config, options)
    body = model.model

    def place(words: Tensor, positions: Tensor) -> Tensor:
        return words

    def angles(states: Tensor, positions: Tensor) -> Any:
        return body.rotary_emb(states, position_ids=positions)

    def step(layer: Any, states: Tensor, seen: Tensor, turned: Any, kept: Kept | None) -> Tensor:
        return layer(states, attention_mask=seen, position_embeddings=turned, past_key_values=kept)  # type: ignore[no-any-return]

    parts = Parts(body.layers, body.embed_tokens, place, angles, step, body.norm, config.num_key_value_heads)
    return Causal(model, causal_tokenizer(folder), options.max_tokens, options.position, parts)
