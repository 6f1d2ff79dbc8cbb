"""Whatever a hospital's own processes would let slip, and whatever a hostile coordinator sends: the edge refuses it."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from flwr.app import Array as FlowerArray
from flwr.app import ArrayRecord, ConfigRecord, Error, Message, MetricRecord, RecordDict
from flwr.proto import fleet_pb2, message_pb2, run_pb2
from flwr.supercore.primitives.asymmetric import sign_message

from client import fleet
from client.fleet import Asked, Terms
from shared.errors import RefusedError
from shared.flower import envelope_of, give_id, identify, objects_of, tree_of
from shared.keys import SiteKey, make_site_key
from shared.wire import FAILED, Request, pack_reply, pack_request, sha256

NODE, RUN, SHAPE, BUNDLE = 77, 5, (4, 16), "b" * 64
UPDATE = np.arange(64, dtype=np.int32).reshape(SHAPE)
SECRET = "DOE, John, MRN 123456"
TERMS = Terms(SHAPE, np.dtype(np.int32), BUNDLE, lambda payload: payload == sha256(UPDATE))


def request() -> Message:
    identify(RUN)
    message = Message(pack_request(Request("a" * 64, "run1", 1, np.zeros(SHAPE, np.float32))), NODE, "train")
    give_id(message, "c" * 64)
    return message


ASKED = {"c" * 64: Asked(RUN, "")}


def pushed(reply: Message) -> tuple[Any, dict[str, bytes]]:
    """What Flower's SuperNode would push for this reply."""
    give_id(reply, reply.object_id)
    node = fleet_pb2.PushMessagesRequest().node
    node.node_id = NODE
    push = fleet_pb2.PushMessagesRequest(
        node=node, messages_list=[envelope_of(reply)], message_object_trees=[tree_of(reply)], clientapp_runtime_list=[1.25]
    )
    return push, objects_of(reply)


def checked(push: Any, contents: Mapping[str, bytes], terms: Terms = TERMS) -> str | None:
    return fleet.check_reply(push, contents, ASKED, NODE, terms)


def reply_of(content: RecordDict) -> Message:
    return Message(content, reply_to=request())


def array(value: np.ndarray, name: str = "update", record: str = "update") -> RecordDict:
    return RecordDict({record: ArrayRecord({name: FlowerArray(value)})})


def with_record(name: str, record: Any) -> RecordDict:
    content = pack_reply(UPDATE)
    content[name] = record
    return content


def two_arrays() -> RecordDict:
    return RecordDict({"update": ArrayRecord({"update": FlowerArray(UPDATE), "more": FlowerArray(UPDATE)})})


def renamed(**changes: Any) -> Message:
    reply = reply_of(pack_reply(UPDATE))
    for key, value in changes.items():
        reply.metadata.__dict__[f"_{key}"] = value
    return reply


def test_an_honest_reply_passes() -> None:
    assert checked(*pushed(reply_of(pack_reply(UPDATE)))) == sha256(UPDATE)


def test_the_fixed_error_code_passes() -> None:
    assert checked(*pushed(Message(Error(FAILED), reply_to=request()))) is None


@pytest.mark.parametrize(
    ("reply", "said"),
    [
        (lambda: reply_of(with_record("metrics", MetricRecord({"num-examples": 12}))), "not the one array"),
        (lambda: reply_of(with_record("config", ConfigRecord({"note": SECRET}))), "not the one array"),
        (lambda: reply_of(with_record("second", ArrayRecord({"update": FlowerArray(UPDATE)}))), "not the one array"),
        (lambda: reply_of(two_arrays()), "not the one array"),
        (lambda: reply_of(array(UPDATE, name=SECRET)), "not the one array"),
        (lambda: reply_of(array(UPDATE, record=SECRET)), "not the one array"),
        (lambda: reply_of(array(UPDATE.astype(np.int64))), "not the one array"),
        (lambda: reply_of(array(UPDATE.astype(np.float32))), "not the one array"),
        (lambda: reply_of(array(np.zeros((4, 17), np.int32))), "the card says"),
        (lambda: reply_of(array(np.zeros((64, 4096), np.int32))), "larger than"),
        (lambda: reply_of(array(np.asfortranarray(UPDATE))), "beside its one array"),
        (lambda: reply_of(array(UPDATE + 1)), "the ledger has not paid"),
        (lambda: reply_of(RecordDict()), "not the one array"),
        (lambda: Message(Error(FAILED, SECRET), reply_to=request()), "an error with a text"),
        (lambda: Message(Error(3), reply_to=request()), "another code"),
        (lambda: Message(Error(0, f"<class 'ValueError'>:<'{SECRET}'>"), reply_to=request()), "an error with a text"),
        (lambda: renamed(message_type=f"train.{SECRET}"), "metadata"),
        (lambda: renamed(group_id=SECRET), "metadata"),
        (lambda: renamed(reply_to_message_id="d" * 64), "answers no request"),
        (lambda: renamed(run_id=6), "metadata"),
        (lambda: renamed(src_node_id=78), "metadata"),
        (lambda: renamed(dst_node_id=78), "metadata"),
    ],
)
def test_anything_but_the_one_paid_array_stays_inside(reply: Callable[[], Message], said: str) -> None:
    with pytest.raises(RefusedError, match=said) as caught:
        checked(*pushed(reply()))
    assert SECRET not in str(caught.value)


