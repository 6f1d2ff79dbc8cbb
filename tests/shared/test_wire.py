import numpy as np
import pytest
from flwr.app import ArrayRecord, ConfigRecord, MetricRecord, RecordDict

from shared.errors import RefusedError
from shared.prompt import Array
from shared.wire import Request, pack_reply, pack_request, sha256, unpack_reply, unpack_request

FLOAT = np.dtype(np.float32)


def test_a_request_survives_the_wire(prompt: Array) -> None:
    sent = Request("d" * 64, "run1", 3, prompt)
    got = unpack_request(pack_request(sent))
    assert (got.task_digest, got.run, got.round) == (sent.task_digest, "run1", 3)
    assert (got.prompt == prompt).all()


def test_a_request_with_more_in_it_is_refused(prompt: Array) -> None:
    content = pack_request(Request("d" * 64, "run1", 3, prompt))
    content["more"] = ConfigRecord({"noise": 0.0})
    with pytest.raises(RefusedError, match="holds more than"):
        unpack_request(content)
    with pytest.raises(RefusedError, match="not one of ours"):
        unpack_request(RecordDict())
    endless = pack_request(Request("d" * 64, "run1", 3, prompt))
    endless.config_records["round"]["round"] = float("inf")
    with pytest.raises(RefusedError, match="not one of ours"):
        unpack_request(endless)


def test_a_reply_is_one_array_and_nothing_else(prompt: Array) -> None:
    reply = pack_reply(prompt)
    assert list(reply) == ["update"]
    assert (unpack_reply(reply, FLOAT) == prompt).all()
    with pytest.raises(ValueError, match="its dtype is float32 instead of int32"):
        unpack_reply(reply, np.dtype(np.int32))
    reply["metrics"] = MetricRecord({"num-examples": 17})
    with pytest.raises(ValueError, match="instead of one record"):
        unpack_reply(reply, FLOAT)
    with pytest.raises(ValueError, match="instead of one record"):
        unpack_reply(RecordDict({"updates": ArrayRecord()}), FLOAT)


def test_the_hash_covers_shape_and_bytes() -> None:
    flat = np.zeros(4, np.float32)
    assert sha256(flat) != sha256(flat.reshape(2, 2))
    assert sha256(flat) != sha256(flat + 1)
