"""Texts become token numbers, padded on the right."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from shared.backbones.protocol import Records
from shared.errors import InputError


def tokens_of(tokenizer: Any, records: Records, max_tokens: int) -> tuple[Tensor, Tensor]:
    """Return token numbers and mask, both (B, T), of texts cut to `max_tokens` tokens; `InputError` where they are no texts."""
    tokens = tokenizer(
        texts_of(records), padding=True, truncation=True, max_length=max_tokens, return_tensors="pt", return_attention_mask=True
    )
    return tokens["input_ids"], tokens["attention_mask"]


def numbers_of(tokenizer: Any, records: Records, max_tokens: int) -> list[list[int]]:
    """Return each text's token numbers, at least one: a text without tokens is the token that ends texts."""
    found = tokenizer(texts_of(records), truncation=True, max_length=max_tokens)["input_ids"]
    end = tokenizer.eos_token_id if tokenizer.eos_token_id is not None else 0
    return [numbers or [end] for numbers in found]


def padded(numbers: list[list[int]]) -> tuple[Tensor, Tensor]:
    """Return token numbers and mask, both (B, T), padded on the right with token 0, which nobody looks at."""
    lengths = torch.tensor([len(own) for own in numbers])
    mask = (torch.arange(int(lengths.max())) < lengths.unsqueeze(1)).long()  # (B, T)
    ids = torch.zeros_like(mask)
    ids[mask == 1] = torch.tensor([number for own in numbers for number in own])
    return ids, mask


def texts_of(records: Records) -> list[str]:
    """Return the records, or raise `InputError` where they are no texts."""
    texts = list(records)
    if not all(isinstance(text, str) for text in texts):
        raise InputError("the card's backbone reads texts and the records are images; name text records, or an image model.")
    return texts


def word_rows(tokenizer: Any, output: Any, words: Sequence[str]) -> tuple[Tensor, Tensor]:
    """Return output embeddings (L, D) and biases (L,) of label words, as float32.

    A word is taken as it stands in a sentence, after a space. One of several tokens has their mean, which is what its
    tokens' scores have in the mean.

    Args:
        tokenizer: cuts words into tokens.
        output: the output layer, a linear map from D to the vocabulary, with or without bias.
        words: one a label.
    """
    tokens = [torch.tensor(_tokens(tokenizer, word)) for word in words]
    rows = torch.stack([output.weight.detach()[own].float().mean(0) for own in tokens]).cpu()  # (L, D)
    if output.bias is None:
        return rows, torch.zeros(len(tokens))
    return rows, torch.stack([output.bias.detach()[own].float().mean() for own in tokens]).cpu()


def _tokens(tokenizer: Any, word: str) -> list[int]:
    """Return a word's token numbers. Some tokenizers put the space before it themselves: the shorter way is theirs."""
    ways = [tokenizer(said, add_special_tokens=False)["input_ids"] for said in (f" {word}", word)]
    found: list[int] = min(ways, key=len)
    if not found:
        raise InputError(f"the label word '{word}' gives no token; give the label another text.")
    return found


def load_tokenizer(folder: Any) -> Any:
    """Load the folder's tokenizer: no code of others, nothing fetched."""
    import transformers  # noqa: PLC0415 (a second to import)

    return transformers.AutoTokenizer.from_pretrained(folder, trust_remote_code=False, local_files_only=True)


def blocked(mask: Tensor, dtype: torch.dtype) -> Tensor:
    """Return the additive attention mask (B, 1, 1, T): 0 where a token is, the smallest number where padding is."""
    return torch.zeros_like(mask, dtype=dtype).masked_fill(mask == 0, torch.finfo(dtype).min)[:, None, None, :]
