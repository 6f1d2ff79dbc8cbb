"""Text templates: a table row becomes a clinical sentence made of public words.

A template such as ``"sex {sex} age {age}"`` names fields. A field maps raw values to words, either by a table of words
or by edges that cut a number into buckets. The words and the edges stand in the task card and are public: nothing here is
learned from data.
"""

import bisect
import math
import string
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Annotated

from pydantic import Field, model_validator

from shared.errors import InputError
from shared.toml import Table


class FieldTable(Table):
    """How one field is put into words.

    Either ``words`` is a table (raw value -> words), or ``edges`` cut a number into buckets and ``words`` is a list with
    one entry more than edges: bucket i holds ``edges[i-1] <= value < edges[i]``. With neither, the raw text is used.
    """

    words: dict[str, str] | list[str] | None = None
    edges: Annotated[list[float], Field(min_length=1)] | None = None
    missing: str = "missing"

    @model_validator(mode="after")
    def _fits(self) -> "FieldTable":
        if self.edges is None:
            if isinstance(self.words, list):
                raise ValueError("a list of words needs edges; add edges, or make words a table")
            return self
        if not isinstance(self.words, list) or len(self.words) != len(self.edges) + 1:
            raise ValueError(f"{len(self.edges)} edges need a list of {len(self.edges) + 1} words")
        if sorted(set(self.edges)) != self.edges:
            raise ValueError("edges must increase")
        return self

    def say(self, value: object) -> str:
        """Return the words for a raw value; an absent one (None, NaN, empty) is ``missing``.

        >>> FieldTable(edges=[50, 65], words=["young", "middle", "old"]).say(50)
        'middle'
        >>> FieldTable(words={"Male": "male"}).say(None)
        'missing'
        """
        if is_absent(value):
            return self.missing
        if self.edges is not None and isinstance(self.words, list):
            return self.words[bisect.bisect_right(self.edges, _number(value))]
        text = str(value).strip()
        if isinstance(self.words, dict):
            if text not in self.words:
                raise ValueError(f"value '{text}' has no words; known values are {', '.join(sorted(self.words))}")
            return self.words[text]
        return text

    def choices(self) -> list[str]:
        """Return every word this field can say, ``missing`` included: public facts of the card."""
        words = self.words.values() if isinstance(self.words, dict) else self.words or []
        return list(dict.fromkeys([*words, self.missing]))


def is_absent(value: object) -> bool:
    """Say whether a cell holds nothing: None, NaN or blank text."""
    return value is None or (isinstance(value, float) and math.isnan(value)) or str(value).strip() == ""


def _number(value: object) -> float:
    try:
        number = float(str(value))
    except ValueError:
        raise ValueError(f"value '{value}' is not a number") from None
    if not math.isfinite(number):
        raise ValueError(f"value '{value}' is not a finite number")
    return number


@dataclass(frozen=True)
class RecordText:
    """A template with its fields.

    >>> RecordText("age {age}", {"age": FieldTable(edges=[50], words=["low", "high"])}).render({"age": 61})
    'age high'
    """

    text: str
    fields: Mapping[str, FieldTable] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Refuse a template whose placeholders and fields do not fit each other."""
        unused = sorted(set(self.fields) - set(self.names))
        if unused:
            raise ValueError(f"field '{unused[0]}' is not used in text; add {{{unused[0]}}} to text or remove the field")
        if not self.names:
            raise ValueError("text has no {placeholder}; name at least one field in braces")

    @property
    def names(self) -> list[str]:
        """The field names in order of appearance."""
        try:
            parsed = [name for _, name, _, _ in string.Formatter().parse(self.text) if name is not None]
        except ValueError as error:
            raise ValueError(f"text is not a valid template ({error}); write a brace as {{{{ or }}}}") from None
        if not all(name.isidentifier() for name in parsed):
            raise ValueError("text has a placeholder that is not a plain name; write {name}")
        return list(dict.fromkeys(parsed))

    @property
    def ending(self) -> str:
        """The words after the last field, which all records end with.

        >>> RecordText("pulse {pulse} . The patient is").ending
        ' . The patient is'
        """
        end = [literal if name is None else "" for literal, name, _, _ in string.Formatter().parse(self.text)]
        return end[-1]

    def render(self, row: Mapping[str, object]) -> str:
        """Return the sentence of one row; raise `InputError` naming field and value where a value has no words."""
        said = {}
        for name in self.names:
            try:
                said[name] = self.fields.get(name, FieldTable()).say(row.get(name))
            except ValueError as error:
                raise InputError(f"field '{name}': {error}; mend the cell or extend the card.") from None
        return self.text.format(**said)

    def empty(self) -> str:
        """Return the sentence of a record in which every field is missing: a public text."""
        return self.text.format(**{name: self.fields.get(name, FieldTable()).missing for name in self.names})

    def draw(self, pick: Callable[[int], int]) -> str:
        """Return a made-up public record: each field says one of its choices, ``pick(n)`` giving an index below n."""
        said = {}
        for name in self.names:
            choices = self.fields.get(name, FieldTable()).choices()
            said[name] = choices[pick(len(choices))]
        return self.text.format(**said)
