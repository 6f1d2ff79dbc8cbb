"""The gateway's state: who we are, which run was vetted, and that a reply leaves whole, checked and once."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from flwr.app import Array as FlowerArray
from flwr.app import ArrayRecord, Message, RecordDict
from flwr.proto import fab_pb2, fleet_pb2, heartbeat_pb2, message_pb2, node_pb2, run_pb2

from client import gateway as module
from client.chain import Chain
from client.fleet import Terms, sha256_of
from client.gateway import Gateway, Identity
from client.line import Line
from client.transcript import Transcript, read_transcript
from shared.errors import RefusedError
from shared.flower import envelope_of, give_id, identify, objects_of, tree_of
from shared.wire import Request, pack_reply, pack_request, sha256
from tests.client.test_fleet import NODE, OURS, RUN, SHAPE, UPDATE, incoming, pushed, reply_of, request, signed

APP, KEY = b"the bundle", OURS.public.pem
HEADERS = (*signed(OURS).items(), ("x-else", "no"))


class CallError(grpc.RpcError):
    def __init__(self, code: grpc.StatusCode) -> None:
        self._code = code

    def code(self) -> grpc.StatusCode:
        return self._code

    def details(self) -> str:
        return "no"


class Coordinator:
    """A coordinator in memory that writes down what reaches it, and can be told to misbehave."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, bytes]] = []
        self.online = False
        self.run = run_pb2.Run(run_id=RUN, fab_hash=sha256_of(APP), primary_task_type="flwr-serverapp")
        self.bundle = APP
        self.messages: list[tuple[Any, Any]] = []
        self.dead = False
        self.objects: dict[str, bytes] = {}
        self.lines: list[Line] = []

    def forward(self, call: str, raw: bytes, headers: Any) -> bytes:
        assert ("x-else", "no") not in headers
        if self.dead:
            raise CallError(grpc.StatusCode.UNAVAILABLE)
        self.calls.append((call, raw))
        return bytes(getattr(self, call)(raw).SerializeToString())

    def ActivateNode(self, raw: bytes) -> Any:
        if self.online:
            raise CallError(grpc.StatusCode.FAILED_PRECONDITION)
        self.online = True
        return fleet_pb2.ActivateNodeResponse(node_id=NODE)

    def DeactivateNode(self, raw: bytes) -> Any:
        self.online = False
        return fleet_pb2.DeactivateNodeResponse()

    def SendNodeHeartbeat(self, raw: bytes) -> Any:
        return heartbeat_pb2.SendNodeHeartbeatResponse(success=True)

    def PullMessages(self, raw: bytes) -> Any:
        if not self.messages:
            return fleet_pb2.PullMessagesResponse()
        message, tree = self.messages.pop(0)
        return fleet_pb2.PullMessagesResponse(messages_list=[message], message_object_trees=[tree])

    def GetRun(self, raw: bytes) -> Any:
        return run_pb2.GetRunResponse(run=self.run)

    def GetFab(self, raw: bytes) -> Any:
        return fab_pb2.GetFabResponse(fab=fab_pb2.Fab(content=self.bundle, hash_str=sha256_of(APP)))

    def PullObject(self, raw: bytes) -> Any:
        content = self.objects.get(message_pb2.PullObjectRequest.FromString(raw).object_id)
        return message_pb2.PullObjectResponse(
            object_found=content is not None, object_available=bool(content), object_content=content
        )

    def ConfirmMessageReceived(self, raw: bytes) -> Any:
        return message_pb2.ConfirmMessageReceivedResponse()

    def PushMessages(self, raw: bytes) -> Any:
        push = fleet_pb2.PushMessagesRequest.FromString(raw)
        names = [push.message_object_trees[0].object_id]
        names += [name for tree in push.message_object_trees[0].children for name in names_below(tree)]
        return fleet_pb2.PushMessagesResponse(objects_to_push=names, session_id="s1")

    def PushObject(self, raw: bytes) -> Any:
        return message_pb2.PushObjectResponse(stored=True)

    def sent(self, call: str) -> list[bytes]:
        return [raw for name, raw in self.calls if name == call]


