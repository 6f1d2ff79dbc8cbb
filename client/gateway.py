"""The gateway at the hospital's edge: every byte between Flower's SuperNode and the coordinator passes here, or nothing does.

It is a process of its own. It lets the calls of `client.fleet` pass and no others, holds a reply back until all of it is there
and has been checked, vets a run before the SuperNode hears of it, and writes the transcript before a byte leaves.
"""

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import grpc
from flwr.proto import fleet_pb2, message_pb2

from client import fleet
from client.admission import Admission
from client.fleet import Headers, Terms
from client.line import Line
from shared.errors import RefusedError

HOLD = 15.0  # seconds that a question for news is kept open, so that the SuperNode need not sleep between two of them
PAUSE = 0.5  # seconds between two questions to the coordinator
TAKEOVER = 240.0  # seconds that a site which is not let in keeps knocking under one signature; Flower takes it for 300
BEAT = 30.0  # seconds between two signs of life, as Flower's SuperNode promises them
KNOCK = 3.0  # seconds between two tries
log = logging.getLogger("promptward.gateway")


@dataclass(frozen=True)
class Identity:
    """Who this site is to the coordinator: its public key as Flower sends it, and where its node id is remembered."""

    public_key: bytes
    remember: Callable[[int], None]
    remembered: Callable[[], int | None]


@dataclass
class Held:
    """A reply that the SuperNode has begun to push; it leaves when all its objects are there and checked."""

    push: Any
    wanted: set[str]
    contents: dict[str, bytes] = field(default_factory=dict)
    left: bool = False