def test_a_float_reply_that_is_not_finite_stays_inside() -> None:
    terms = replace(TERMS, dtype=np.dtype(np.float32), paid=lambda _: True)
    with pytest.raises(RefusedError, match="not finite"):
        checked(*pushed(reply_of(array(np.full(SHAPE, np.nan, np.float32)))), terms)


def hidden_bytes(push: Any, contents: dict[str, bytes]) -> None:
    """Bytes after the array inside its chunk, under the right hash."""
    [name] = [name for name, content in contents.items() if content.startswith(b"ArrayChunk")]
    contents[name] += SECRET.encode()


def another_object(push: Any, contents: dict[str, bytes]) -> None:
    contents["e" * 64] = SECRET.encode()


def another_child(push: Any, contents: dict[str, bytes]) -> None:
    push.message_object_trees[0].children.add(object_id="e" * 64)
    contents["e" * 64] = SECRET.encode()


def another_message(push: Any, contents: dict[str, bytes]) -> None:
    push.messages_list.add().CopyFrom(push.messages_list[0])


def other_envelope(push: Any, contents: dict[str, bytes]) -> None:
    push.messages_list[0].metadata.ttl = 1234567.0  # a number could hold a count


def two_times(push: Any, contents: dict[str, bytes]) -> None:
    push.clientapp_runtime_list.append(7.0)


@pytest.mark.parametrize("change", [hidden_bytes, another_object, another_child, another_message, other_envelope, two_times])
def test_what_is_smuggled_beside_an_honest_reply_stays_inside(change: Callable[[Any, dict[str, bytes]], None]) -> None:
    push, contents = pushed(reply_of(pack_reply(UPDATE)))
    change(push, contents)
    with pytest.raises(RefusedError):
        checked(push, contents)


@pytest.mark.parametrize("call", ["RegisterNode", "UnregisterNode", "StartRun", "CreateTask", "../Control/StartRun", ""])
def test_a_call_that_is_not_listed_does_not_leave(call: str) -> None:
    with pytest.raises(RefusedError, match="not among those that may leave"):
        fleet.parse(call, b"")


def test_undeclared_fields_and_bytes_that_are_no_request_do_not_leave() -> None:
    hidden = fleet_pb2.PullMessagesRequest().SerializeToString() + b"\x9a\x06\x05hello"  # field 99
    with pytest.raises(RefusedError, match="fields that nobody declared"):
        fleet.parse("PullMessages", hidden)
    with pytest.raises(RefusedError, match="no PushObject request"):
        fleet.parse("PushObject", b"\xff\xff\xff")


def signed(key: SiteKey, when: str = "2026-11-24T10:00:00+00:00") -> dict[str, str | bytes]:
    """The headers that Flower's SuperNode sends with a call."""
    return {
        "flwr-package-name": "flwr",
        "flwr-package-version": "1.39.0",
        "flwr-component-name": "SuperNode",
        "flwr-public-key-bin": key.public.pem,
        "flwr-timestamp": when,
        "flwr-signature-bin": sign_message(key.private, when.encode("ascii")),
    }


OURS, OTHER = make_site_key(), make_site_key()


def test_headers_are_flowers_own_and_no_others() -> None:
    given = signed(OURS)
    more = [*given.items(), ("x-patient", SECRET), ("user-agent", "grpc")]
    assert fleet.headers(more, OURS.public.pem) == tuple(given.items())


