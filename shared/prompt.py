"""The prompt: one float32 tensor of shape ``(rows + labels, dim)``, the only thing that is trained and that moves.

Its first rows stand before the text at the card's layer (Lester et al. 2021; Liu et al. 2022 for a later layer); the last
rows, one per label, score the pooled output (a soft verbalizer). Initial values come from public facts only.
"""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from shared.backbone import Backbone
from shared.errors import InputError

Array = NDArray[np.float32]


@dataclass(frozen=True)
class PromptShape:
    """How the one tensor is cut.

    >>> PromptShape(rows=1, labels=2, dim=384).nbytes
    4608
    """

    rows: int
    labels: int
    dim: int

    @property
    def shape(self) -> tuple[int, int]:
        """The tensor's shape ``(rows + labels, dim)``."""
        return (self.rows + self.labels, self.dim)

    @property
    def nbytes(self) -> int:
        """The tensor's size in bytes as float32."""
        return (self.rows + self.labels) * self.dim * 4

    def split(self, prompt: Tensor) -> tuple[Tensor, Tensor]:
        """Cut ``(..., rows + labels, dim)`` into prompt rows and label rows."""
        return prompt[..., : self.rows, :], prompt[..., self.rows :, :]


def initial_rows(backbone: Backbone, count: int, layer: int, init: str) -> Tensor:
    """Return the starting prompt rows ``(count, dim)``, the same on every machine.

    Args:
        backbone: gives the embeddings.
        count: number of rows.
        layer: the layer at which they will stand; `text:` rows are that text's own hidden states there.
        init: `text:SOME WORDS` (tiled or cut to `count`), `vocabulary` (evenly spaced entries of `vocabulary`),
            or `random` (normal with the vocabulary's standard deviation, fixed public seed).

    Raises:
        InputError: the text gives no token.
    """
    if count == 0:
        return torch.zeros(0, backbone.dim)
    if init.startswith("text:"):
        states = backbone.own_states(init.removeprefix("text:"), layer).cpu()  # (n, D)
        if len(states) == 0:
            raise InputError(f"[prompt] init '{init}' gives no token; write words after 'text:'.")
        return states.repeat(count // len(states) + 1, 1)[:count]  # (P, D)
    words = vocabulary(backbone, layer)  # (V, D)
    if init == "vocabulary":
        return words[torch.linspace(len(words) // 20, len(words) - 1, count).long()].clone()
    return random_rows(count, backbone.dim) * words.std()


def vocabulary(backbone: Backbone, layer: int) -> Tensor:
    """Return public vectors (V, D) among which rows start: the words' embeddings, or the tokens of public images at `layer`."""
    if backbone.word_vectors is not None:
        return backbone.word_vectors.float().cpu()
    assert backbone.public_images is not None  # noqa: S101 (a model reads texts or images)
    return backbone.below(backbone.public_images.images[:4], layer).states.float().flatten(0, 1).cpu()  # (4 T, D)


def random_rows(count: int, dim: int) -> Tensor:
    """Return standard normal rows (count, dim), the same on every machine: a public constant, not a source of noise."""
    return torch.randn(count, dim, generator=torch.Generator().manual_seed(0))
