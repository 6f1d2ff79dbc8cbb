"""Rounds through Flower with lying, silent and broken sites, a quorum, checkpoints and resume."""

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flwr.app import Array as FlowerArray
from flwr.app import ArrayRecord, ConfigRecord, Context, Error, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp

from server.aggregate import init
from server.app import server_app
from server.checkpoint import RunFolder
from server.rule import rule_of
from server.strategy import RosterStrategy, RoundSeen, Run, Start
from shared.card import Task
from shared.errors import InputError, QuorumError
from shared.flower import context, identify, log_quietly
from shared.privacy.mechanism import Mechanism, without_privacy
from shared.prompt import Array
from shared.wire import pack_reply, unpack_request
from simulations.grid import RUN_ID, InProcessGrid

NOISED = Mechanism(0.5, 1.0, 3.0)
ROSTER = {"North": 1, "South": 2}
NO_GRID: Any = None  # the strategy does not ask it for anything
Lie = Callable[[Message], Message]


def honest(message: Message) -> Message:
    request = unpack_request(message.content)
    return Message(
        pack_reply(np.full(request.prompt.shape, 9000 * request.round + message.metadata.dst_node_id, np.int32)), reply_to=message
    )


def says(content: RecordDict) -> Lie:
    return lambda message: Message(content, reply_to=message)


def holding(update: np.ndarray) -> RecordDict:
    return RecordDict({"update": ArrayRecord({"update": FlowerArray(update)})})


def with_metrics() -> RecordDict:
    content = pack_reply(np.zeros((4, 16), np.int32))
    content["metrics"] = MetricRecord({"num-examples": 12})
    return content


def play(task: Task, start: Start, south: Lie, observe: Callable[[RoundSeen], None]) -> None:
    app = ClientApp()

    @app.train()
    def train(message: Message, _context: Context) -> Message:
        return south(message) if message.metadata.dst_node_id == 2 else honest(message)

    log_quietly()
    server_app(Run(task, "run1", NOISED), ROSTER, start, observe)(InProcessGrid(app, (1, 2, 3)), context(RUN_ID, 0))


def with_plan(task: Task, **changes: object) -> Task:
    card = task.card.model_copy(update={"plan": task.card.plan.model_copy(update=changes)})
    return Task(card, task.text, task.digest)


@pytest.mark.parametrize(
    ("lie", "said"),
    [
        (says(holding(np.zeros((4, 15), np.int32))), "its shape is (4, 15) instead of (4, 16)"),
        (says(holding(np.zeros((4, 16), np.float32))), "its dtype is float32 instead of int32"),
        (says(holding(np.full((4, 16), 2**28, np.int32))), "which no honest site reaches"),
        (says(with_metrics()), "instead of one record 'update'"),
        (says(RecordDict({"update": ConfigRecord()})), "instead of one record 'update'"),
        (lambda message: Message(Error(4242), reply_to=message), "error code 4242; the reason is in the site's own log"),
    ],
)
def test_a_lying_site_is_named_and_left_out(task: Task, prompt: Array, lie: Lie, said: str) -> None:
    seen: list[RoundSeen] = []
    play(with_plan(task, quorum=1), Start(init(prompt)), lie, seen.append)
    assert len(seen) == 6
    for each in seen:
        assert list(each.updates) == ["North"]
        assert said in each.left_out["South"]


@pytest.mark.parametrize(("second", "counts"), [(9000, True), (9001, False)])
def test_a_site_that_sends_two_different_replies_is_left_out(task: Task, prompt: Array, second: int, counts: bool) -> None:
    seen: list[RoundSeen] = []
    run, roster = Run(with_plan(task, quorum=1), "run1", NOISED), {"North": 1, "South": 2}
    strategy = RosterStrategy(run, roster, rule_of(task.card), Start(init(prompt)), seen.append)
    identify(RUN_ID)
    asked = {m.metadata.dst_node_id: m for m in strategy.configure_train(1, ArrayRecord(), ConfigRecord(), NO_GRID)}
    values = ((1, 9000), (2, 9000), (2, second))
    strategy.aggregate_train(1, [Message(pack_reply(np.full((4, 16), v, np.int32)), reply_to=asked[node]) for node, v in values])
    assert ("South" in seen[0].updates) is counts
    assert counts or seen[0].left_out["South"] == "it sent two different replies to one round"


def test_a_round_under_quorum_fails_loudly_and_changes_nothing(task: Task, prompt: Array) -> None:
    seen: list[RoundSeen] = []
    with pytest.raises(QuorumError, match=r"round 1: 1 of 2 sites contributed, the quorum is 2. South: its shape"):
        play(task, Start(init(prompt)), says(holding(np.zeros((1, 1), np.int32))), seen.append)
    assert not seen


def test_a_reply_from_off_the_roster_does_not_count(task: Task, prompt: Array) -> None:
    def masked(message: Message) -> Message:
        reply = honest(message)
        reply.metadata.__dict__["_src_node_id"] = 3
        return reply

    with pytest.raises(QuorumError, match="South: it did not reply"):
        play(task, Start(init(prompt)), masked, lambda _: None)


