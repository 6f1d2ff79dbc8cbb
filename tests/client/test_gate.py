from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from client.chain import Chain, read_chain
from client.gate import Gate
from shared.errors import RefusedError
from shared.prompt import PromptShape
from shared.wire import Request, sha256, unpack_reply


@pytest.fixture
def gate(tmp_path: Path) -> Gate:
    return Gate(PromptShape(2, 2, 16), Chain(tmp_path / "egress.jsonl"))


def test_what_passes_is_logged_with_its_hash(gate: Gate, ask: Callable[..., Request]) -> None:
    update = np.ones((4, 16), np.float32)
    reply = gate.release(ask(), update)
    [entry] = read_chain(gate.log.path)
    assert entry.body["sha256"] == sha256(unpack_reply(reply))
    assert entry.body["bytes"] == 256


@pytest.mark.parametrize(
    "update",
    [np.ones((4, 15), np.float32), np.ones((4, 16), np.float64), np.full((4, 16), np.inf, np.float32), np.ones((64,), np.float32)],
)
def test_anything_else_stays_inside(gate: Gate, ask: Callable[..., Request], update: np.ndarray) -> None:
    with pytest.raises(RefusedError):
        gate.release(ask(), update)
    assert not gate.log.path.exists()
