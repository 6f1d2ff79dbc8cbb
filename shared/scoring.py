"""From hidden states and a prompt to label scores, and the gradient of each record's loss for the prompt.

Letters in shape comments: B records, T tokens, P prompt rows, L labels, D hidden size.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from shared.backbone import Backbone, Hidden, load_backbone
from shared.card import TaskCard
from shared.errors import InputError
from shared.prompt import Array, PromptShape, initial_rows
from shared.reuse import PREFIX, trained_start


@dataclass(frozen=True)
class Scorer:
    """Scores records with a prompt on a frozen backbone.

    logits = scale * z · w_label / |w_label|, with z the mean of the text's last states, minus `centre`, normalised.
    Every record is scored by itself: nothing couples the records of a batch.
    """

    backbone: Backbone
    shape: PromptShape
    layer: int
    scale: float
    centre: Tensor  # (D,) from public records only
    fixed_labels: Tensor | None = None  # (L, D) where the prompt has no label rows

    @property
    def labels(self) -> int:
        """The number of labels."""
        return self.shape.labels if self.fixed_labels is None else len(self.fixed_labels)

    def read(self, texts: list[str]) -> Hidden:
        """Return the hidden states below the prompt's layer: computed once, kept in memory."""
        return self.backbone.below(texts, self.layer)

    def logits(self, hidden: Hidden, prompt: Tensor) -> Tensor:
        """Return label scores (B, L) for a prompt (P+L, D), or one prompt per record (B, P+L, D)."""
        per_record = prompt if prompt.dim() == 3 else prompt.expand(len(hidden), -1, -1)  # (B, P+L, D)
        rows, label_rows = self.shape.split(per_record)  # (B, P, D), (B, L, D)
        if self.fixed_labels is not None:
            label_rows = self.fixed_labels.expand(len(hidden), -1, -1)
        z = functional.normalize(self.pooled(hidden, rows) - self.centre, dim=-1)  # (B, D)
        return self.scale * torch.einsum("bd,bld->bl", z, functional.normalize(label_rows, dim=-1))  # (B, L)

    def pooled(self, hidden: Hidden, rows: Tensor) -> Tensor:
        """Return the mean of the text's last states (B, D) as float32."""
        states = self.backbone.above(hidden, rows, self.layer).float()  # (B, T, D)
        weight = hidden.mask.unsqueeze(-1).float()  # (B, T, 1)
        return (states * weight).sum(1) / weight.sum(1)

    @torch.no_grad()
    def embed(self, texts: list[str], rows: Tensor, batch: int = 256) -> Tensor:
        """Return the pooled output (B, D) of texts with the same prompt rows (P, D) in front of each."""
        hidden = self.read(texts)
        pieces = [hidden[piece] for piece in pieces_of(hidden, batch)]
        return torch.cat([self.pooled(piece, rows.expand(len(piece), -1, -1)) for piece in pieces])

    @torch.no_grad()
    def probabilities(self, hidden: Hidden, prompt: Tensor, batch: int = 256) -> Tensor:
        """Return label probabilities (B, L) without gradients."""
        if len(hidden) == 0:
            return torch.zeros(0, self.labels)
        return torch.cat([self.logits(hidden[piece], prompt) for piece in pieces_of(hidden, batch)]).softmax(-1)

    def record_gradients(self, hidden: Hidden, labels: Tensor, prompt: Tensor, batch: int = 128) -> Tensor:
        """Return the gradient of each record's own cross-entropy for the prompt, (B, P+L, D).

        The prompt is expanded per record; the gradient for the expanded tensor *is* the per-record gradient. The losses
        are summed, never averaged over the batch, so that no record's gradient depends on another record.
        """
        pieces = [self._gradients(hidden[i], labels[i], prompt) for i in pieces_of(hidden, batch)]
        return torch.cat(pieces) if pieces else torch.zeros(0, *self.shape.shape)

    def _gradients(self, hidden: Hidden, labels: Tensor, prompt: Tensor) -> Tensor:
        expanded = prompt.detach().expand(len(hidden), -1, -1).clone().requires_grad_()  # (B, P+L, D)
        loss = functional.cross_entropy(self.logits(hidden, expanded), labels, reduction="sum")
        return torch.autograd.grad(loss, expanded)[0]


def pieces_of(hidden: Hidden, batch: int) -> list[Tensor]:
    """Return the record indices cut into pieces of at most `batch`; no records give no piece."""
    return [piece for piece in torch.split(torch.arange(len(hidden)), batch) if len(piece)]


def build(card: TaskCard) -> tuple[Scorer, Array]:
    """Return the card's scorer and its initial prompt (P+L, D), from public facts only: the same on every machine.

    The pooled output is centred on the mean of records drawn from the template at random. A label row starts as the
    centred, normalised embedding of the label's text, unless the card starts from a trained prompt (`shared.reuse`).

    Raises:
        InputError: the backbone is not there or not the pinned one, or the card's layer is deeper than the backbone.
    """
    backbone = load_backbone(card.backbone.source, card.backbone.fingerprint, card.backbone.dtype, card.backbone.max_tokens)
    layer = card.prompt.layer
    if layer >= backbone.depth:
        raise InputError(f"[prompt] layer {layer} is too deep: the backbone has layers 0 to {backbone.depth - 1}.")
    labels = len(card.labels) if card.prompt.label_rows else 0
    shape = PromptShape(card.prompt.rows, labels, backbone.dim)
    start = trained_start(card) if card.prompt.init.startswith(PREFIX) else None
    rows = start.rows if start else initial_rows(backbone, shape.rows, layer, card.prompt.init)  # (P, D)
    bare = Scorer(backbone, shape, layer, card.prompt.scale, torch.zeros(backbone.dim))
    centre = bare.embed(public_records(card), rows).mean(0)  # (D,)
    texts = [label.text for label in card.labels]
    label_rows = functional.normalize(bare.embed(texts, rows) - centre, dim=-1)  # (L, D)
    scorer = Scorer(backbone, shape, layer, card.prompt.scale, centre, None if labels else label_rows)
    first = label_rows[:labels] if start is None or start.label_rows is None else start.label_rows
    return scorer, torch.cat([rows, first]).numpy()


def public_records(card: TaskCard) -> list[str]:
    """Return the card's made-up records: the same on every machine, of nobody."""
    public = np.random.default_rng(0)  # a public constant: every party draws the same made-up records
    return [card.record_text.draw(lambda n: int(public.integers(n))) for _ in range(card.prompt.public_records)]
