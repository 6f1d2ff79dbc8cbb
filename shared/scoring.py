"""From hidden states and a prompt to label scores, and the gradient of each record's loss for the prompt.

Letters in shape comments: B records, T tokens, P prompt rows, L labels, D hidden size.
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from shared.backbone import Backbone, Hidden
from shared.prompt import PromptShape


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

    def read(self, texts: list[str]) -> Hidden:
        """Return the hidden states below the prompt's layer: computed once, kept in memory."""
        return self.backbone.below(texts, self.layer)

    def logits(self, hidden: Hidden, prompt: Tensor) -> Tensor:
        """Return label scores (B, L) for a prompt (P+L, D), or one prompt per record (B, P+L, D)."""
        per_record = prompt if prompt.dim() == 3 else prompt.expand(len(hidden), -1, -1)  # (B, P+L, D)
        rows, label_rows = self.shape.split(per_record)  # (B, P, D), (B, L, D)
        z = functional.normalize(self.pooled(hidden, rows) - self.centre, dim=-1)  # (B, D)
        return self.scale * torch.einsum("bd,bld->bl", z, functional.normalize(label_rows, dim=-1))  # (B, L)

    def pooled(self, hidden: Hidden, rows: Tensor) -> Tensor:
        """Return the mean of the text's last states (B, D) as float32."""
        states = self.backbone.above(hidden, rows, self.layer).float()  # (B, T, D)
        weight = hidden.mask.unsqueeze(-1).float()  # (B, T, 1)
        return (states * weight).sum(1) / weight.sum(1)

    @torch.no_grad()
    def probabilities(self, hidden: Hidden, prompt: Tensor, batch: int = 256) -> Tensor:
        """Return label probabilities (B, L) without gradients."""
        if len(hidden) == 0:
            return torch.zeros(0, self.shape.labels)
        pieces = torch.arange(len(hidden)).split(batch)
        return torch.cat([self.logits(hidden[piece], prompt) for piece in pieces]).softmax(-1)

    def record_gradients(self, hidden: Hidden, labels: Tensor, prompt: Tensor, batch: int = 128) -> Tensor:
        """Return the gradient of each record's own cross-entropy for the prompt, (B, P+L, D).

        The prompt is expanded per record; the gradient for the expanded tensor *is* the per-record gradient. The losses
        are summed, never averaged over the batch, so that no record's gradient depends on another record.
        """
        pieces = [self._gradients(hidden[i], labels[i], prompt) for i in torch.arange(len(hidden)).split(batch) if len(i)]
        return torch.cat(pieces) if pieces else torch.zeros(0, *self.shape.shape)

    def _gradients(self, hidden: Hidden, labels: Tensor, prompt: Tensor) -> Tensor:
        expanded = prompt.detach().expand(len(hidden), -1, -1).clone().requires_grad_()  # (B, P+L, D)
        loss = functional.cross_entropy(self.logits(hidden, expanded), labels, reduction="sum")
        return torch.autograd.grad(loss, expanded)[0]
