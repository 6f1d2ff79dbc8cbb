"""What may pass the hospital's edge: pure checks of the calls of Flower's Fleet API, outgoing and incoming.

Nothing here trusts the hospital's own processes: a reply is taken apart and put together again from its one array, and must
come out as the very same bytes.
"""

import hashlib
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np
from flwr.proto import fab_pb2, fleet_pb2, heartbeat_pb2, message_pb2, run_pb2

from shared.errors import RefusedError
from shared.flower import envelope_of, inflate, objects_of, signed_by, timed_as, tree_of, with_content
from shared.wire import FAILED, pack_reply, sha256, unpack_reply

Headers = tuple[tuple[str, str | bytes], ...]
SERVICE = "/flwr.proto.Fleet/"
COORDINATOR = 1  # Flower's node id of the coordinator
SLACK = 8192  # bytes that a message may hold beyond the tensor
PARTS = 16  # objects of one message; ours have nine at the most
REQUESTS: Mapping[str, Any] = {
    "ActivateNode": fleet_pb2.ActivateNodeRequest,
    "DeactivateNode": fleet_pb2.DeactivateNodeRequest,
    "SendNodeHeartbeat": heartbeat_pb2.SendNodeHeartbeatRequest,
    "PullMessages": fleet_pb2.PullMessagesRequest,
    "GetRun": run_pb2.GetRunRequest,
    "GetFab": fab_pb2.GetFabRequest,
    "PullObject": message_pb2.PullObjectRequest,
    "ConfirmMessageReceived": message_pb2.ConfirmMessageReceivedRequest,
    "PushMessages": fleet_pb2.PushMessagesRequest,
    "PushObject": message_pb2.PushObjectRequest,
}
KEY, TIME, SIGNATURE = "flwr-public-key-bin", "flwr-timestamp", "flwr-signature-bin"
VERSION = {"flwr-package-name": "flwr", "flwr-package-version": "1.39.0", "flwr-component-name": "SuperNode"}


@dataclass(frozen=True)
class Terms:
    """What this hospital agreed to, for its edge to enforce.

    Attributes:
        shape: of the one tensor, (P+L, D).
        dtype: of what leaves.
        bundle: SHA-256 of the only app bundle that is let in.
        paid: says whether the ledger has paid for the payload with this SHA-256.
    """

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    bundle: str
    paid: Callable[[str], bool]

    @property
    def most_bytes(self) -> int:
        """The largest message that passes, in either direction."""
        return math.prod(self.shape) * 4 + SLACK


@dataclass(frozen=True)
class Asked:
    """A request that was let in: a reply must name the same run and group, and gets the same times."""

    run_id: int
    group_id: str
    created_at: float = 0.0
    ttl: float = 0.0


def parse(call: str, raw: bytes) -> Any:
    """Return the request of an allowed call.

    Raises:
        RefusedError: a call that has no business leaving, bytes that are no such request, or a field nobody declared.
    """
    kind = REQUESTS.get(call)
    if kind is None:
        raise RefusedError(f"the call {call} is not among those that may leave")
    try:
        request = kind.FromString(raw)
    except Exception:  # protobuf's own error class depends on its backend
        raise RefusedError(f"the bytes are no {call} request") from None
    known = kind.FromString(raw)
    known.DiscardUnknownFields()
    if known.ByteSize() != len(raw):
        raise RefusedError(f"the {call} request holds fields that nobody declared")
    return request


def headers(metadata: Any, public_key: bytes) -> Headers:
    """Return the headers that may leave: the time, signed by this site's key, and Flower's version; any others are dropped.

    Raises `RefusedError` when one of them holds something else.
    """
    given = {name: value for name, value in metadata if name in (KEY, TIME, SIGNATURE, *VERSION)}
    if given.get(KEY) != public_key or any(given.get(name, value) != value for name, value in VERSION.items()):
        raise RefusedError("a header holds something else than this site's public key or Flower's version")
    when, signature = str(given.get(TIME, "")), given.get(SIGNATURE, b"")
    if not _is_time(when) or not isinstance(signature, bytes) or not signed_by(public_key, when, signature):
        raise RefusedError("a header holds no time that this site has signed")
    return tuple(given.items())


def _is_time(text: str) -> bool:
    """Say whether a text is a time as Flower writes it, and nothing beside."""
    try:
        return datetime.fromisoformat(text).isoformat() == text
    except ValueError:
        return False


def admit_message(message: Any, tree: Any, node_id: int) -> Asked:
    """Return what to remember of an incoming message; raise `RefusedError` for anything but a training request to this node."""
    facts = message.metadata
    if facts.message_type != "train" or message.HasField("error"):
        raise RefusedError(f"a message of type '{facts.message_type}' was sent; this site takes part in training only")
    if facts.dst_node_id != node_id or facts.reply_to_message_id or facts.message_id != tree.object_id:
        raise RefusedError("a message is not addressed to this site as a request")
    if len(ids_of(tree)) > PARTS:
        raise RefusedError(f"a message of {len(ids_of(tree))} objects was sent; a request has fewer than {PARTS}")
    return Asked(facts.run_id, facts.group_id, facts.created_at, facts.ttl)


