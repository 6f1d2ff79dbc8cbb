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

    F is the hidden size; for a text that stands before its prompt the width of its cached keys and values; four times the hidden
    size where the last layer was `prepared`.
    ``at (B,)`` is the token that is read out, where the text says which.
    Where a record is longer than the model reads, each of its windows (`shared.windows`) has a place along the first axis, and
    ``windows (B,)`` counts them; None: every record has one.
    From `below`, states are on the model's device, and the rest, which picks and counts, in this machine's memory.
    They are computed from patients' records: keep them in memory, never in a message, a log or a file.
    """

    states: Tensor
    mask: Tensor
    at: Tensor | None = None
    windows: Tensor | None = None

    def __len__(self) -> int:
        """Return the number of records."""
        return len(self.states if self.windows is None else self.windows)

    def __getitem__(self, index: Tensor) -> "Hidden":
        """Return the records at `index`, cut to the longest of them."""
        windows = None if self.windows is None else self.windows[index]  # (b,)
        places = index if windows is None else self._places(index, windows)  # (w,)
        mask = self.mask[places]  # (w, T)
        longest = int(mask.sum(1).max()) if len(mask) else 0
        at = None if self.at is None else self.at[places]  # (w,)
        return Hidden(self.states[places, :longest], mask[:, :longest], at, _unless_single(windows))

    def part(self, start: int, stop: int) -> "Hidden":
        """Return records `start` to `stop`, as long as they are padded: a view, not a copy."""
        windows = None if self.windows is None else self.windows[start:stop]  # (b,)
        if self.windows is not None:
            start, stop = int(self.windows[:start].sum()), int(self.windows[:stop].sum())
        at = None if self.at is None else self.at[start:stop]  # (w,)
        return Hidden(self.states[start:stop], self.mask[start:stop], at, _unless_single(windows))

    @staticmethod
    def together(parts: "Sequence[Hidden]") -> "Hidden":
        """Return the records of all parts, which are padded to one length; what `part` cut is not copied."""
        at = [part.at for part in parts if part.at is not None]
        states, mask = _joined([part.states for part in parts]), torch.cat([part.mask for part in parts])
        windows = torch.cat([part.counts for part in parts])
        return Hidden(states, mask, torch.cat(at) if at else None, _unless_single(windows))

    def to(self, device: torch.device) -> "Hidden":
        """Return the same with every part on a device, as the layers above take it."""
        at, windows = (None if part is None else part.to(device) for part in (self.at, self.windows))
        return Hidden(self.states.to(device), self.mask.to(device), at, windows)

    @property
    def counts(self) -> Tensor:
        """The number of each record's windows (B,)."""
        return self.mask.new_ones(len(self.states), dtype=torch.long) if self.windows is None else self.windows

    @property
    def widest(self) -> int:
        """The most windows of a record."""
        return 1 if self.windows is None or len(self.windows) == 0 else int(self.windows.max())

    @property
    def lengths(self) -> Tensor:
        """The tokens in the longest window of each record (B,)."""
        each = self.mask.sum(1)  # (W,)
        return each if self.windows is None else each.new_zeros(len(self)).scatter_reduce(0, self.owner, each, "amax")

    @property
    def owner(self) -> Tensor:
        """The record that each window belongs to (W,)."""
        return torch.repeat_interleave(torch.arange(len(self), device=self.mask.device), self.counts)

    @property
    def apart(self) -> "Hidden":
        """Every window as a record of its own."""
        return Hidden(self.states, self.mask, self.at)

    def averaged(self, scores: Tensor) -> Tensor:
        """Return the mean (B, L) over each record's windows of scores (W, L)."""
        summed = scores.new_zeros(len(self), scores.shape[1]).index_add(0, self.owner, scores)
        return summed / self.counts.unsqueeze(1)

    def _places(self, index: Tensor, windows: Tensor) -> Tensor:
        """Return where the windows (w,) of the records at `index` are, record after record; `windows` are their counts (b,)."""
        before = self.counts.cumsum(0) - self.counts  # (B,)
        new = windows.cumsum(0) - windows  # (b,)
        return torch.repeat_interleave(before[index] - new, windows) + torch.arange(int(windows.sum()))


def _joined(parts: Sequence[Tensor]) -> Tensor:
    """Return parts (b, ...) one behind the other, (B, ...): a view where they lie so in memory, else a copy."""
    first, *later = kept = [part for part in parts if len(part)] or [parts[0]]
    if first.device.type not in ("cpu", "cuda"):  # where memory may have no addresses
        return torch.cat(kept)
    ends = [part.data_ptr() + part.nbytes for part in kept]
    behind = all(part.is_contiguous() and part.data_ptr() == end for part, end in zip(later, ends, strict=False))
    same = all(part.untyped_storage().data_ptr() == first.untyped_storage().data_ptr() for part in later)
    if not (first.is_contiguous() and behind and same):
        return torch.cat(kept)
    return first.as_strided((sum(len(part) for part in kept), *first.shape[1:]), first.stride())


def _unless_single(windows: Tensor | None) -> Tensor | None:
    """Return the counts, or None where each record has one window, so that texts that fit are computed as ever."""
    return None if windows is None or bool((windows == 1).all()) else windows


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
    def tokenizer(self) -> Any:
        """Hugging Face's tokenizer, cuts texts into tokens; None where records are images."""

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

    def prepared(self, hidden: Hidden, layer: int) -> Hidden:
        """Return the states of `below` with whatever else above them knows no prompt: for more memory, less work in `above`."""

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