class Gateway:
    """Answers the SuperNode's calls over the line to the coordinator; `alive` turns false when the process is to end."""

    def __init__(
        self,
        terms: Terms,
        identity: Identity,
        line: Line,
        alive: Callable[[], bool] = lambda: True,
    ) -> None:
        """Start with nothing let in."""
        self._terms, self._identity, self._line, self._alive = terms, identity, line, alive
        self._node = 0  # no node has this id: nothing passes before the coordinator knows this site
        self._admission = Admission(terms, line)
        self._held: dict[str, Held] = {}
        self._pushing = threading.Lock()

    def call(self, name: str, raw: bytes, metadata: Any) -> bytes:
        """Return the coordinator's answer to a call, or the gateway's own; raise `RefusedError` for what must not leave."""
        try:
            request, headers = fleet.parse(name, raw), fleet.headers(metadata, self._identity.public_key)
            handler = getattr(self, f"_{name}")
            return bytes(handler(request, raw, headers))
        except RefusedError as error:
            self._line.refuse(name, error)
            raise

    # ---- who we are ----

    def _ActivateNode(self, request: Any, raw: bytes, headers: Headers) -> bytes:  # noqa: N802 (Flower's names)
        """Register as online; a site that was killed takes its old place over instead of waiting for Flower's patience."""
        self._only_our_key(request.public_key)
        self._only_flowers_beat(request.heartbeat_interval)
        until, told = time.monotonic() + TAKEOVER, False
        while True:
            try:
                answer = self._line.send("ActivateNode", raw, headers)
                break
            except grpc.RpcError as error:
                if error.code() == grpc.StatusCode.UNAVAILABLE or time.monotonic() > until or not self._alive():
                    raise  # the SuperNode tries again, or starts anew and signs a new time
                if told:
                    time.sleep(KNOCK)
                elif not self._leave_old_place(headers):
                    log.warning("the coordinator does not let this site in: is its public key admitted there? Trying again.")
                told = True
        self._node = int(fleet_pb2.ActivateNodeResponse.FromString(answer).node_id)
        self._identity.remember(self._node)
        log.info("connected: the coordinator knows this site as node %d", self._node)
        return answer

    def _leave_old_place(self, headers: Headers) -> bool:
        """Sign off the node that this site was before it was killed; say whether the coordinator still had it as online."""
        node = self._identity.remembered()
        if node is None:
            return False
        try:
            self._line.send("DeactivateNode", fleet_pb2.DeactivateNodeRequest(node_id=node).SerializeToString(), headers)
        except grpc.RpcError:
            return False
        return True

    def _DeactivateNode(self, request: Any, raw: bytes, headers: Headers) -> bytes:  # noqa: N802
        self._only_our_node(request.node_id)
        return self._line.send("DeactivateNode", raw, headers)

    def _SendNodeHeartbeat(self, request: Any, raw: bytes, headers: Headers) -> bytes:  # noqa: N802
        self._only_our_node(request.node.node_id)
        self._only_flowers_beat(request.heartbeat_interval)
        return self._line.send("SendNodeHeartbeat", raw, headers)

    # ---- what comes in ----

    def _PullMessages(self, request: Any, raw: bytes, headers: Headers) -> bytes:  # noqa: N802
        """Ask for news until there are some, or the time to hold the question is over."""
        self._only_our_node(request.node.node_id)
        if request.message_ids:
            raise RefusedError("a question for news names messages")
        until = time.monotonic() + HOLD
        while self._alive():
            answer = fleet_pb2.PullMessagesResponse()
            try:
                answer = fleet_pb2.PullMessagesResponse.FromString(self._line.send("PullMessages", raw, headers))
            except grpc.RpcError as error:
                if error.code() != grpc.StatusCode.UNAVAILABLE:
                    raise
            if self._admission.let_in(answer, self._node, headers):
                return bytes(answer.SerializeToString())
            if time.monotonic() > until:
                break
            time.sleep(PAUSE)
        return b""

    def _GetRun(self, request: Any, _raw: bytes, _headers: Headers) -> bytes:  # noqa: N802
        """Hand over the run that was vetted; the coordinator is not asked again."""
        self._only_vetted(request)
        return self._admission.runs[request.run_id].run

    def _GetFab(self, request: Any, _raw: bytes, _headers: Headers) -> bytes:  # noqa: N802
        self._only_vetted(request)
        if request.hash_str != self._terms.bundle:
            raise RefusedError("another bundle than the pinned one is asked for")
        return self._admission.runs[request.run_id].bundle

    def _PullObject(self, request: Any, _raw: bytes, _headers: Headers) -> bytes:  # noqa: N802
        """Hand over an object of the message that came in; the coordinator is not asked again."""
        self._only_vetted(request)
        content = self._admission.objects.get(request.object_id)
        if content is None:
            raise RefusedError("an object is asked for that no request declares")
        answer = message_pb2.PullObjectResponse(object_found=True, object_available=True, object_content=content)
        return bytes(answer.SerializeToString())

    def _ConfirmMessageReceived(self, request: Any, raw: bytes, headers: Headers) -> bytes:  # noqa: N802
        self._only_vetted(request)
        if request.message_object_id not in self._admission.asked:
            raise RefusedError("a message is confirmed that was not let in")
        return self._line.send("ConfirmMessageReceived", raw, headers)

    # ---- what goes out ----

    def _PushMessages(self, request: Any, raw: bytes, headers: Headers) -> bytes:  # noqa: N802
        """Take a reply in; nothing leaves before all of its objects are here and checked."""
        self._only_our_node(request.node.node_id)
        if len(request.messages_list) != 1 or len(request.message_object_trees) != 1:
            raise RefusedError("a push holds more or less than one reply")
        names = fleet.ids_of(request.message_object_trees[0])
        session = request.messages_list[0].metadata.message_id
        if len(names) > fleet.PARTS or request.messages_list[0].ByteSize() > fleet.SLACK:
            raise RefusedError("a reply is larger than one can be")
        with self._pushing:
            self._held = {session: Held(request, set(names))}  # the SuperNode has one message at a time
        return bytes(
            fleet_pb2.PushMessagesResponse(results={session: 0}, objects_to_push=names, session_id=session).SerializeToString()
        )

    def _PushObject(self, request: Any, raw: bytes, headers: Headers) -> bytes:  # noqa: N802
        self._only_our_node(request.node.node_id)
        held = self._held.get(request.session_id)
        if held is None or request.object_id not in held.wanted or fleet.sha256_of(request.object_content) != request.object_id:
            raise RefusedError("an object is pushed that the reply does not declare")
        if len(request.object_content) > self._terms.most_bytes:
            raise RefusedError(f"an object of {len(request.object_content)} bytes would leave")
        with self._pushing:
            held.contents[request.object_id] = request.object_content
            if held.wanted <= set(held.contents) and not held.left:
                self._release(held, headers)
        return bytes(message_pb2.PushObjectResponse(stored=True).SerializeToString())

    def _release(self, held: Held, headers: Headers) -> None:
        """Check the whole reply, and let it leave without its times."""
        payload = fleet.check_reply(held.push, held.contents, self._admission.asked, self._node, self._terms)
        out, contents = fleet.timeless(held.push, held.contents, self._admission.asked)
        answer = self._line.ask("PushMessages", out, headers, fleet_pb2.PushMessagesResponse)
        for name in answer.objects_to_push:
            if name not in contents:
                raise RefusedError("the coordinator asked for an object that the reply does not hold")
            part = message_pb2.PushObjectRequest(
                node=out.node,
                run_id=out.messages_list[0].metadata.run_id,
                object_id=name,
                object_content=contents[name],
                session_id=answer.session_id,
            )
            self._line.ask("PushObject", part, headers, message_pb2.PushObjectResponse, payload)
        held.left = True
        if payload:
            self._line.delivered(payload)
        log.info("a reply left: %s", f"payload {payload[:16]}" if payload else "the fixed error code")

    # ---- what every call must be ----

    def _only_our_key(self, key: bytes) -> None:
        if key != self._identity.public_key:
            raise RefusedError("another public key than this site's would be sent")

    def _only_flowers_beat(self, seconds: float) -> None:
        if seconds != BEAT:
            raise RefusedError("a sign of life promises another interval than Flower's")

    def _only_our_node(self, node: int) -> None:
        if not node or node != self._node:
            raise RefusedError("a call names another node than this site's")

    def _only_vetted(self, request: Any) -> None:
        self._only_our_node(request.node.node_id)
        if request.run_id not in self._admission.runs:
            raise RefusedError(f"run {request.run_id} was not let in")