def names_below(tree: Any) -> list[str]:
    return [tree.object_id, *(name for child in tree.children for name in names_below(child))]


@pytest.fixture
def coordinator() -> Coordinator:
    return Coordinator()


@pytest.fixture
def open_gateway(coordinator: Coordinator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], Gateway]:
    monkeypatch.setattr(module, "HOLD", 0.0)
    monkeypatch.setattr(module, "TAKEOVER", 0.2)
    monkeypatch.setattr(module, "KNOCK", 0.05)
    node = tmp_path / "node"
    lines = coordinator.lines

    def opened() -> Gateway:
        identity = Identity(
            KEY, lambda found: node.write_text(str(found)) and None, lambda: int(node.read_text()) if node.exists() else None
        )
        terms = Terms(SHAPE, np.dtype(np.int32), sha256_of(APP), lambda payload: payload == sha256(UPDATE))
        lines.append(Line(coordinator.forward, Transcript(Chain(tmp_path / "transcript.jsonl"))))
        return Gateway(terms, identity, lines[-1])

    return opened


@pytest.fixture
def gateway(open_gateway: Callable[[], Gateway]) -> Gateway:
    found = open_gateway()
    found.call("ActivateNode", fleet_pb2.ActivateNodeRequest(public_key=KEY, heartbeat_interval=30).SerializeToString(), HEADERS)
    return found


def node() -> Any:
    return node_pb2.Node(node_id=NODE)


def pull(gateway: Gateway) -> Any:
    raw = gateway.call("PullMessages", fleet_pb2.PullMessagesRequest(node=node()).SerializeToString(), HEADERS)
    return fleet_pb2.PullMessagesResponse.FromString(raw)


def ask(coordinator: Coordinator, gateway: Gateway) -> Any:
    """Let an honest request in and return it as Flower's message."""
    message = send(coordinator, request())
    assert len(pull(gateway).messages_list) == 1
    return message


def send(coordinator: Coordinator, message: Any) -> Any:
    give_id(message, message.object_id)
    coordinator.objects |= objects_of(message)
    coordinator.messages.append((envelope_of(message), tree_of(message)))
    return message


def push(gateway: Gateway, reply: Any) -> None:
    """Push a reply as Flower's SuperNode does."""
    out, contents = pushed(reply)
    answer = fleet_pb2.PushMessagesResponse.FromString(gateway.call("PushMessages", out.SerializeToString(), HEADERS))
    for name in answer.objects_to_push:
        part = message_pb2.PushObjectRequest(
            node=node(), run_id=RUN, object_id=name, object_content=contents[name], session_id=answer.session_id
        )
        gateway.call("PushObject", part.SerializeToString(), HEADERS)


def answer_to(message: Any, content: RecordDict) -> Any:
    return Message(content, reply_to=message)


def test_a_reply_leaves_whole_with_its_compute_time_set_to_zero(coordinator: Coordinator, gateway: Gateway, tmp_path: Path) -> None:
    message = ask(coordinator, gateway)
    push(gateway, answer_to(message, pack_reply(UPDATE)))
    [raw] = coordinator.sent("PushMessages")
    left = fleet_pb2.PushMessagesRequest.FromString(raw)
    assert list(left.clientapp_runtime_list) == [0.0]
    assert left.messages_list[0].metadata.created_at == message.metadata.created_at
    assert len(coordinator.sent("PushObject")) == 5
    coordinator.lines[-1].close()
    lines = read_transcript(tmp_path / "transcript.jsonl")
    assert [line.delivered for line in lines if line.delivered] == [sha256(UPDATE)]
    logged = [(line.call, line.content) for line in lines for _ in range(line.times)]
    assert logged == coordinator.calls  # every call that reached the coordinator, byte for byte and in order


