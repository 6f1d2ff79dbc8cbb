"""ViT (Dosovitskiy et al. 2021)."""

from pathlib import Path
from typing import Any

from shared.backbones.loading import Options, choose, load_model
from shared.backbones.protocol import Backbone, Readout
from shared.backbones.vision import Parts, Vision, public_images

MODEL_TYPES = ("vit",)
READOUTS: tuple[Readout, ...] = ("cls", "mean")


def load(folder: Path, config: Any, options: Options) -> Backbone:
    """Load `folder` as a ViT, without the pooler that few tasks were trained with."""
    import transformers  # noqa: PLC0415 (a second to import)

    readout = choose(options, READOUTS)
    model = load_model(transformers.ViTModel, folder, config, options, add_pooling_layer=False)
    parts = Parts(model.layers, model.embeddings, model.layernorm, leading=1)
    return Vision(model, parts, readout, public_images(folder, config))
