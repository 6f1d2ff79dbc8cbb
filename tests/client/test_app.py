"""What a coordinator can see of an error at a site: one code, whatever happened."""

import logging
from collections.abc import Callable

import pytest
from flwr.app import Context, Message, RecordDict
from flwr.common import MessageType

from client.app import FAILED, client_app
from client.hospital import Hospital
from shared.flower import context, deflated_size, give_id, identify
from shared.wire import Request, pack_request, unpack_reply
from tests.client.conftest import Open

SECRET = "DOE, John, MRN 123456"


def send(app: Callable[[Message, Context], Message], content: RecordDict, kind: str = MessageType.TRAIN) -> Message:
    identify(1)
    message = Message(content, 1, kind)
    give_id(message, "m1")
    return app(message, context(1, 1))


def broken(_context: Context) -> Hospital:
    raise ValueError(f"could not parse row: {SECRET}")


@pytest.mark.parametrize("kind", [MessageType.TRAIN, MessageType.EVALUATE, MessageType.QUERY])
def test_no_text_of_an_error_leaves(kind: str, ask: Callable[..., Request]) -> None:
    reply = send(client_app(broken), pack_request(ask()), kind)
    assert reply.has_error()
    assert reply.error.code == FAILED
    assert not reply.error.reason
    assert SECRET not in str(vars(reply)) + str(vars(reply.error))


def test_the_reason_stays_in_the_sites_own_log(ask: Callable[..., Request], caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "promptward.site"):
        send(client_app(broken), pack_request(ask()))
    assert SECRET in caplog.text


def test_an_answer_is_the_tensor_and_at_most_a_kibibyte(open_hospital: Open, ask: Callable[..., Request]) -> None:
    hospital = open_hospital()
    reply = send(client_app(lambda _: hospital), pack_request(ask()))
    assert not reply.has_error()
    assert deflated_size(reply) <= hospital.scorer.shape.nbytes + 1024
    assert list(reply.content) == ["update"]
    assert unpack_reply(reply.content, hospital.proposal.plan.mechanism.dtype).shape == (4, 16)
