"""A transcript's lines as rounds: what was sent to fetch a request and to answer it. Pure functions."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from client.transcript import NEWS, Sent
from client.transcript_fields import TENSOR, Field, fields_of

PRESENCE = ("ActivateNode", "DeactivateNode")
PUSHES = ("PushMessages", "PushObject")
LIMIT = 3072  # bytes per round beyond the tensor, headers not counted


@dataclass(frozen=True)
class Round:
    """The calls of one round that left: those that fetched the request, and those that carried the reply.

    Attributes:
        number: the ledger's round of its payload; None where nothing was paid for, or the ledger is not there.
        lines: its calls, in order.
        delivered: whether the coordinator took all of the payload.
    """

    number: int | None
    lines: tuple[Sent, ...]
    delivered: bool

    @property
    def payload(self) -> str | None:
        """The ledger's name of what was sent."""
        return next((line.payload for line in self.lines if line.payload), None)

    @property
    def answered(self) -> bool:
        """Whether a reply left, and not only what fetches a request."""
        return any(line.call in PUSHES for line in self.lines)

    @property
    def size(self) -> int:
        """All bytes of its calls, without headers."""
        return sum(len(line.content) for line in self.lines)

    @cached_property
    def fields(self) -> Sequence[tuple[str, Field]]:
        """Every field that left, with its call."""
        return [(line.call, field) for line in self.lines for field in fields_of(line.call, line.content)]

    @property
    def tensor(self) -> int:
        """Bytes of the update itself."""
        return sum(field.size for _, field in self.fields if field.path.endswith(f".{TENSOR}"))

    @property
    def beyond(self) -> int:
        """Bytes beyond the update."""
        return self.size - self.tensor

    @property
    def headers(self) -> int:
        """Bytes of headers that went with its calls."""
        return sum(headers_size(line) for line in self.lines)


def headers_size(line: Sent) -> int:
    """Return the bytes of a line's headers, names and values, before HTTP/2 compresses them."""
    return line.times * sum(len(name) + size for name, size in line.headers.items())


def rounds_of(lines: Iterable[Sent], numbers: Mapping[str, int]) -> list[Round]:
    """Cut a transcript into rounds; `numbers` is the ledger's round of each payload.

    A round ends when its payload was delivered, when the site connects anew, or when the next request is fetched.
    """
    return [_round(group, numbers) for group in _groups(lines)]


def _groups(lines: Iterable[Sent]) -> Iterator[list[Sent]]:
    group: list[Sent] = []
    for line in lines:
        if line.call in NEWS or line.refused:
            continue
        pushed = bool(group) and group[-1].call in PUSHES
        if group and (line.call in PRESENCE or (pushed and line.call not in PUSHES)):
            yield group
            group = []
        if line.call not in PRESENCE:
            group.append(line)
        if line.delivered:
            yield group
            group = []
    if group:
        yield group


def _round(group: Sequence[Sent], numbers: Mapping[str, int]) -> Round:
    payload = next((line.payload for line in group if line.payload), "")
    return Round(numbers.get(payload), tuple(line for line in group if line.content), any(line.delivered for line in group))
