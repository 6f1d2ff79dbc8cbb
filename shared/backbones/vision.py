"""Vision transformers: what ViT, DINOv2, CLIP's and SigLIP's vision towers share. A family's own file says where its parts are.

Prompt rows stand in front of the class token and the patches, after positions were added, and have none (Jia et al. 2022).
Letters in shape comments: B images, T class token and patches, P prompt rows, D hidden size, L layers.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from shared.backbones.layers import per_layer, run
from shared.backbones.protocol import Hidden, Images, PublicImages, Readout, Records
from shared.errors import InputError

PUBLIC = "public_images.npz"  # beside the weights, covered by the fingerprint
NOISE = 256  # made-up images where the folder has no public ones


@dataclass(frozen=True)
class Parts:
    """Where a family keeps what the adapter needs.

    Attributes:
        layers: the L layers, each a function of states (B, T, D) and an attention mask.
        embed: pixels (B, C, H, W) to the states (B, T, D) that enter the first layer.
        finish: the last norm, (B, T, D) to (B, T, D).
        leading: tokens before the patches: 1 with a class token, else 0.
        head: attention pooling (B, T, D) -> (B, D), where the family has it.
        any_size: the model interpolates positions, so that other image sizes fit.
    """

    layers: Sequence[Any]
    embed: Callable[[Tensor], Tensor]
    finish: Callable[[Tensor], Tensor]
    leading: int
    head: Callable[[Tensor], Tensor] | None = None
    any_size: bool = False


@dataclass(frozen=True)
class Vision:
    """A frozen vision transformer; records are images (B, C, H, W), normalised."""

    model: Any
    parts: Parts
    readout: Readout
    public_images: PublicImages
    cosine: bool = True

    @property
    def classifier(self) -> None:
        """PEFT has no prompts for images."""

    @property
    def dim(self) -> int:
        """The hidden size D."""
        return int(self.model.config.hidden_size)

    @property
    def layers(self) -> Sequence[Any]:
        """The L layers."""
        return self.parts.layers

    @property
    def depth(self) -> int:
        """The number L of layers."""
        return len(self.layers)

    @property
    def tokenizer(self) -> None:
        """Images have no tokens to cut at."""

    @property
    def word_vectors(self) -> None:
        """Images have no vocabulary."""

    @torch.no_grad()
    def below(self, records: Records, layer: int, batch: int = 64) -> Hidden:
        """Return the states (B, T, D) that enter layer `layer`; 0 gives patches with their positions.

        Raises:
            InputError: the records are texts, or their shape is not the model's.
        """
        if len(records) == 0:  # a hospital without patients is a hospital
            return Hidden(torch.zeros(0, 0, self.dim, device=self.model.device), torch.zeros(0, 0, dtype=torch.long))
        pixels = torch.from_numpy(self._checked(records)).to(self.model.dtype)  # (B, C, H, W)
        states = torch.cat([self._lower(piece.to(self.model.device), layer) for piece in torch.split(pixels, batch)])  # (B, T, D)
        return Hidden(states, torch.ones(states.shape[:2], dtype=torch.long))

    def prepared(self, hidden: Hidden, layer: int) -> Hidden:
        """Return the states as they are."""
        return hidden

    def above(self, hidden: Hidden, rows: Tensor, layer: int) -> Tensor:
        """Run the layers from `layer` on with rows in front; return the image's states (B, T, D) after the last norm."""
        every = per_layer(rows, hidden.states.dtype)  # (B, n, P, D)
        states = run(self.parts.layers[layer:], hidden.states, every, None)  # (B, P+T, D)
        return self.parts.finish(states[:, every.shape[2] :])

    def pooled(self, hidden: Hidden, rows: Tensor, layer: int) -> Tensor:
        """Return the class token, the mean of the patches, or what the family's attention pooling makes of all, (B, D)."""
        states = self.above(hidden, rows, layer)  # (B, T, D)
        if self.readout == "head" and self.parts.head is not None:
            return self.parts.head(states).float()
        return (states[:, 0] if self.readout == "cls" else states[:, self.parts.leading :].float().mean(1)).float()

    def own_states(self, text: str, layer: int) -> Tensor:
        """Refuse: an image model reads no text."""
        raise InputError(f"[prompt] init 'text:{text}' needs a model that reads text; choose vocabulary or random.")

    def label_words(self, words: Sequence[str]) -> None:
        """Return nothing: an image model knows no words."""

    def _lower(self, pixels: Tensor, layer: int) -> Tensor:
        states = self.parts.embed(pixels)  # (B, T, D)
        for each in self.parts.layers[:layer]:
            states = each(states, None)
        return states

    def _checked(self, records: Records) -> Images:
        if not isinstance(records, np.ndarray):
            raise InputError("the card's backbone reads images and the records are texts; name image records, or a text model.")
        config, shape = self.model.config, records.shape[1:]
        channels, size, patch = config.num_channels, _pair(config.image_size), _pair(config.patch_size)
        fits = (
            records.ndim == 4
            and shape[0] == channels
            and (
                shape[1:] == size or (self.parts.any_size and all(side % p == 0 for side, p in zip(shape[1:], patch, strict=True)))
            )
        )
        if not fits:
            raise InputError(
                f"images of shape {shape} do not fit the backbone, which takes {(channels, *size)} "
                "as channels, height, width; resize them in the card."
            )
        return np.ascontiguousarray(records, dtype=np.float32)


def public_images(folder: Path, config: Any) -> PublicImages:
    """Return the folder's `public_images.npz` (arrays `images` and, if known, `labels`), or else images of pure noise.

    Raises:
        InputError: the file is not such a file.
    """
    path = folder / PUBLIC
    if not path.is_file():
        public = np.random.default_rng(0)  # a public constant: every party draws the same noise
        shape = (NOISE, config.num_channels, *_pair(config.image_size))
        return PublicImages(public.standard_normal(shape, dtype=np.float32), ("",) * NOISE)
    try:
        with np.load(path, allow_pickle=False) as arrays:
            images = np.asarray(arrays["images"], dtype=np.float32)
            labels = tuple(str(name) for name in arrays["labels"]) if "labels" in arrays else ("",) * len(images)
    except (OSError, ValueError, KeyError) as error:
        raise InputError(f"{path}: not an .npz with an array 'images' ({error}); write it with numpy.savez.") from None
    if images.ndim != 4 or len(images) == 0 or len(labels) != len(images):
        raise InputError(
            f"{path}: 'images' has shape {images.shape} and 'labels' {len(labels)} names; give (N, C, H, W) and N names."
        )
    return PublicImages(images, labels)


def _pair(size: Any) -> tuple[int, int]:
    height, width = size if isinstance(size, (list, tuple)) else (size, size)
    return int(height), int(width)