def test_nothing_of_a_reply_that_fails_the_check_leaves(coordinator: Coordinator, gateway: Gateway, tmp_path: Path) -> None:
    extra = RecordDict({"update": ArrayRecord({"update": FlowerArray(UPDATE), "more": FlowerArray(UPDATE)})})
    with pytest.raises(RefusedError):
        push(gateway, answer_to(ask(coordinator, gateway), extra))
    assert coordinator.sent("PushMessages") == coordinator.sent("PushObject") == []
    assert any(line.refused and "not the one array" in line.refused for line in read_transcript(tmp_path / "transcript.jsonl"))


def test_a_reply_without_a_request_does_not_leave(coordinator: Coordinator, gateway: Gateway) -> None:
    with pytest.raises(RefusedError, match="answers no request"):
        push(gateway, reply_of(pack_reply(UPDATE)))
    assert coordinator.sent("PushMessages") == []


def test_a_reply_is_sent_again_when_the_coordinator_was_not_there(coordinator: Coordinator, gateway: Gateway) -> None:
    message = ask(coordinator, gateway)
    coordinator.dead = True
    with pytest.raises(grpc.RpcError):
        push(gateway, answer_to(message, pack_reply(UPDATE)))
    coordinator.dead = False
    push(gateway, answer_to(message, pack_reply(UPDATE)))
    assert len(coordinator.sent("PushMessages")) == 1


@pytest.mark.parametrize("kind", ["query", "evaluate"])
def test_a_message_of_another_kind_never_reaches_the_supernode(coordinator: Coordinator, gateway: Gateway, kind: str) -> None:
    coordinator.messages.append(incoming(kind))
    assert not pull(gateway).messages_list


def other_bundle(coordinator: Coordinator) -> None:
    coordinator.run.fab_hash = "e" * 64


def other_code(coordinator: Coordinator) -> None:
    coordinator.bundle = b"import os"


def override(coordinator: Coordinator) -> None:
    coordinator.run.override_config["epsilon"].double = 1e9


def agent(coordinator: Coordinator) -> None:
    coordinator.run.primary_task_type = "flwr-agentapp"


@pytest.mark.parametrize("hostile", [other_bundle, other_code, override, agent])
def test_a_hostile_run_never_reaches_the_supernode(
    coordinator: Coordinator, gateway: Gateway, tmp_path: Path, hostile: Callable[[Coordinator], None]
) -> None:
    hostile(coordinator)
    for _ in range(2):
        coordinator.messages.append(incoming())
        assert not pull(gateway).messages_list
    with pytest.raises(RefusedError, match="was not let in"):
        gateway.call("GetRun", run_pb2.GetRunRequest(node=node(), run_id=RUN).SerializeToString(), HEADERS)
    assert sum(bool(line.refused) for line in read_transcript(tmp_path / "transcript.jsonl")) == 3


def test_a_site_that_was_killed_takes_its_place_over(
    coordinator: Coordinator, gateway: Gateway, open_gateway: Callable[[], Gateway]
) -> None:
    coordinator.lines[-1].close()
    again = open_gateway()
    again.call("ActivateNode", fleet_pb2.ActivateNodeRequest(public_key=KEY, heartbeat_interval=30).SerializeToString(), HEADERS)
    assert [call for call, _ in coordinator.calls] == ["ActivateNode", "ActivateNode", "DeactivateNode", "ActivateNode"]


def test_a_site_that_is_not_admitted_knocks_and_then_says_so(coordinator: Coordinator, open_gateway: Callable[[], Gateway]) -> None:
    coordinator.online = True  # and there is no earlier place to take over
    with pytest.raises(grpc.RpcError):
        open_gateway().call(
            "ActivateNode", fleet_pb2.ActivateNodeRequest(public_key=KEY, heartbeat_interval=30).SerializeToString(), HEADERS
        )
    assert len(coordinator.sent("ActivateNode")) > 2


