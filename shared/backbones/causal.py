"""Causal language models: labels are words that could come next. A family's own file says where its parts are.

Before the text, prompt rows are seen by all of it (Lester et al. 2021). After it, they are what the model reads last: the text
never sees them, so its keys and values are computed once and kept.
Letters in shape comments: B records, T text tokens, P prompt rows, D hidden size, L layers, K key heads, W their width.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor

from shared.backbones.layers import per_layer, run
from shared.backbones.protocol import Hidden, Position, Records
from shared.backbones.text import load_tokenizer, numbers_of, padded, word_rows

Pair = tuple[Tensor, Tensor]


@dataclass(frozen=True)
class Kept:
    """Keys and values (B, K, T, W) of a text by layer number, in the place of Hugging Face's cache; no prompt changes them."""

    pairs: dict[int, Pair] = field(default_factory=dict)
    collect: bool = False

    def update(self, keys: Tensor, values: Tensor, layer: int, *_: Any, **__: Any) -> Pair:
        """Return what a layer attends to: the kept keys and values, then its own."""
        if self.collect:
            self.pairs[layer] = keys, values
            return keys, values
        old = self.pairs[layer]
        return torch.cat([old[0], keys], 2), torch.cat([old[1], values], 2)


@dataclass(frozen=True)
class Parts:
    """Where a family keeps what the adapter needs.

    Attributes:
        layers: the L layers.
        words: token numbers (B, T) to embeddings (B, T, D).
        place: adds positions (1 or B, T) to embeddings; families with rotary positions add nothing.
        angles: states and positions to what every layer needs of positions.
        step: layer, states, mask, angles and kept keys to the next states.
        norm: the last norm.
        key_heads: the number K.
    """

    layers: Sequence[Any]
    words: Callable[[Tensor], Tensor]
    place: Callable[[Tensor, Tensor], Tensor]
    angles: Callable[[Tensor, Tensor], Any]
    step: Callable[[Any, Tensor, Tensor, Any, Kept | None], Tensor]
    norm: Callable[[Tensor], Tensor]
    key_heads: int