def admit_run(run: Any, terms: Terms) -> None:
    """Raise `RefusedError` unless the run uses the pinned bundle, overrides nothing and is an ordinary training run."""
    if run.fab_hash != terms.bundle:
        raise RefusedError(f"the run's app bundle is {run.fab_hash or 'none'}; this site has pinned {terms.bundle}")
    if run.override_config:
        raise RefusedError(f"the run sets {', '.join(sorted(run.override_config))}; a hospital takes no setting from a run")
    if run.primary_task_type not in ("", "flwr-serverapp"):
        raise RefusedError(f"the run is of type '{run.primary_task_type}'; this site takes part in training only")


def admit_bundle(content: bytes, digest: str, terms: Terms) -> None:
    """Raise `RefusedError` unless these bytes are the pinned bundle."""
    if digest != terms.bundle:
        raise RefusedError(f"the app bundle that was sent has SHA-256 {digest}; this site has pinned {terms.bundle}")
    if len(content) > SLACK:
        raise RefusedError("the app bundle is larger than one without code can be")


def sha256_of(content: bytes) -> str:
    """Return the SHA-256 of these bytes as hex: Flower's name of an object."""
    return hashlib.sha256(content).hexdigest()


def ids_of(tree: Any) -> list[str]:
    """Return every object id of a tree, the root's first."""
    return [tree.object_id, *(name for child in tree.children for name in ids_of(child))]


def check_reply(push: Any, contents: Mapping[str, bytes], asked: Mapping[str, Asked], node_id: int, terms: Terms) -> str | None:
    """Return the SHA-256 of the payload in a reply, or None for the fixed error; raise `RefusedError` for anything else.

    Args:
        push: Flower's PushMessages request.
        contents: every object that would follow it: SHA-256 -> bytes.
        asked: the requests that were let in, by their id.
        node_id: of this site.
        terms: what the hospital agreed to.
    """
    if len(push.messages_list) != 1 or len(push.message_object_trees) != 1 or len(push.clientapp_runtime_list) > 1:
        raise RefusedError("a push holds more or less than one reply")
    envelope, tree = push.messages_list[0], push.message_object_trees[0]
    _check_envelope(envelope.metadata, asked, node_id)
    if envelope.metadata.message_id != tree.object_id or set(ids_of(tree)) != set(contents):
        raise RefusedError("the reply's objects are not those that it declares")
    if sum(map(len, contents.values())) > terms.most_bytes:
        raise RefusedError(f"the reply is larger than {terms.most_bytes} bytes")
    try:
        message = inflate(tree.object_id, contents)
        if message.has_error():
            _check_error(message, envelope, contents)
            return None
        update = unpack_reply(message.content, terms.dtype)
    except ValueError:  # its text could quote the reply, and the transcript may be shown to others
        raise RefusedError("the reply is not the one array of the declared name and dtype") from None
    if update.shape != terms.shape or not np.isfinite(update).all():
        raise RefusedError(f"the reply's array is {update.shape} or not finite; the card says {terms.shape}")
    rebuilt = with_content(message, pack_reply(update))
    same = objects_of(rebuilt) == dict(contents) and tree_of(rebuilt) == tree
    if not same or envelope_of(message) != envelope:
        raise RefusedError("the reply holds bytes beside its one array")
    payload = sha256(update)
    if not terms.paid(payload):
        raise RefusedError("the ledger has not paid for the reply's array")
    return payload


def timeless(push: Any, contents: Mapping[str, bytes], asked: Mapping[str, Asked]) -> tuple[Any, dict[str, bytes]]:
    """Return a checked reply, and its objects, that tells nothing of when it was made and how long the work took.

    Its compute time is zero, and its times are those of its request.
    """
    message = inflate(push.message_object_trees[0].object_id, contents)
    request = asked[message.metadata.reply_to_message_id]
    timed_as(message, request.created_at, request.ttl)
    out = fleet_pb2.PushMessagesRequest(
        node=push.node,
        messages_list=[envelope_of(message)],
        message_object_trees=[tree_of(message)],
        clientapp_runtime_list=[0.0],
    )
    return out, objects_of(message)


def _check_envelope(facts: Any, asked: Mapping[str, Asked], node_id: int) -> None:
    request = asked.get(facts.reply_to_message_id)
    if request is None:
        raise RefusedError("the reply answers no request that was let in")
    named = (facts.run_id, facts.group_id, facts.src_node_id, facts.dst_node_id, facts.message_type)
    if named != (request.run_id, request.group_id, node_id, COORDINATOR, "train"):
        raise RefusedError("the reply's metadata is not that of an answer to its request")


def _check_error(message: Any, envelope: Any, contents: Mapping[str, bytes]) -> None:
    if message.error.code != FAILED or message.error.reason:
        raise RefusedError("an error with a text, or with another code than the fixed one, would leave")
    if objects_of(message) != dict(contents) or envelope_of(message) != envelope:
        raise RefusedError("the error holds bytes beside its code")
