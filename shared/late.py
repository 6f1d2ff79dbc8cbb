"""The last encoder layer with prompt rows in front, computed for the text alone: the fast twin of `Backbone.above`'s loop.

What the rows themselves would become in the last layer is read by nobody, and the text's states below it are constants. So no
query is made for the rows, and no gradient flows into the text's queries, keys and values: a quarter less work. They can also be
made once for all steps (`widened`): a seventh less again, for four times the memory.
"""

from typing import Any

import torch
from torch import Tensor

from shared.attention import attend


def widened(layer: Any, text: Tensor) -> Tensor:
    """Return the text's states (B, T, D) with their query, key and value in a BERT layer behind them, (B, T, 4 D)."""
    attention = layer.attention.self
    return torch.cat([text, attention.query(text), attention.key(text), attention.value(text)], -1)


def last_layer(layer: Any, rows: Tensor, text: Tensor, blocked: Tensor) -> Tensor:
    """Return the text's states (B, T, D) after a BERT layer in which the text sees rows (B, P, D) and itself.

    Args:
        layer: a layer of the BERT family, in `eval()`.
        rows: prompt rows.
        text: the text's states that enter the layer, (B, T, D), or (B, T, 4 D) as `widened` makes them.
        blocked: additive mask (B, 1, 1, P+T), 0 or the smallest number.
    """
    attention = layer.attention.self

    def heads(states: Tensor) -> Tensor:
        cut = (attention.num_attention_heads, attention.attention_head_size)
        return states.view(*states.shape[:2], *cut).transpose(1, 2)  # (B, H, ., D/H)

    dim = rows.shape[-1]
    wide = text if text.shape[-1] > dim else widened(layer, text)  # (B, T, 4 D)
    states, query, own_key, own_value = torch.split(wide, dim, -1)  # (B, T, D) each
    key = torch.cat([heads(attention.key(rows)), heads(own_key)], 2)  # (B, H, P+T, D/H)
    value = torch.cat([heads(attention.value(rows)), heads(own_value)], 2)  # (B, H, P+T, D/H)
    mixed = attend(heads(query), key, value, blocked)  # (B, H, T, D/H)
    attended = layer.attention.output(mixed.transpose(1, 2).flatten(2), states)  # (B, T, D)
    return layer.feed_forward_chunk(attended)  # type: ignore[no-any-return]
