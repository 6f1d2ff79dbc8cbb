"""Texts become token numbers, padded on the right."""

from typing import Any

import torch
from torch import Tensor

from shared.backbones.protocol import Records
from shared.errors import InputError


def tokens_of(tokenizer: Any, records: Records, max_tokens: int) -> tuple[Tensor, Tensor]:
    """Return token numbers and mask, both (B, T), of texts cut to `max_tokens` tokens; `InputError` where they are no texts."""
    texts = list(records)
    if not all(isinstance(text, str) for text in texts):
        raise InputError("the card's backbone reads texts and the records are images; name text records, or an image model.")
    tokens = tokenizer(texts, padding=True, truncation=True, max_length=max_tokens, return_tensors="pt", return_attention_mask=True)
    return tokens["input_ids"], tokens["attention_mask"]


def load_tokenizer(folder: Any) -> Any:
    """Load the folder's tokenizer: no code of others, nothing fetched."""
    import transformers  # noqa: PLC0415 (a second to import)

    return transformers.AutoTokenizer.from_pretrained(folder, trust_remote_code=False, local_files_only=True)


def blocked(mask: Tensor, dtype: torch.dtype) -> Tensor:
    """Return the additive attention mask (B, 1, 1, T): 0 where a token is, the smallest number where padding is."""
    return torch.zeros_like(mask, dtype=dtype).masked_fill(mask == 0, torch.finfo(dtype).min)[:, None, None, :]
