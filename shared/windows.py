"""A text longer than the model reads becomes several windows, which overlap and together hold every word of it.

Where windows begin and end follows from the text's tokens and the card alone, never from labels or other records.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from shared.errors import InputError

ENDLESS = 2**31  # windows: as many as a text takes
Place = tuple[int, int]  # of a window, in tokens: the first, and the one after the last


@dataclass(frozen=True)
class Windows:
    """What a card says of long texts.

    Attributes:
        most: windows of one text; of a longer one that many are read, evenly spaced from its beginning to its end.
        overlap: tokens that neighbours share at least, but for those of a word that a border would cut in two.
        max_tokens: of one window, special tokens included.
        ending: the template's closing words, which each window has: a model that answers a question reads it at the end.
    """

    most: int
    overlap: int
    max_tokens: int
    ending: str = ""

    def require_room(self, tokenizer: Any) -> None:
        """Raise `InputError` unless windows overlap by less than a half."""
        if not getattr(tokenizer, "is_fast", False):
            raise InputError("[template] windows needs a tokenizer that tells where tokens are; add the model's tokenizer.json.")
        room = self.max_tokens - lengths(tokenizer, [self.ending])[0]
        if room <= 2 * self.overlap:
            raise InputError(
                f"[template] overlap {self.overlap} is too much: a window of max_tokens {self.max_tokens} has room for "
                f"{max(room, 0)} tokens of a record and needs more than twice the overlap; lower overlap or raise max_tokens."
            )

    def cut(self, texts: Sequence[str], tokenizer: Any) -> list[list[str]]:
        """Return the windows of each text; a text that fits is its only window, as it is."""
        counts = lengths(tokenizer, texts)
        return [
            [text] if tokens <= self.max_tokens else self._windows(text, tokenizer)
            for text, tokens in zip(texts, counts, strict=True)
        ]

    def needed(self, texts: Sequence[str], tokenizer: Any) -> list[int]:
        """Return how many windows it takes to read each text whole."""
        return [len(own) for own in replace(self, most=ENDLESS).cut(texts, tokenizer)]

    def _windows(self, text: str, tokenizer: Any) -> list[str]:
        ending = self.ending if text.endswith(self.ending) else ""
        body = text.removesuffix(ending)
        room, over = self.max_tokens - lengths(tokenizer, [ending])[0], 0
        starts = _starts(tokenizer, body)
        words = {match.start() for match in re.finditer(r"\S+", body)}
        first = [start in words for start in starts]  # which tokens begin a word
        while True:
            places = kept(places_of(first, room, self.overlap), self.most)
            edges = [0, *starts[1:], len(body)]
            found = [body[edges[a] : edges[b]].strip() + ending for a, b in places]
            over = max(lengths(tokenizer, found)) - self.max_tokens  # read alone, a window may have a token more
            if over <= 0 or room - over <= self.overlap:
                return found
            room -= over


def lengths(tokenizer: Any, texts: Sequence[str]) -> list[int]:
    """Return the number of each text's tokens, special ones included."""
    return [len(own) for own in tokenizer(list(texts), verbose=False)["input_ids"]] if texts else []


def kept(places: Sequence[Place], most: int) -> list[Place]:
    """Return at most `most` of them, evenly spaced, the first and the last among them.

    >>> kept([(0, 8), (6, 14), (12, 20), (18, 26), (24, 32)], 3)
    [(0, 8), (12, 20), (24, 32)]
    """
    if len(places) <= most:
        return list(places)
    return [places[round(number * (len(places) - 1) / (most - 1))] for number in range(most)]


def places_of(first: Sequence[bool], room: int, overlap: int) -> list[Place]:
    """Return windows of at most `room` tokens that cover a text, evenly spread, with borders between words where one is near.

    A window begins at most `overlap` tokens after its even place and ends at most as many before it, at a word's first token.
    Even places share `overlap` tokens or more, so neighbours still meet.

    Args:
        first: of each token, whether a word begins with it.
        room: above `overlap`.
        overlap: 1 or more.

    >>> places_of([True] * 10, 6, 2)
    [(0, 6), (4, 10)]
    """
    length = len(first)
    if length <= room:
        return [(0, length)]
    many = -(-(length - overlap) // (room - overlap))
    even = [round(number * (length - room) / (many - 1)) for number in range(many)]
    begins = [0, *(next((n for n in range(a, a + overlap + 1) if first[n]), a) for a in even[1:])]
    ends = [next((n for n in range(a + room, a + room - overlap - 1, -1) if first[n]), a + room) for a in even[:-1]]
    return list(zip(begins, [*ends, length], strict=True))


def _starts(tokenizer: Any, body: str) -> list[int]:
    """Return the place in the text of each token's first character, after its spaces."""
    offsets = tokenizer(body, add_special_tokens=False, return_offsets_mapping=True, verbose=False)["offset_mapping"]
    return [end - len(body[start:end].lstrip()) for start, end in offsets]
