"""The part of a suggested task card that says how records are read: the model, where the prompt stands, template or image."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from client.suggest import Field
from shared.backbone import fingerprint, load_backbone, locate
from shared.errors import InputError

TOKENS = 128  # of a record, where the model has as many positions
HALF = 0.5  # mean and standard deviation where the model's folder does not say


def reads_fields(source: str, title: str, fields: Sequence[Field]) -> dict[str, Any]:
    """Return `[backbone]`, `[prompt]` and `[template]` of a card whose sentences hold these fields."""
    text = " ".join(f"{field.name.replace('_', ' ')} {{{field.name}}}" for field in fields)
    return reads_sentences(source, title, {"text": text, "fields": {field.name: field.table for field in fields if field.table}})


def reads_sentences(source: str, title: str, template: Mapping[str, Any]) -> dict[str, Any]:
    """Return `[backbone]`, `[prompt]` and `[template]` of a card with this template."""
    model = locate(source)
    config = json.loads((model / "config.json").read_text())
    if "num_hidden_layers" not in config or "vocab_size" not in config:
        raise InputError(f"--backbone {source}: this model reads no text; name one that does.")
    depth, positions = int(config["num_hidden_layers"]), int(config.get("max_position_embeddings", TOKENS))
    return {
        "backbone": {"source": source, "fingerprint": fingerprint(model), "max_tokens": min(TOKENS, positions)},
        "prompt": {"rows": 4, "layer": depth - 1, "init": f"text:{title}"},
        "template": dict(template),
    }


def reads_images(source: str) -> tuple[dict[str, Any], str]:
    """Return `[backbone]`, `[prompt]` and `[image]` for an image model, and a sentence on where mean and deviation come from.

    Raises `InputError` where the model reads text, or takes images that are not square or have other than 1 or 3 channels.
    """
    folder = locate(source)
    found = fingerprint(folder)
    backbone = load_backbone(source, found)
    if backbone.public_images is None:
        raise InputError(f"--backbone {source}: this model reads text; name a vision transformer, see docs/backbones.md.")
    config = backbone.model.config
    size, channels = config.image_size, int(config.num_channels)
    if isinstance(size, Sequence):
        if len(set(size)) > 1:
            raise InputError(f"--backbone {source}: it takes images of {tuple(size)}; a card's images are square.")
        size = size[0]
    if channels not in (1, 3):
        raise InputError(f"--backbone {source}: it takes {channels} channels; a card's images have 1 or 3.")
    (mean, std), told = _scale(folder, channels)
    image = {"size": int(size), "channels": channels, "mean": mean, "std": std}
    card = {
        "backbone": {"source": source, "fingerprint": found},
        "prompt": {"rows": 4, "layer": backbone.depth - 1, "init": "random"},
        "image": image,
    }
    return card, told


def _scale(folder: Path, channels: int) -> tuple[tuple[list[float], list[float]], str]:
    path = folder / "preprocessor_config.json"
    try:
        said = json.loads(path.read_text(encoding="utf-8"))
        mean, std = ([float(x) for x in said[key]] for key in ("image_mean", "image_std"))
    except (OSError, ValueError, KeyError, TypeError):
        mean, std = [], []
    if len(mean) == len(std) == channels:
        return (mean, std), "[image] mean and std are those of the model's preprocessor_config.json."
    return ([HALF] * channels, [HALF] * channels), "[image] mean and std are 0.5: the model's folder does not say; check them."
