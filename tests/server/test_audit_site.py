"""An audit site is asked, checked and kept; the prompt is what it would be without it."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from flwr.app import Context, Error, Message
from flwr.clientapp import ClientApp

from client.opening import proposal_of
from server.aggregate import init
from server.app import server_app
from server.robust import combine
from server.strategy import RoundSeen, Run, Start
from shared.card import Task
from shared.errors import QuorumError
from shared.flower import context, log_quietly
from shared.privacy.mechanism import Mechanism
from shared.privacy.planned import mechanism_of
from shared.prompt import Array
from shared.wire import pack_reply, unpack_request
from simulations.grid import RUN_ID, InProcessGrid
from tests.shared.test_canaries import audited

LINES = f'[audit]\nsite = "Watch"\ncommitment = "{"0" * 64}"\n'
NODES = {"North": 1, "South": 2, "Watch": 3}
Answer = Callable[[Message], Message]


def says(value: int) -> Answer:
    def answer(message: Message) -> Message:
        shape = unpack_request(message.content).prompt.shape
        return Message(pack_reply(np.full(shape, value, np.int32)), reply_to=message)

    return answer


def fails(message: Message) -> Message:
    return Message(Error(4242), reply_to=message)


def play(task: Task, prompt: Array, answers: dict[str, Answer]) -> list[RoundSeen]:
    app, seen = ClientApp(), list[RoundSeen]()
    by_node = {NODES[name]: answer for name, answer in answers.items()}

    @app.train()
    def train(message: Message, _context: Context) -> Message:
        return by_node[message.metadata.dst_node_id](message)

    log_quietly()
    roster = {name: NODES[name] for name in answers}
    run = Run(task, "run1", Mechanism(0.5, 1.0, 3.0))
    server_app(run, roster, Start(init(prompt)), seen.append)(InProcessGrid(app, by_node), context(RUN_ID, 0))
    return seen


HOSPITALS: dict[str, Answer] = {"North": says(9000), "South": says(-4000)}


def test_the_prompt_is_the_same_bit_for_bit_whatever_the_audit_site_sends(task: Task, prompt: Array) -> None:
    without = play(task, prompt, HOSPITALS)
    for value in (0, 12_345):
        with_it = play(audited(task, LINES), prompt, HOSPITALS | {"Watch": says(value)})
        for mine, other in zip(with_it, without, strict=True):
            assert mine.broadcast.tobytes() == other.broadcast.tobytes()
            assert mine.state.prompt.tobytes() == other.state.prompt.tobytes()
            assert mine.state.published.tobytes() == other.state.published.tobytes()
            assert list(mine.updates) == ["North", "South", "Watch"]
            assert (mine.updates["Watch"] == value).all()
            assert set(mine.received) == set(NODES)
    card = audited(task, LINES).card.model_copy(update={"audit": None})
    summed = play(replace(task, card=card), prompt, HOSPITALS | {"Watch": says(9)})
    assert summed[-1].state.prompt.tobytes() != without[-1].state.prompt.tobytes()


def test_the_audit_site_neither_makes_nor_breaks_a_quorum(task: Task, prompt: Array) -> None:
    seen = play(audited(task, LINES), prompt, HOSPITALS | {"Watch": fails})
    assert len(seen) == 6
    assert "error code 4242" in seen[0].left_out["Watch"]
    with pytest.raises(QuorumError, match="1 of 2 sites contributed, the quorum is 2"):
        play(audited(task, LINES), prompt, {"North": says(1), "South": fails, "Watch": says(1)})


def test_a_lying_audit_site_is_left_out_like_any_other(task: Task, prompt: Array) -> None:
    seen = play(audited(task, LINES), prompt, HOSPITALS | {"Watch": says(2**28)})
    assert "which no honest site reaches" in seen[0].left_out["Watch"]


def test_local_steps_and_robust_rules_count_hospitals_only(task: Task) -> None:
    card = audited(task, LINES)
    ours, theirs = (proposal_of(it, mechanism_of(it.card)).plan.denominator for it in (card, task))
    assert ours == theirs
    plan: Any = card.card.plan.model_copy(update={"aggregation": "median"})
    updates = {name: np.full((2, 2), value) for name, value in (("North", 1.0), ("South", 3.0), ("West", 2.0))}
    assert (combine(updates, plan, 3).updates[0] == 6.0).all()
