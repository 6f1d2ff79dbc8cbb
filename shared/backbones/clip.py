"""The vision tower of CLIP (Radford et al. 2021), from a folder of both towers or of the one."""

from pathlib import Path
from typing import Any

from torch import Tensor

from shared.backbones.loading import Options, choose, load_model
from shared.backbones.protocol import Backbone, Readout
from shared.backbones.vision import Parts, Vision, public_images

MODEL_TYPES = ("clip", "clip_vision_model")
READOUTS: tuple[Readout, ...] = ("cls", "mean")


def load(folder: Path, config: Any, options: Options) -> Backbone:
    """Load the vision tower in `folder`."""
    import transformers  # noqa: PLC0415 (a second to import)

    readout, tower = choose(options, READOUTS), getattr(config, "vision_config", config)
    model = load_model(transformers.CLIPVisionModel, folder, tower, options)

    def embed(pixels: Tensor) -> Tensor:
        return model.pre_layrnorm(model.embeddings(pixels))  # type: ignore[no-any-return]

    parts = Parts(model.encoder.layers, embed, model.post_layernorm, leading=1)
    return Vision(model, parts, readout, public_images(folder, tower))
