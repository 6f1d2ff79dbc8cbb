"""DINOv2 (Oquab et al. 2023), without registers."""

from pathlib import Path
from typing import Any

from shared.backbones.loading import Options, choose, load_model
from shared.backbones.protocol import Backbone, Readout
from shared.backbones.vision import Parts, Vision, public_images

MODEL_TYPES = ("dinov2",)
READOUTS: tuple[Readout, ...] = ("cls", "mean")


def load(folder: Path, config: Any, options: Options) -> Backbone:
    """Load `folder` as a DINOv2; it takes images of other sizes, as long as patches fill them."""
    import transformers  # noqa: PLC0415 (a second to import)

    readout = choose(options, READOUTS)
    # The token that stood for hidden patches in pre-training is left out of some files, and no image here has one.
    model = load_model(transformers.Dinov2Model, folder, config, options, spare=("embeddings.mask_token",))
    parts = Parts(model.encoder.layer, model.embeddings, model.layernorm, leading=1, any_size=True)
    return Vision(model, parts, readout, public_images(folder, config))
