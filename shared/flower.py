"""Everything that depends on how Flower 1.39 is made inside, so that another release changes this file and those that start
Flower's processes: `client.flower_node`, `server.flower_link` and `simulations.ray_engine`.
"""

import logging
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec
from flwr.app import Context, Message, RecordDict
from flwr.app.message import make_message, remove_content_from_message
from flwr.common.constant import PUBLIC_KEY_HEADER, SIGNATURE_HEADER, TIMESTAMP_HEADER
from flwr.common.serde import message_to_proto
from flwr.supercore.inflatable.inflatable_object import get_all_nested_objects, get_object_tree
from flwr.supercore.inflatable.inflatable_utils import inflate_object_from_contents
from flwr.supercore.primitives.asymmetric import bytes_to_public_key, public_key_to_bytes, sign_message, verify_signature
from flwr.supercore.run import Run
from flwr.supercore.task_identity import TaskIdentity


def log_quietly() -> None:
    """Let Flower log warnings only: what a person should see, Promptward shows."""
    logging.getLogger("flwr").setLevel(logging.WARNING)


def identify(run_id: int) -> None:
    """Say which run this process belongs to; `Message()` reads it."""
    TaskIdentity.run_id, TaskIdentity.node_id, TaskIdentity.task_id = run_id, 1, 1


def give_id(message: Message, name: str) -> None:
    """Give a message the id that a SuperLink would give it."""
    message.metadata.__dict__["_message_id"] = name


def empty_run(run_id: int) -> Run:
    """Return the description of a run without an app bundle."""
    return Run.create_empty(run_id)


def context(run_id: int, node_id: int) -> Context:
    """Return the context that Flower hands to an app at this node."""
    return Context(run_id=run_id, node_id=node_id, node_config={}, state=RecordDict(), run_config={})


def objects_of(message: Message) -> dict[str, bytes]:
    """Return every object of a message's tree as Flower sends it, the message itself included: SHA-256 -> bytes."""
    return {name: part.deflate() for name, part in get_all_nested_objects(message).items()}


def tree_of(message: Message) -> Any:
    """Return the protobuf tree of the message's object ids."""
    return get_object_tree(message)


def envelope_of(message: Message) -> Any:
    """Return the protobuf message without its content, as Flower sends it beside the objects."""
    return message_to_proto(remove_content_from_message(message))


def inflate(message_id: str, contents: Mapping[str, bytes]) -> Message:
    """Return the message that these objects make up; raise `ValueError` when they make up none."""
    try:
        message = inflate_object_from_contents(message_id, dict(contents))
    except Exception as error:  # Flower has no common base for what it raises here
        raise ValueError(f"its objects make up no message ({error!r})") from None
    if not isinstance(message, Message):
        raise ValueError(f"its objects make up a {type(message).__name__} and no message")
    give_id(message, message_id)
    return message


def with_content(message: Message, content: RecordDict) -> Message:
    """Return a message with the same metadata and this content."""
    return make_message(metadata=message.metadata, content=content)


def signed_by(public_key: bytes, text: str, signature: bytes) -> bool:
    """Say whether the holder of this key (PEM) has signed the text, as Flower's nodes sign the time of a call."""
    return bool(verify_signature(bytes_to_public_key(public_key), text.encode("ascii"), signature))


def timed_as(message: Message, created_at: float, ttl: float) -> Message:
    """Give a message these times in the place of its own, and the id that belongs to them."""
    message.metadata.__dict__.update(_created_at=created_at, _ttl=ttl)
    give_id(message, message.object_id)
    return message


def deflated_size(message: Message) -> int:
    """Return the bytes of a message as Flower sends it: every object of its tree, the array included."""
    return sum(map(len, objects_of(message).values()))


def signed(key: ec.EllipticCurvePrivateKey, when: datetime) -> tuple[tuple[str, str | bytes], ...]:
    """Return the headers by which a SuperNode says who calls: its public key, the time, and a signature of the time alone."""
    time = when.isoformat()
    signature = sign_message(key, time.encode("ascii"))
    return (
        (PUBLIC_KEY_HEADER, public_key_to_bytes(key.public_key())),
        (TIMESTAMP_HEADER, time),
        (SIGNATURE_HEADER, signature),
    )
