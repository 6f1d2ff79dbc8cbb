"""GPT-2 (Radford et al. 2019): learned positions, added at the input."""

from pathlib import Path
from typing import Any

from torch import Tensor

from shared.backbones.causal import Causal, Kept, Parts, causal_tokenizer
from shared.backbones.loading import Options, choose, load_model
from shared.backbones.protocol import Backbone, Readout

MODEL_TYPES = ("gpt2",)
READOUTS: tuple[Readout, ...] = ("last",)


def load(folder: Path, config: Any, options: Options) -> Backbone:
    """Load `folder` as a GPT-2 with its output layer."""
    import transformers  # noqa: PLC0415 (a second to import)

    choose(options, READOUTS, after=True)
    model = load_model(transformers.GPT2LMHeadModel, folder, config, options)
    body = model.transformer

    def place(words: Tensor, positions: Tensor) -> Tensor:
        return words + body.wpe(positions)  # type: ignore[no-any-return]

    def step(layer: Any, states: Tensor, seen: Tensor, _: Any, kept: Kept | None) -> Tensor:
        return layer(states, past_key_values=kept, attention_mask=seen)  # type: ignore[no-any-return]

    def angles(states: Tensor, positions: Tensor) -> None:
        return None

    parts = Parts(body.h, body.wte, place, angles, step, body.ln_f, config.num_attention_heads)
    return Causal(model, causal_tokenizer(folder), options.max_tokens, options.position, parts)
