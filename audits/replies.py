"""A hospital's transcript taken apart again: which replies left, whole or not, and whether anything else did."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from client.chain import Entry
from client.fleet import Asked, Terms, check_reply, ids_of, parse, sha256_of
from client.transcript import Sent
from shared.errors import RefusedError


@dataclass(frozen=True)
class Reply:
    """One PushMessages call with the objects that followed it.

    Attributes:
        line: of the call in the transcript; `time` is that line's.
        payload: `shared.wire.sha256` of the array, computed from the bytes that left; None for the fixed error code, for a
            reply that was cut short, and for one that `wrong` says something about.
        named: what the transcript's own lines call the payload.
        seconds: the compute time that the reply told.
        whole: all declared objects left, now or earlier.
        wrong: why the bytes are not exactly one array or the fixed error code.
    """

    line: int
    time: float
    payload: str | None
    named: frozenset[str]
    seconds: tuple[float, ...]
    whole: bool
    wrong: str | None


@dataclass(frozen=True)
class Outgoing:
    """Everything of a transcript that the audit compares.

    Attributes:
        replies: in order.
        delivered: payload -> the first line that says that the coordinator has taken all of it.
        foreign: sentences on lines that are none of a hospital's calls.
        lines: lines read, and `sent`: bytes of all calls.
        calls: call -> how often it was made, its bytes, and those of its headers' values.
    """

    replies: tuple[Reply, ...]
    delivered: dict[str, int]
    foreign: tuple[str, ...]
    lines: int
    sent: int
    calls: dict[str, tuple[int, int, int]]


Line = tuple[Entry, Sent]


def outgoing(lines: Sequence[Line], terms: Terms) -> Outgoing:
    """Take a transcript apart; `terms` says shape and dtype of the one tensor, its ledger is not asked here."""
    delivered: dict[str, int] = {}
    for entry, sent in lines:
        if sent.delivered:
            delivered.setdefault(sent.delivered, entry.number)
    total = sum(len(sent.content) * sent.times for _, sent in lines)
    calls: dict[str, tuple[int, int, int]] = {}
    for _, sent in lines:
        if sent.content:
            times, size, heads = calls.get(sent.call, (0, 0, 0))
            more = (len(sent.content) * sent.times, sum(sent.headers.values()) * sent.times)
            calls[sent.call] = (times + sent.times, size + more[0], heads + more[1])
    return Outgoing(tuple(_replies(lines, terms)), delivered, tuple(_foreign(lines)), len(lines), total, calls)


def _foreign(lines: Sequence[Line]) -> Iterator[str]:
    """Say what left beside the calls of a hospital and the objects of its replies."""
    declared: set[str] = set()
    for entry, sent in lines:
        if not sent.content and (sent.delivered or sent.refused):
            continue
        try:
            request = parse(sent.call, sent.content)
        except RefusedError as error:
            yield f"line {entry.number}: {error}"
            continue
        if sent.call == "PushMessages":
            declared = {name for tree in request.message_object_trees for name in ids_of(tree)}
        if sent.call == "PushObject" and (
            request.object_id not in declared or sha256_of(request.object_content) != request.object_id
        ):
            yield f"line {entry.number}: an object left that no reply declares"


def _replies(lines: Sequence[Line], terms: Terms) -> Iterator[Reply]:
    """Put each reply together from its call and its objects; an object that left earlier need not leave again."""
    contents: dict[str, bytes] = {}
    begun: tuple[Entry, Any] | None = None
    named: set[str] = set()
    for entry, sent in lines:
        if sent.call not in ("PushMessages", "PushObject") or not sent.content:
            continue
        try:
            request = parse(sent.call, sent.content)
        except RefusedError:
            continue  # `_foreign` has said so
        if sent.call == "PushObject":
            contents[request.object_id] = request.object_content
            named |= {sent.payload} if sent.payload else set()
            continue
        if begun:
            yield _reply(*begun, contents, frozenset(named), terms)
        begun, named = (entry, request), set()
    if begun:
        yield _reply(*begun, contents, frozenset(named), terms)


def _reply(entry: Entry, push: Any, contents: dict[str, bytes], named: frozenset[str], terms: Terms) -> Reply:
    names = {name for tree in push.message_object_trees for name in ids_of(tree)}
    seconds, whole = tuple(push.clientapp_runtime_list), names <= set(contents)
    payload, wrong = None, None
    if whole:
        asked = {m.metadata.reply_to_message_id: Asked(m.metadata.run_id, m.metadata.group_id) for m in push.messages_list}
        try:
            payload = check_reply(push, {name: contents[name] for name in names}, asked, push.node.node_id, terms)
        except RefusedError as error:
            wrong = str(error)
    return Reply(entry.number, entry.time, payload, named, seconds, whole, wrong)
