"""Layers one after the other, with prompt rows in front that enter once or anew in every layer.

Letters in shape comments: B records, T tokens, P prompt rows, n layers that have rows of their own, D hidden size.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor


def per_layer(rows: Tensor, dtype: torch.dtype) -> Tensor:
    """Return rows (B, P, D) or (B, n, P, D) as (B, n, P, D) in the model's dtype; n = 1 is a prompt that enters once."""
    return (rows if rows.dim() == 4 else rows.unsqueeze(1)).to(dtype)


def run(layers: Sequence[Any], states: Tensor, rows: Tensor, mask: Tensor | None, **more: Any) -> Tensor:
    """Return the states (B, P+T, D) of rows and records after `layers`.

    The first of the n rows enters before the first layer. Before each later layer of n, new rows take the place of what the old
    ones became: deep prompts (Liu et al. 2022, P-tuning v2; Jia et al. 2022, VPT-deep). With n = 1 the rows go through all layers.

    Args:
        layers: functions of states and an attention mask.
        states: the records' states (B, T, D) that enter the first layer.
        rows: (B, n, P, D), see `per_layer`.
        mask: additive attention mask over P+T tokens, or None where every token sees every other.
        more: further arguments of each layer.
    """
    states = torch.cat([rows[:, 0], states], dim=1)  # (B, P+T, D)
    for number, layer in enumerate(layers):
        if 0 < number < rows.shape[1]:
            states = torch.cat([rows[:, number], states[:, rows.shape[2] :]], dim=1)  # (B, P+T, D)
        states = layer(states, mask, **more)
    return states
