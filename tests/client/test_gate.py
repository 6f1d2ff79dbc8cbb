from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from client.chain import Chain, read_chain
from client.gate import Gate
from shared.errors import RefusedError
from shared.prompt import PromptShape
from shared.wire import Request, sha256, unpack_reply


@pytest.fixture
def log(tmp_path: Path) -> Iterator[Chain]:
    chain = Chain(tmp_path / "egress.jsonl")
    yield chain
    chain.close()


@pytest.fixture
def gate(log: Chain) -> Gate:
    return Gate(PromptShape(2, 2, 16), np.dtype(np.int32), log)


def test_what_passes_is_logged_with_its_hash(gate: Gate, ask: Callable[..., Request]) -> None:
    update = np.ones((4, 16), np.int32)
    reply = gate.release(ask(), update)
    [entry] = read_chain(gate.log.path)
    assert entry.body["sha256"] == sha256(unpack_reply(reply, gate.dtype))
    assert entry.body["bytes"] == 256


@pytest.mark.parametrize(
    "update",
    [np.ones((4, 15), np.int32), np.ones((4, 16), np.int64), np.ones((4, 16), np.float32), np.ones((64,), np.int32)],
)
def test_anything_else_stays_inside(gate: Gate, ask: Callable[..., Request], update: np.ndarray) -> None:
    with pytest.raises(RefusedError):
        gate.release(ask(), update)
    assert not gate.log.path.exists()


def test_a_float_that_is_not_finite_stays_inside_too(log: Chain, ask: Callable[..., Request]) -> None:
    gate = Gate(PromptShape(2, 2, 16), np.dtype(np.float32), log)
    with pytest.raises(RefusedError, match="not finite"):
        gate.release(ask(), np.full((4, 16), np.inf, np.float32))