@dataclass(frozen=True)
class Causal:
    """A frozen causal language model with its tokenizer."""

    model: Any
    tokenizer: Any
    max_tokens: int
    position: Position
    parts: Parts

    public_images = None
    cosine = False  # the output layer takes scalar products
    classifier = "score"

    @property
    def dim(self) -> int:
        """The hidden size D."""
        return int(self.model.config.hidden_size)

    @property
    def layers(self) -> Sequence[Any]:
        """The L layers."""
        return self.parts.layers

    @property
    def depth(self) -> int:
        """The number L of layers."""
        return len(self.layers)

    @property
    def word_vectors(self) -> Tensor:
        """The vocabulary's embeddings, (V, D)."""
        return self.model.get_input_embeddings().weight.detach()  # type: ignore[no-any-return]

    def below(self, records: Records, layer: int, batch: int = 64) -> Hidden:
        """Return the states (B, T, D) that enter layer `layer`, 0 giving the bare word embeddings; or, for a prompt after the
        text, its keys and values (B, T, F) in the layers from `layer` on.

        A text that is too long loses its beginning, because the question is at its end.
        """
        if len(records) == 0:  # a hospital without patients is a hospital
            return Hidden(torch.zeros(0, 0, self.dim, device=self.model.device), torch.zeros(0, 0, dtype=torch.long))
        ids, mask = padded(numbers_of(self.tokenizer, records, self.max_tokens))  # (B, T)
        read = self._lower if self.position == "before" else self._keys
        return Hidden(torch.cat([read(piece.to(self.model.device), layer) for piece in torch.split(ids, batch)]), mask)

    def prepared(self, hidden: Hidden, layer: int) -> Hidden:
        """Return the states as they are."""
        return hidden

    def above(self, hidden: Hidden, rows: Tensor, layer: int) -> Tensor:
        """Run the layers from `layer` on; return the text's last states (B, T, D), or for a prompt after it the rows' (B, P, D)."""
        every = per_layer(rows, hidden.states.dtype)  # (B, n, P, D)
        return self._before(hidden, every, layer) if self.position == "before" else self._after(hidden, every, layer)

    def pooled(self, hidden: Hidden, rows: Tensor, layer: int) -> Tensor:
        """Return the state that the next word is read from, (B, D)."""
        states = self.above(hidden, rows, layer)  # (B, T or P, D)
        if self.position == "after":
            return states[:, -1].float()
        return states[torch.arange(len(states), device=states.device), hidden.mask.sum(1) - 1].float()

    def own_states(self, text: str, layer: int) -> Tensor:
        """Return the states (n, D) of a text's own tokens that enter `layer`."""
        ids = self.tokenizer(text, add_special_tokens=False)["input_ids"]
        if not ids:
            return torch.zeros(0, self.dim)
        return self._lower(torch.tensor([ids]).to(self.model.device), layer)[0].float()

    def label_words(self, words: Sequence[str]) -> Pair:
        """Return the words' output embeddings (L, D) and biases (L,); a word of several tokens has their mean."""
        return word_rows(self.tokenizer, self.model.get_output_embeddings(), words)

    @torch.no_grad()
    def _lower(self, ids: Tensor, layer: int) -> Tensor:
        """Return the states (B, T, D) that enter `layer`. Padding is on the right, where no token of the text looks."""
        states = self.parts.words(ids)  # (B, T, D)
        return states if layer == 0 else self._through(states, self.parts.layers[:layer], None)

    @torch.no_grad()
    def _keys(self, ids: Tensor, layer: int) -> Tensor:
        """Return keys and values of the text in the layers from `layer` on, as (B, T, n * 2 * K * W)."""
        kept = Kept(collect=True)
        self._through(self.parts.words(ids), self.parts.layers, kept)
        pairs = [torch.stack(kept.pairs[number], 2) for number in range(layer, self.depth)]  # each (B, K, 2, T, W)
        return torch.stack(pairs, 1).permute(0, 4, 1, 3, 2, 5).flatten(2)

    def _through(self, words: Tensor, layers: Sequence[Any], kept: Kept | None) -> Tensor:
        positions = torch.arange(words.shape[1], device=words.device).unsqueeze(0)  # (1, T)
        states = self.parts.place(words, positions)  # (B, T, D)
        seen, angles = _causal(0, words.shape[1], words), self.parts.angles(states, positions)
        for layer in layers:
            states = self.parts.step(layer, states, seen, angles, kept)
        return states

    def _before(self, hidden: Hidden, rows: Tensor, layer: int) -> Tensor:
        count, states = rows.shape[2], hidden.states
        positions = torch.arange(count + states.shape[1], device=states.device).unsqueeze(0)  # (1, P+T)
        if layer == 0:
            rows = torch.cat([self.parts.place(rows[:, 0], positions[:, :count]).unsqueeze(1), rows[:, 1:]], 1)
            states = self.parts.place(states, positions[:, count:])  # (B, T, D)
        seen = _causal(0, count + states.shape[1], states)
        states = run(self._steps(layer, states, positions, None), states, rows, seen)  # (B, P+T, D)
        return self.parts.norm(states[:, count:])

    def _after(self, hidden: Hidden, rows: Tensor, layer: int) -> Tensor:
        count, length = rows.shape[2], hidden.mask.shape[1]
        positions = hidden.mask.sum(1, keepdim=True) + torch.arange(count, device=rows.device)  # (B, P)
        if layer == 0:
            rows = torch.cat([self.parts.place(rows[:, 0], positions).unsqueeze(1), rows[:, 1:]], 1)
        flat = hidden.states.reshape(
            *hidden.mask.shape, self.depth - layer, 2, self.parts.key_heads, self._width(hidden, layer)
        )  # (B, T, n, 2, K, W)
        kept = Kept({layer + n: (pair[0], pair[1]) for n, pair in enumerate(flat.permute(2, 3, 0, 4, 1, 5))})  # (B, K, T, W)
        closed = torch.finfo(rows.dtype).min
        seen = _causal(length, count, rows).repeat(len(rows), 1, 1, 1)  # (B, 1, P, T+P)
        seen[..., :length] = seen[..., :length].masked_fill(hidden.mask[:, None, None] == 0, closed)
        nothing = rows.new_zeros(len(rows), 0, self.dim)
        return self.parts.norm(run(self._steps(layer, nothing, positions, kept), nothing, rows, seen))  # (B, P, D)

    def _width(self, hidden: Hidden, layer: int) -> int:
        return hidden.states.shape[2] // (2 * self.parts.key_heads * (self.depth - layer))

    def _steps(self, layer: int, states: Tensor, positions: Tensor, kept: Kept | None) -> list[Callable[[Tensor, Tensor], Tensor]]:
        angles = self.parts.angles(states, positions)

        def step(each: Any, now: Tensor, seen: Tensor) -> Tensor:
            return self.parts.step(each, now, seen, angles, kept)

        return [partial(step, each) for each in self.parts.layers[layer:]]


def causal_tokenizer(folder: Any) -> Any:
    """Load a tokenizer that cuts long texts at their beginning."""
    tokenizer = load_tokenizer(folder)
    tokenizer.truncation_side = "left"
    return tokenizer


def _causal(earlier: int, count: int, like: Tensor) -> Tensor:
    """Return the additive mask (1, 1, count, earlier + count) with which a token sees all earlier ones and those up to itself.

    Dtype and device are those of `like`.
    """
    closed = like.new_full((count, earlier + count), torch.finfo(like.dtype).min)
    return closed.triu(earlier + 1)[None, None]
