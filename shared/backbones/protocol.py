"""What every frozen model must offer, whatever its family: the states below the prompt, and what the prompt makes of them.

Letters in shape comments: B records, T tokens, P prompt rows, D hidden size, L layers, C H W channels, height, width of images.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Images = NDArray[np.float32]  # (B, C, H, W), already normalised as the model wants it
Records = Sequence[str] | Images
Readout = Literal["mean", "cls", "pooler", "mask", "last", "head"]
Position = Literal["before", "after"]


@dataclass(frozen=True)
class Hidden:
    """What is known of records below the prompt's layer: ``states (B, T, F)`` and ``mask (B, T)`` of real tokens.

    F is the hidden size, or for a text that stands before its prompt the width of its cached keys and values.
    ``at (B,)`` is the token that is read out, where the text says which.
    They are computed from patients' records: keep them in memory, never in a message, a log or a file.
    """

    states: Tensor
    mask: Tensor
    at: Tensor | None = None

    def __len__(self) -> int:
        """Return the number of records."""
        return len(self.states)

    def __getitem__(self, index: Tensor) -> "Hidden":
        """Return the records at `index`, cut to the longest of them."""
        mask = self.mask[index]  # (b, T)
        longest = int(mask.sum(1).max()) if len(mask) else 0
        at = None if self.at is None else self.at[index]  # (b,)
        return Hidden(self.states[index, :longest], mask[:, :longest], at)

    def part(self, start: int, stop: int) -> "Hidden":
        """Return records `start` to `stop`, as long as they are padded: a view, not a copy."""
        at = None if self.at is None else self.at[start:stop]  # (b,)
        return Hidden(self.states[start:stop], self.mask[start:stop], at)

    @staticmethod
    def together(parts: "Sequence[Hidden]") -> "Hidden":
        """Return the records of all parts, which are padded to one length."""
        at = [part.at for part in parts if part.at is not None]
        states, mask = torch.cat([part.states for part in parts]), torch.cat([part.mask for part in parts])
        return Hidden(states, mask, torch.cat(at) if at else None)


@dataclass(frozen=True)
class PublicImages:
    """Images that are no patient's, or whose patients gave them to everybody: they centre the output and start the rows.

    Attributes:
        images: (N, C, H, W), normalised.
        labels: the name of each image's label, empty where it is not known.
    """

    images: Images
    labels: tuple[str, ...]


class Backbone(Protocol):
    """A frozen model, cut at a layer. `shared.backbone.load_backbone` makes one; docs/backbones.md says how to add a family."""

    @property
    def model(self) -> Any:
        """The Hugging Face model, in `eval()`, without gradients."""

    @property
    def dim(self) -> int:
        """The hidden size D."""

    @property
    def depth(self) -> int:
        """The number L of layers."""

    @property
    def layers(self) -> Sequence[Any]:
        """The L layers, modules of `model`."""

    @property
    def word_vectors(self) -> Tensor | None:
        """The vocabulary's embeddings (V, D); None where records are images."""

    @property
    def public_images(self) -> PublicImages | None:
        """Public images where records are images; None where they are texts."""

    @property
    def cosine(self) -> bool:
        """True: a label row scores by the cosine with the centred output. False: by the scalar product, as an output layer does."""

    @property
    def classifier(self) -> str | None:
        """PEFT's name for the linear layer whose weights label rows are, where its sequence classification scores as we do."""

    def below(self, records: Records, layer: int, batch: int = 64) -> Hidden:
        """Return what enters layer `layer`; every record is computed by itself (padding is masked)."""

    def above(self, hidden: Hidden, rows: Tensor, layer: int) -> Tensor:
        """Run the layers from `layer` on with prompt rows; return the records' last states (B, T, D), without the rows'.

        Args:
            hidden: from `below` with the same layer.
            rows: (B, P, D), or for rows in every layer from `layer` on (B, L-layer, P, D).
            layer: where the first rows enter.
        """

    def pooled(self, hidden: Hidden, rows: Tensor, layer: int) -> Tensor:
        """Return the one vector of each record that labels are scored on, (B, D) as float32."""

    def own_states(self, text: str, layer: int) -> Tensor:
        """Return the states (n, D) of a text's own tokens that enter `layer`, without special tokens; `InputError` for images."""

    def label_words(self, words: Sequence[str]) -> tuple[Tensor, Tensor] | None:
        """Return output embeddings (L, D) and biases (L,) of label words; None where labels are embedded as records are."""


def weights_of(model: Any) -> int:
    """Return the number of weights of a model; tied ones count once."""
    return sum(p.numel() for p in model.parameters())