@pytest.mark.parametrize(
    "change",
    [
        {"flwr-package-version": SECRET},
        {"flwr-package-name": SECRET},
        {"flwr-component-name": SECRET},
        {"flwr-public-key-bin": OTHER.public.pem},
        {"flwr-public-key-bin": SECRET.encode()},
        {"flwr-timestamp": SECRET},
        {"flwr-timestamp": "2026-11-24T10:00:01+00:00"},
        {"flwr-signature-bin": SECRET.encode()},
        signed(OURS, SECRET),
        signed(OURS, "2026-11-24"),
        signed(OTHER) | {"flwr-public-key-bin": OURS.public.pem},
    ],
)
def test_headers_carry_no_words(change: dict[str, str | bytes]) -> None:
    with pytest.raises(RefusedError, match="a header holds"):
        fleet.headers((signed(OURS) | change).items(), OURS.public.pem)


def test_a_reply_leaves_with_its_requests_times() -> None:
    asked = {"c" * 64: Asked(RUN, "", 1795514870.0, 43200.0)}
    one, another = (fleet.timeless(*pushed(reply_of(pack_reply(UPDATE))), asked) for _ in range(2))
    assert one == another  # made at two times: not a bit of it tells
    [envelope] = one[0].messages_list
    assert (envelope.metadata.created_at, envelope.metadata.ttl) == (1795514870.0, 43200.0)
    assert list(one[0].clientapp_runtime_list) == [0.0]
    assert fleet.check_reply(*one, asked, NODE, TERMS) == sha256(UPDATE)  # and it is still the honest reply


def incoming(kind: str = "train", **changes: Any) -> tuple[Any, Any]:
    message = request()
    message.metadata.__dict__["_message_type"] = kind
    give_id(message, message.object_id)
    envelope, tree = envelope_of(message), tree_of(message)
    for key, value in changes.items():
        setattr(envelope.metadata, key, value)
    return envelope, tree


def test_a_training_request_comes_in() -> None:
    found = fleet.admit_message(*incoming(), NODE)
    assert (found.run_id, found.group_id) == (RUN, "")
    assert found.ttl > 0


@pytest.mark.parametrize(
    ("message", "said"),
    [
        (incoming("query"), "training only"),
        (incoming("evaluate"), "training only"),
        (incoming("train.secret"), "training only"),
        (incoming("system"), "training only"),
        (incoming(dst_node_id=78), "not addressed"),
        (incoming(reply_to_message_id="f" * 64), "not addressed"),
        (incoming(message_id="f" * 64), "not addressed"),
    ],
)
def test_any_other_message_is_refused(message: tuple[Any, Any], said: str) -> None:
    with pytest.raises(RefusedError, match=said):
        fleet.admit_message(*message, NODE)


def test_a_message_of_many_objects_is_refused() -> None:
    envelope, tree = incoming()
    for number in range(fleet.PARTS):
        tree.children.add(object_id=f"{number:064d}")
    with pytest.raises(RefusedError, match="objects was sent"):
        fleet.admit_message(envelope, tree, NODE)


def hostile_run(**changes: Any) -> Any:
    run = run_pb2.Run(fab_hash=BUNDLE, primary_task_type="flwr-serverapp")
    for key, value in changes.items():
        setattr(run, key, value)
    return run


def overriding() -> Any:
    run = hostile_run()
    run.override_config["noise-multiplier"].double = 0.0
    return run


@pytest.mark.parametrize(
    ("run", "said"),
    [
        (hostile_run(fab_hash="e" * 64), "has pinned"),
        (hostile_run(fab_hash=""), "app bundle is none"),
        (overriding(), "sets noise-multiplier; a hospital takes no setting"),
        (hostile_run(primary_task_type="flwr-agentapp"), "type 'flwr-agentapp'"),
        (hostile_run(primary_task_type="flwr-connector"), "type 'flwr-connector'"),
        (hostile_run(primary_task_type="flwr-model"), "type 'flwr-model'"),
    ],
)
def test_a_run_that_is_not_ours_is_refused(run: Any, said: str) -> None:
    with pytest.raises(RefusedError, match=said):
        fleet.admit_run(run, TERMS)


def test_a_bundle_that_is_not_ours_is_refused() -> None:
    fleet.admit_run(hostile_run(), TERMS)
    fleet.admit_bundle(b"x" * 500, BUNDLE, TERMS)
    with pytest.raises(RefusedError, match="has pinned"):
        fleet.admit_bundle(b"x", "e" * 64, TERMS)
    with pytest.raises(RefusedError, match="larger than one without code"):
        fleet.admit_bundle(b"x" * 9000, BUNDLE, TERMS)


def test_an_object_request_parses_as_itself() -> None:
    raw = message_pb2.PullObjectRequest(run_id=3, object_id="a").SerializeToString()
    assert fleet.parse("PullObject", raw).run_id == 3