def test_every_site_gets_the_same_prompt_and_only_the_roster_is_asked(task: Task, prompt: Array) -> None:
    asked: list[tuple[int, int, bytes]] = []

    def recording(message: Message) -> Message:
        request = unpack_request(message.content)
        asked.append((message.metadata.dst_node_id, request.round, request.prompt.tobytes()))
        return honest(message)

    play(task, Start(init(prompt)), recording, lambda _: None)
    assert [(node, round_) for node, round_, _ in asked] == [(2, n) for n in range(1, 7)]


class Killed(Exception):
    """The coordinator's process ends here."""


@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
@pytest.mark.parametrize("stop", [1, 4, 6])
def test_a_resumed_run_has_the_same_numbers(task: Task, prompt: Array, tmp_path: Path, stop: int, optimizer: str) -> None:
    task = with_plan(task, optimizer=optimizer)
    run = Run(task, "run1", NOISED)

    def keep(folder: RunFolder, until: int) -> Callable[[RoundSeen], None]:
        def observe(seen: RoundSeen) -> None:
            if seen.state.round > until:
                raise Killed
            folder.save(run, seen)

        return observe

    whole = RunFolder(tmp_path / "whole", tmp_path / "whole-sent")
    play(task, Start(init(prompt)), honest, keep(whole, 99))
    cut = RunFolder(tmp_path / "cut", tmp_path / "cut-sent")
    if stop < 6:
        with pytest.raises(Killed):
            play(task, Start(init(prompt)), honest, keep(cut, stop))
    else:
        play(task, Start(init(prompt)), honest, keep(cut, stop))
    saved = cut.latest(run)
    assert saved
    assert saved.state.round == stop
    play(task, saved, honest, keep(cut, 99))
    one, other = whole.latest(run), cut.latest(run)
    assert one
    assert other
    assert one.state.published.tobytes() == other.state.published.tobytes()
    assert one.received == other.received
    for path in sorted((tmp_path / "whole-sent").iterdir()):
        assert path.read_bytes() == (tmp_path / "cut-sent" / path.name).read_bytes()


def test_a_checkpoint_of_another_run_is_refused(task: Task, prompt: Array, tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "a", tmp_path / "b")
    play(task, Start(init(prompt)), honest, lambda seen: folder.save(Run(task, "run1", NOISED), seen))
    with pytest.raises(InputError, match="another task or run; name another folder"):
        folder.latest(Run(task, "run1", without_privacy(0.5)))
    assert folder.latest(Run(task, "run1", NOISED)) is not None


def test_the_transcript_holds_what_was_sent(task: Task, prompt: Array, tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "a", tmp_path / "sent")
    play(task, Start(init(prompt)), honest, lambda seen: folder.save(Run(task, "run1", NOISED), seen))
    with np.load(tmp_path / "sent" / "round-00001.npz") as sent:
        assert sorted(sent) == ["broadcast", "update/North", "update/South"]
        assert (sent["broadcast"] == prompt).all()
        assert (sent["update/South"] == 9002).all()


FIVE = ("A", "B", "C", "D", "E")


@pytest.mark.parametrize(("rule", "tolerate", "noised"), [("median", None, True), ("trimmed-mean", 1, True), ("krum", 1, False)])
def test_a_robust_rule_is_used_and_resumed(
    task: Task, prompt: Array, tmp_path: Path, rule: str, tolerate: int | None, noised: bool
) -> None:
    task = with_plan(task, aggregation=rule, tolerate=tolerate, sites=FIVE)
    mechanism = NOISED if noised else without_privacy(0.5)
    run, roster = Run(task, "run1", mechanism), {name: node for node, name in enumerate(FIVE, start=1)}
    app = ClientApp()

    @app.train()
    def train(message: Message, _context: Context) -> Message:
        request, node = unpack_request(message.content), message.metadata.dst_node_id
        value = 200_000 if node == 5 else 9000 * request.round + node
        return Message(pack_reply(np.full(request.prompt.shape, value).astype(mechanism.dtype)), reply_to=message)

    def played(start: Start, folder: RunFolder, until: int) -> list[RoundSeen]:
        seen: list[RoundSeen] = []

        def observe(each: RoundSeen) -> None:
            if each.state.round > until:
                raise Killed
            seen.append(each)
            folder.save(run, each)

        log_quietly()
        with suppress(Killed):
            server_app(run, roster, start, observe)(InProcessGrid(app, roster.values()), context(RUN_ID, 0))
        return seen

    whole, cut = RunFolder(tmp_path / "a", tmp_path / "b"), RunFolder(tmp_path / "c", tmp_path / "d")
    seen = played(Start(init(prompt)), whole, 99)
    assert all(list(each.updates) == list(FIVE) and not each.left_out for each in seen)  # it is heard, and set aside
    assert all(each.kept["E"] == 0 for each in seen)
    played(Start(init(prompt)), cut, 3)
    saved = cut.latest(run)
    assert saved
    played(saved, cut, 99)
    one, other = whole.latest(run), cut.latest(run)
    assert one
    assert other
    assert one.state.published.tobytes() == other.state.published.tobytes()


def test_a_strategy_is_not_made_for_krum_with_noise(task: Task, prompt: Array) -> None:
    with pytest.raises(InputError, match="choose 'trimmed-mean' or 'median'"):
        play(with_plan(task, aggregation="krum", tolerate=1, sites=FIVE), Start(init(prompt)), honest, lambda _: None)
