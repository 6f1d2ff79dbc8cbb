"""The last encoder layer with prompt rows in front, computed for the text alone: the fast twin of `Backbone.above`'s loop.

What the rows themselves would become in the last layer is read by nobody, and the text's states below it are constants. So no
query is made for the rows, and no gradient flows into the text's queries, keys and values: a quarter less work.
"""

from typing import Any

import torch
from torch import Tensor

from shared.attention import attend


def last_layer(layer: Any, rows: Tensor, text: Tensor, blocked: Tensor) -> Tensor:
    """Return the text's states (B, T, D) after a BERT layer in which the text sees rows (B, P, D) and itself.

    Args:
        layer: a layer of the BERT family, in `eval()`.
        rows: prompt rows.
        text: the text's states (B, T, D) that enter the layer.
        blocked: additive mask (B, 1, 1, P+T), 0 or the smallest number.
    """
    attention = layer.attention.self

    def heads(states: Tensor) -> Tensor:
        cut = (attention.num_attention_heads, attention.attention_head_size)
        return states.view(*states.shape[:2], *cut).transpose(1, 2)  # (B, H, ., D/H)

    query = heads(attention.query(text))  # (B, H, T, D/H)
    key = torch.cat([heads(attention.key(rows)), heads(attention.key(text))], 2)  # (B, H, P+T, D/H)
    value = torch.cat([heads(attention.value(rows)), heads(attention.value(text))], 2)  # (B, H, P+T, D/H)
    mixed = attend(query, key, value, blocked)  # (B, H, T, D/H)
    attended = layer.attention.output(mixed.transpose(1, 2).flatten(2), text)  # (B, T, D)
    return layer.feed_forward_chunk(attended)  # type: ignore[no-any-return]
