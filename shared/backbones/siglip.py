"""The vision tower of SigLIP (Zhai et al. 2023), from a folder of both towers or of the one."""

from pathlib import Path
from typing import Any

from shared.backbones.loading import Options, choose, load_model
from shared.backbones.protocol import Backbone, Readout
from shared.backbones.vision import Parts, Vision, public_images

MODEL_TYPES = ("siglip", "siglip_vision_model")
READOUTS: tuple[Readout, ...] = ("head", "mean")


def load(folder: Path, config: Any, options: Options) -> Backbone:
    """Load the vision tower in `folder`; it has no class token, and pools by attention where it has a head."""
    import transformers  # noqa: PLC0415 (a second to import)

    tower = getattr(config, "vision_config", config)
    readout = choose(options, READOUTS if tower.vision_use_head else ("mean",))
    model = load_model(transformers.SiglipVisionModel, folder, tower, options)
    head = model.head if tower.vision_use_head else None
    parts = Parts(model.encoder.layers, model.embeddings, model.post_layernorm, leading=0, head=head)
    return Vision(model, parts, readout, public_images(folder, tower))
