"""Masked language models with a verbalizer: the template has one [MASK], and labels are words that could stand there.

Schick and Schuetze 2021 fix the words; here a label's row starts as its word's output embedding and is trained (a soft verbalizer).
Letters in shape comments: B records, T text tokens, P prompt rows, L labels, D hidden size, V words.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from shared.backbones.encoder import Encoder
from shared.backbones.loading import Options, choose, load_model
from shared.backbones.protocol import Backbone, Hidden, Readout, Records
from shared.backbones.text import load_tokenizer, tokens_of, word_rows
from shared.errors import InputError

MODEL_TYPES = ("bert", "roberta", "xlm-roberta", "camembert")
READOUTS: tuple[Readout, ...] = ("mask",)
MASK = "[MASK]"  # as cards and records write it, whatever the tokenizer's own mark is


@dataclass(frozen=True)
class Masked(Encoder):
    """An encoder that is read out at the masked word, through the first half of its language head."""

    @property
    def cosine(self) -> bool:
        """The output layer takes scalar products."""
        return False

    def below(self, records: Records, layer: int, batch: int = 64) -> Hidden:
        """Return the states (B, T, D) that enter `layer`, and where each text's mask is.

        A text that is too long loses its beginning, because the question is at its end.

        Raises:
            InputError: a text does not have one [MASK].
        """
        if len(records) == 0:
            return super().below(records, layer)
        texts = [text.replace(MASK, self.tokenizer.mask_token) if isinstance(text, str) else text for text in records]
        ids, mask = tokens_of(self.tokenizer, texts, self.max_tokens)  # (B, T)
        asked = ids == self.tokenizer.mask_token_id  # (B, T)
        if (asked.sum(1) != 1).any():
            raise InputError(
                f"a text does not have one {MASK} among its last {self.max_tokens} tokens; "
                f"end [template] text with a question such as 'The patient is {MASK}.'"
            )
        return replace(self._read(ids, mask, layer, batch), at=asked.long().argmax(1))

    def pooled(self, hidden: Hidden, rows: Tensor, layer: int) -> Tensor:
        """Return what the output layer gets at the mask, (B, D)."""
        states = self.above(hidden, rows, layer)  # (B, T, D)
        return _transform(self.model, states[torch.arange(len(states), device=states.device), hidden.at]).float()

    def label_words(self, words: Sequence[str]) -> tuple[Tensor, Tensor]:
        """Return the words' output embeddings (L, D) and biases (L,); a word of several tokens has their mean."""
        return word_rows(self.tokenizer, self.model.get_output_embeddings(), words)


def load(folder: Path, config: Any, options: Options) -> Backbone:
    """Load `folder` as a masked language model; `InputError` where it was not trained as one."""
    import transformers  # noqa: PLC0415 (a second to import)

    readout = choose(options, READOUTS)
    model = load_model(transformers.AutoModelForMaskedLM, folder, config, options)
    tokenizer = load_tokenizer(folder)
    if tokenizer.mask_token is None:
        raise InputError(f"{folder}: the tokenizer has no mask token, so no word can be asked for; choose another readout.")
    tokenizer.truncation_side = "left"
    return Masked(model, tokenizer, options.max_tokens, readout)


def _transform(model: Any, states: Tensor) -> Tensor:
    """Return what the language head makes of states (B, D) before its output embeddings.

    BERT's is a module; RoBERTa's is written out in its head's forward.
    """
    if hasattr(model, "cls"):
        return model.cls.predictions.transform(states)  # type: ignore[no-any-return]
    head = model.lm_head
    return head.layer_norm(functional.gelu(head.dense(states)))  # type: ignore[no-any-return]
