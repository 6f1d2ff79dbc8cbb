"""Attention in bfloat16 on a processor as plain products: torch's fused backward takes six times as long there.

Letters in shape comments: B records, H heads, Q queries, K keys, E size of a head.
"""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

NAME = "promptward"


def attend(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, scale: float | None = None) -> Tensor:
    """Return the attended values (B, H, Q, E) of queries (B, H, Q, E), and keys and values (B, H, K, E).

    Args:
        query: queries.
        key: keys.
        value: values.
        mask: additive, broadcast to (B, H, Q, K); None where every query sees every key.
        scale: of the products; None: 1 / sqrt(E).
    """
    if query.dtype == torch.bfloat16 and query.device.type == "cpu" and torch.is_grad_enabled():
        return products(query, key, value, mask, scale)
    return functional.scaled_dot_product_attention(query, key, value, attn_mask=mask, scale=scale)


def products(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, scale: float | None = None) -> Tensor:
    """Return the same as `attend`, as it is written in Vaswani et al. 2017, equation 1."""
    scores = (query * (query.shape[-1] ** -0.5 if scale is None else scale)) @ key.transpose(-1, -2)  # (B, H, Q, K)
    return (scores if mask is None else scores + mask).softmax(-1) @ value  # (B, H, Q, E)


def use(model: Any) -> Any:
    """Let a Hugging Face model attend by `attend`, and return it."""
    from transformers import AttentionInterface, AttentionMaskInterface  # noqa: PLC0415 (a second to import)
    from transformers.masking_utils import sdpa_mask  # noqa: PLC0415

    AttentionInterface.register(NAME, _interface)
    AttentionMaskInterface.register(NAME, sdpa_mask)
    model.set_attn_implementation(NAME)
    return model


def _interface(
    module: Any, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, scaling: float | None = None, **_: Any
) -> tuple[Tensor, None]:
    """Attend as Hugging Face's models call it; they want (B, Q, H, E)."""
    return attend(query, key, value, attention_mask, scaling).transpose(1, 2).contiguous(), None
