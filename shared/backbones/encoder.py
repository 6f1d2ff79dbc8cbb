"""Text encoders of the BERT family, with the mean of the text's last states as their output.

Letters in shape comments: B records, T text tokens, P prompt rows, D hidden size, L encoder layers.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from shared import attention
from shared.backbones.layers import per_layer, run
from shared.backbones.loading import Options, choose, load_model
from shared.backbones.protocol import Backbone, Hidden, Readout, Records
from shared.backbones.text import blocked, load_tokenizer, tokens_of
from shared.errors import InputError
from shared.late import last_layer, widened

# Their positions count from the padding's number on.
SHIFTED = ("roberta", "xlm-roberta", "camembert")
MODEL_TYPES = ("bert", "roberta", "xlm-roberta", "camembert", "electra")
READOUTS: tuple[Readout, ...] = ("mean", "cls", "pooler")


@dataclass(frozen=True)
class Encoder:
    """A frozen encoder with its tokenizer."""

    model: Any
    tokenizer: Any
    max_tokens: int
    readout: Readout = "mean"

    public_images = None

    @property
    def body(self) -> Any:
        """The model without a head."""
        return self.model.base_model

    @property
    def cosine(self) -> bool:
        """BERT's pooler feeds a linear classifier; a mean is compared by its direction."""
        return self.readout != "pooler"

    @property
    def classifier(self) -> str | None:
        """BERT's classifier stands on its pooler."""
        return "classifier" if self.readout == "pooler" else None

    @property
    def dim(self) -> int:
        """The hidden size D."""
        return int(self.model.config.hidden_size)

    @property
    def layers(self) -> Sequence[Any]:
        """The L encoder layers."""
        return self.body.encoder.layer  # type: ignore[no-any-return]

    @property
    def depth(self) -> int:
        """The number L of encoder layers."""
        return len(self.layers)

    @property
    def word_vectors(self) -> Tensor:
        """The vocabulary's embeddings, (V, D)."""
        return self.body.embeddings.word_embeddings.weight.detach()  # type: ignore[no-any-return]

    def below(self, records: Records, layer: int, batch: int = 64) -> Hidden:
        """Return the hidden states (B, T, D) that enter encoder layer `layer`; 0 gives the bare word embeddings.

        A text is cut to `max_tokens` tokens. Every record is computed on its own tokens only (padding is masked).
        """
        if len(records) == 0:  # a hospital without patients is a hospital
            return Hidden(torch.zeros(0, 0, self.dim, device=self.model.device), torch.zeros(0, 0, dtype=torch.long))
        return self._read(*tokens_of(self.tokenizer, records, self.max_tokens), layer, batch)

    def prepared(self, hidden: Hidden, layer: int) -> Hidden:
        """Return the states with their query, key and value (B, T, 4 D) where the prompt enters the last layer."""
        if not self._late(layer) or self.readout == "pooler":
            return hidden
        states = hidden.states.new_empty(*hidden.states.shape[:2], 4 * self.dim)  # (B, T, 4 D)
        for new, old in zip(torch.split(states, 64), torch.split(hidden.states, 64), strict=True):
            new.copy_(widened(self.layers[layer], old))
        return replace(hidden, states=states)

    def above(self, hidden: Hidden, rows: Tensor, layer: int) -> Tensor:
        """Run the layers from `layer` on with prompt rows (B, P, D) in front; return the text's last states (B, T, D).

        At layer 0 the rows stand before the first token, as in PEFT's prompt tuning (Lester et al. 2021). Rows
        (B, L-layer, P, D) are new rows in every layer.
        """
        every = per_layer(rows, hidden.states.dtype)  # (B, n, P, D)
        if self._late(layer):
            mask = _with_rows(hidden.mask, every)
            return last_layer(self.body.encoder.layer[layer], every[:, 0], hidden.states, blocked(mask, every.dtype))
        return self._all(hidden, every, layer)[:, every.shape[2] :]

    def pooled(self, hidden: Hidden, rows: Tensor, layer: int) -> Tensor:
        """Return the mean of the text's last states (B, D); or its first token's; or the pooler's view of the first row."""
        if self.readout == "pooler":  # as PEFT's sequence classification: the pooler reads whatever stands first
            first = self._all(hidden, per_layer(rows, hidden.states.dtype), layer)[:, :1]  # (B, 1, D)
            return self.body.pooler(first).float()  # type: ignore[no-any-return]
        states = self.above(hidden, rows, layer).float()  # (B, T, D)
        if self.readout == "cls":
            return states[:, 0]
        weight = hidden.mask.unsqueeze(-1).float()  # (B, T, 1)
        return (states * weight).sum(1) / weight.sum(1)

    def own_states(self, text: str, layer: int) -> Tensor:
        """Return the states (n, D) of a text's tokens that enter `layer`, without the two special tokens."""
        hidden = self._read(*tokens_of(self.tokenizer, [text], self.max_tokens), layer)
        return hidden.states[0, 1 : int(hidden.mask.sum()) - 1].float()

    def label_words(self, words: Sequence[str]) -> tuple[Tensor, Tensor] | None:
        """Return nothing: a label starts as the embedding of its text."""
        return None

    @torch.no_grad()
    def _read(self, ids: Tensor, mask: Tensor, layer: int, batch: int = 64) -> Hidden:
        """Read texts of like length together; where a text has padding, its states are zero."""
        lengths, device = mask.sum(1), self.model.device  # (B,)
        states = self.word_vectors.new_zeros(*ids.shape, self.dim)  # (B, T, D)
        for index in torch.split(lengths.argsort(stable=True), batch):
            longest = int(lengths[index].max())
            read = self._lower(ids[index, :longest].to(device), mask[index, :longest].to(device), layer)  # (b, longest, D)
            states[index.to(device), :longest] = read
        return Hidden(states, mask)

    def _late(self, layer: int) -> bool:
        return layer == self.depth - 1 > 0

    def _lower(self, ids: Tensor, mask: Tensor, layer: int) -> Tensor:
        words = self.body.embeddings.word_embeddings(ids)  # (B, T, D)
        if layer == 0:
            return words  # type: ignore[no-any-return]
        states, closed = self._embed(words), blocked(mask, words.dtype)
        for each in self.body.encoder.layer[:layer]:
            states = each(states, closed)  # (B, T, D)
        return states

    def _all(self, hidden: Hidden, rows: Tensor, layer: int) -> Tensor:
        """Return the last states of rows and text, (B, P+T, D), for rows (B, n, P, D)."""
        states = hidden.states
        if layer == 0:
            states = self._embed(torch.cat([rows[:, 0], states], dim=1))  # (B, P+T, D)
            rows = torch.cat([states[:, : rows.shape[2]].unsqueeze(1), rows[:, 1:]], dim=1)
            states = states[:, rows.shape[2] :]
        return run(self.body.encoder.layer[layer:], states, rows, blocked(_with_rows(hidden.mask, rows), states.dtype))

    def _embed(self, words: Tensor) -> Tensor:
        """Add positions and token types: (B, T, D) -> (B, T, D)."""
        first = self.model.config.pad_token_id + 1 if self.model.config.model_type in SHIFTED else 0
        each = torch.arange(first, first + words.shape[1], device=words.device)  # (T,)
        positions = each.expand(len(words), -1)  # (B, T), whose gradients stay apart
        return self.body.embeddings(inputs_embeds=words, position_ids=positions)  # type: ignore[no-any-return]


def load(folder: Path, config: Any, options: Options) -> Backbone:
    """Load `folder` as an encoder of the BERT family."""
    import transformers  # noqa: PLC0415 (a second to import)

    readout = choose(options, READOUTS)
    spare = () if readout == "pooler" else ("pooler.",)
    model = load_model(transformers.AutoModel, folder, config, options, spare)
    if readout == "pooler" and (config.model_type != "bert" or model.pooler is None):
        raise InputError("[prompt] readout 'pooler' is BERT's own; choose mean or cls.")
    if hasattr(model, "embeddings_project"):
        raise InputError(
            f"{folder}: ELECTRA's small embeddings are not supported; use a model whose embedding_size is its hidden_size."
        )
    return Encoder(
        attention.use(model) if options.dtype == "bfloat16" else model, load_tokenizer(folder), options.max_tokens, readout
    )


def _with_rows(mask: Tensor, rows: Tensor) -> Tensor:
    """Return the mask (B, P+T) of rows and text."""
    return torch.cat([mask.new_ones(len(mask), rows.shape[2]), mask], dim=1)
