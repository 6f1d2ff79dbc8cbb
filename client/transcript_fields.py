"""Every byte of a call that left, field by field: its name, its size on the wire, and what it says. Pure functions.

The sizes of a call's fields add up to the call's bytes, so that nothing can stand between two fields unseen.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from flwr.proto import message_pb2

from client.fleet import REQUESTS

FRAMING = "(framing)"
TENSOR = "tensor"
CONTENT = "object_content"
NUMPY = b"\x93NUMPY"
UNKNOWN = "bytes that are none of Flower's objects"
MEANING = {
    "public_key": "this site's public key, by which it was admitted",
    "heartbeat_interval": "seconds between two signs of life, a constant of Flower's",
    "node_id": "the number by which the coordinator knows this site",
    "src_node_id": "the same number, as the sender",
    "dst_node_id": "the coordinator's number, always 1",
    "run_id": "the run's number, given by the coordinator",
    "hash_str": "SHA-256 of the app bundle, the same for all",
    "object_id": "SHA-256 of an object that is asked for or sent",
    "message_object_id": "SHA-256 of the request that has arrived",
    "message_id": "SHA-256 of the reply",
    "reply_to_message_id": "SHA-256 of the request that is answered",
    "session_id": "a number that the coordinator gave for this push",
    "message_type": "always 'train'",
    "created_at": "when the request was made: the gateway puts the coordinator's own time here",
    "ttl": "seconds until the request is void, as the coordinator said it",
    "delivered_at": "empty",
    "group_id": "the round's name, given by the coordinator",
    "dst_task_id": "the coordinator's number of the task, repeated",
    "src_task_id": "this site's number of the task",
    "clientapp_runtime_list": "seconds of work: the gateway has put 0 here",
    "code": "the one code for everything that goes wrong",
    "kind": "which of Flower's objects, what it refers to, and how long it is",
    "text": "the object's one fixed name and the SHA-256 below it, or dtype and shape of the tensor",
    "numpy": "dtype and shape of the tensor",
    TENSOR: "the noised update that the ledger paid for",
    FRAMING: "field numbers and lengths of the format itself",
}
HEADERS = {
    "flwr-public-key-bin": "this site's public key",
    "flwr-timestamp": "the time of the call, by this site's clock",
    "flwr-signature-bin": "signature of that time with this site's private key",
    "flwr-package-name": "always 'flwr'",
    "flwr-package-version": "Flower's version",
    "flwr-component-name": "always 'supernode'",
}


@dataclass(frozen=True)
class Field:
    """One field of a call.

    Attributes:
        path: names from the request down, joined by dots.
        size: bytes on the wire, its tag and length included.
        value: as text; bytes that are no text as hexadecimal digits.
    """

    path: str
    size: int
    value: str

    @property
    def meaning(self) -> str:
        """What the field is there for; a field that nobody knows says so."""
        return MEANING.get(self.path.rsplit(".", 1)[-1], "NOT KNOWN: ask the developers of Promptward")


def fields_of(call: str, content: bytes) -> list[Field]:
    """Return the fields of a call's bytes; their sizes add up to `len(content)`.

    >>> [(field.path, field.size) for field in fields_of("PullMessages", bytes.fromhex("0a020801"))]
    [('node.node_id', 2), ('node.(framing)', 2)]
    """
    kind = REQUESTS.get(call)
    if kind is None:
        return [Field("(unknown call)", len(content), content.hex())]
    return list(_parsed(kind, content, ""))


def _parsed(kind: Any, content: bytes, path: str) -> Iterator[Field]:
    try:
        message = kind.FromString(content)
    except Exception:  # protobuf's own error class depends on its backend
        yield Field(f"{path}unknown", len(content), f"{UNKNOWN}: {content.hex()}")
        return
    yield from _message(message, path, len(content))


def _message(message: Any, path: str, size: int) -> Iterator[Field]:
    """Yield the fields below a message; what they do not account for of `size` is framing."""
    told = 0
    for field, value in message.ListFields():
        name = f"{path}{field.name}"
        for item in list(value) if field.is_repeated else [value]:
            for found in _item(field, item, name, _alone(type(message)(), field, item)):
                told += found.size
                yield found
    if size != told:
        yield Field(f"{path}{FRAMING}", size - told, "")


def _item(field: Any, item: Any, name: str, size: int) -> Iterator[Field]:
    if field.message_type is not None:
        yield from _message(item, f"{name}.", size)
    elif field.name == CONTENT:
        yield from _object(item, f"{name}.")
        yield Field(f"{name}.{FRAMING}", size - len(item), "")
    else:
        yield Field(name, size, _said(item))


def _alone(bare: Any, field: Any, item: Any) -> int:
    """Return how many bytes one value of a field takes, by a message that holds nothing else."""
    if field.is_repeated:
        getattr(bare, field.name).append(item)
    elif field.message_type is not None:
        getattr(bare, field.name).CopyFrom(item)
    else:
        setattr(bare, field.name, item)
    return int(bare.ByteSize())


def _object(content: bytes, path: str) -> Iterator[Field]:
    """Take one of Flower's objects apart: `KIND CHILDREN LENGTH`, a zero byte, and the body."""
    head, zero, body = content.partition(b"\0")
    kind = head.split(b" ")[0]
    if not zero or kind not in (b"Message", b"RecordDict", b"ArrayRecord", b"Array", b"ArrayChunk"):
        yield Field(f"{path}unknown", len(content), f"{UNKNOWN}: {content.hex()}")
        return
    yield Field(f"{path}kind", len(head) + 1, head.decode(errors="replace"))
    if kind == b"Message":
        yield from _parsed(message_pb2.Message, body, path)
    elif kind == b"ArrayChunk":
        yield from _chunk(body, path)
    else:
        yield Field(f"{path}text", len(body), body.decode(errors="replace"))


def _chunk(body: bytes, path: str) -> Iterator[Field]:
    """Cut a chunk into numpy's head, which the first chunk of an array has, and values."""
    start = 10 + int.from_bytes(body[8:10], "little") if body.startswith(NUMPY) else 0  # numpy.lib.format, version 1
    if start:
        yield Field(f"{path}numpy", start, body[10:start].decode(errors="replace").strip())
    yield Field(f"{path}{TENSOR}", len(body) - start, body[start:].hex())


def _said(value: Any) -> str:
    if not isinstance(value, bytes):
        return str(value)
    try:
        return value.decode("ascii")
    except UnicodeDecodeError:
        return value.hex()