@pytest.mark.parametrize(
    ("call", "message"),
    [
        ("ActivateNode", fleet_pb2.ActivateNodeRequest(public_key=b"DOE, John", heartbeat_interval=30)),
        ("ActivateNode", fleet_pb2.ActivateNodeRequest(public_key=KEY, heartbeat_interval=31.5)),
        ("SendNodeHeartbeat", heartbeat_pb2.SendNodeHeartbeatRequest(node=node_pb2.Node(node_id=5))),
        ("SendNodeHeartbeat", heartbeat_pb2.SendNodeHeartbeatRequest(node=node_pb2.Node(node_id=NODE), heartbeat_interval=31.5)),
        ("PullMessages", fleet_pb2.PullMessagesRequest(node=node_pb2.Node(node_id=5))),
        ("PullMessages", fleet_pb2.PullMessagesRequest(node=node_pb2.Node(node_id=NODE), message_ids=["DOE, John"])),
        ("DeactivateNode", fleet_pb2.DeactivateNodeRequest(node_id=5)),
        ("GetRun", run_pb2.GetRunRequest(node=node_pb2.Node(node_id=NODE), run_id=99)),
        ("GetFab", fab_pb2.GetFabRequest(node=node_pb2.Node(node_id=NODE), run_id=RUN, hash_str="DOE, John")),
        ("PullObject", message_pb2.PullObjectRequest(node=node_pb2.Node(node_id=NODE), run_id=RUN, object_id="DOE, John")),
        ("ConfirmMessageReceived", message_pb2.ConfirmMessageReceivedRequest(node=node_pb2.Node(node_id=NODE), run_id=RUN)),
        ("PushMessages", fleet_pb2.PushMessagesRequest(node=node_pb2.Node(node_id=NODE))),
        ("PushObject", message_pb2.PushObjectRequest(node=node_pb2.Node(node_id=NODE), session_id="s", object_content=b"DOE")),
    ],
)
def test_a_call_cannot_carry_words_out(coordinator: Coordinator, gateway: Gateway, call: str, message: Any) -> None:
    ask(coordinator, gateway)
    before = len(coordinator.calls)
    with pytest.raises(RefusedError):
        gateway.call(call, message.SerializeToString(), HEADERS)
    assert len(coordinator.calls) == before


def wide() -> Any:
    identify(RUN)
    return Message(pack_request(Request("a" * 64, "run1", 1, np.zeros((1000, 1000), np.float32))), NODE, "train")


def incomplete(coordinator: Coordinator) -> None:
    send(coordinator, request())
    coordinator.objects.popitem()


def never_there(coordinator: Coordinator) -> None:
    send(coordinator, request())
    coordinator.objects = dict.fromkeys(coordinator.objects, b"")


def forged(coordinator: Coordinator) -> None:
    send(coordinator, request())
    coordinator.objects = dict.fromkeys(coordinator.objects, b"something else")


def too_large(coordinator: Coordinator) -> None:
    send(coordinator, wide())


@pytest.mark.parametrize("hostile", [incomplete, never_there, forged, too_large])
def test_a_message_that_is_not_whole_never_reaches_the_supernode(
    coordinator: Coordinator, gateway: Gateway, hostile: Callable[[Coordinator], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("client.admission.ARRIVAL", 0.1)
    hostile(coordinator)
    assert not pull(gateway).messages_list


def test_the_supernode_gets_the_objects_without_another_call(coordinator: Coordinator, gateway: Gateway) -> None:
    message = ask(coordinator, gateway)
    before = len(coordinator.calls)
    for name, content in objects_of(message).items():
        wanted = message_pb2.PullObjectRequest(node=node(), run_id=RUN, object_id=name)
        answer = message_pb2.PullObjectResponse.FromString(gateway.call("PullObject", wanted.SerializeToString(), HEADERS))
        assert answer.object_content == content
    assert len(coordinator.calls) == before


def test_no_coordinator_is_no_news(coordinator: Coordinator, gateway: Gateway) -> None:
    coordinator.dead = True
    assert not pull(gateway).messages_list


def test_news_calls_are_counted(coordinator: Coordinator, gateway: Gateway, tmp_path: Path) -> None:
    for _ in range(7):
        pull(gateway)
    coordinator.lines[-1].close()
    line = read_transcript(tmp_path / "transcript.jsonl")[-1]
    assert (line.call, line.times) == ("PullMessages", 7)
    assert line.headers["flwr-timestamp"] == 25
    assert "x-else" not in line.headers
