"""A hospital's own prompt: the arithmetic by hand, and what survives a kill at every point of a round."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from client.hospital import Hospital
from client.personal import Rule, State, points
from client.round import answer
from client.shelf import Shelf
from server.aggregate import Rule as ServerRule
from server.aggregate import apply, init
from shared.card import Task
from shared.errors import InputError, RefusedError, RunError
from shared.privacy.mechanism import Mechanism, Update
from shared.prompt import Array
from shared.wire import Request, sha256, unpack_reply
from tests.client.conftest import Open, cut_off

Ask = Callable[..., Request]
FLOAT = Mechanism(1.0, 1.0, 0.0, exact=False)
RULE = Rule(learning_rate=0.1, pull=2.0, denominator=5.0, own_from=0, average_from=3, mechanism=FLOAT)
EXACT = replace(RULE, mechanism=Mechanism(0.5, 1.0, 3.0))  # that of the hospitals here


def test_a_move_by_hand() -> None:
    broadcast = np.array([[1.0, 2.0]], dtype=np.float32)
    assert RULE.point(None, broadcast).tolist() == [[1.0, 2.0]]
    one = RULE.moved(None, broadcast, np.array([[10.0, -5.0]]), 2)
    np.testing.assert_allclose(one.prompt, [[0.8, 2.1]])  # 1 - .1 * 10 / 5, 2 + .1 * 5 / 5; not drawn back, it was there
    two = RULE.moved(one, np.array([[1.8, 2.1]], dtype=np.float32), np.array([[0.0, 5.0]]), 3)
    np.testing.assert_allclose(two.prompt, [[1.0, 2.0]], atol=1e-6)  # .8 + .2 * (1.8 - .8), 2.1 - .1 * 5 / 5
    assert (two.moves, one.late_count, two.late_count) == (2, 0, 1)
    assert one.published.tolist() == one.prompt.astype(np.float32).tolist()
    three = RULE.moved(two, np.array([[1.0, 2.0]], dtype=np.float32), np.array([[-5.0, 0.0]]), 4)
    np.testing.assert_allclose(three.published, (two.prompt + three.prompt) / 2, rtol=1e-6)


def test_rows_that_are_shared_are_the_broadcasts() -> None:
    rule, broadcast = replace(RULE, own_from=-1), np.array([[1.0], [2.0], [3.0]], dtype=np.float32)
    after = rule.moved(None, broadcast, np.array([[5.0], [5.0], [5.0]]), 1)
    np.testing.assert_allclose(after.prompt, [[1.0], [2.0], [2.9]])
    np.testing.assert_allclose(rule.point(after, broadcast + 7), [[8.0], [9.0], [2.9]])


def test_plain_sgd_on_the_sums_leads_to_the_mean_of_the_sites_own_prompts() -> None:
    """Pulls add up to zero: w = mean of w_k holds but for float32's rounding; with another rate at the sites it does not."""
    public = np.random.default_rng(0)
    sums = public.standard_normal((6, 4, 3, 8))  # (rounds, sites, P+L, D)
    server = ServerRule("sgd", 0.1, 0.0, 4 * RULE.denominator, 7)

    def gap(rule: Rule) -> float:
        state, own = init(np.ones((3, 8), dtype=np.float32)), dict[int, State]()
        for round_, updates in enumerate(sums, start=1):
            own = {site: rule.moved(own.get(site), state.broadcast, update, round_) for site, update in enumerate(updates)}
            state = apply(state, list(updates), server)
        assert max(float(np.abs(mine.prompt - state.prompt).max()) for mine in own.values()) > 0.01  # and each is another one
        return float(np.abs(np.mean([mine.prompt for mine in own.values()], axis=0) - state.prompt).max())

    assert gap(RULE) < 1e-6
    assert gap(replace(RULE, learning_rate=0.2)) > 1e-3  # another learning rate than the coordinator's: no longer its mean


def test_pulls_at_their_ends() -> None:
    broadcast, update = np.full((2, 3), 4.0, dtype=np.float32), np.full((2, 3), 5.0)
    far = State(1, "", 1, np.zeros((2, 3)), np.zeros((2, 3)), 0)
    np.testing.assert_allclose(replace(RULE, pull=10.0).moved(far, broadcast, update, 2).prompt, 3.9)  # back at the broadcast
    np.testing.assert_allclose(replace(RULE, pull=0.0).moved(far, broadcast, update, 2).prompt, -0.1)  # never looks at it


@pytest.fixture
def open_own(open_hospital: Open, tmp_path: Path) -> Callable[..., Hospital]:
    def opened(**changes: object) -> Hospital:
        hospital = open_hospital()
        hospital.own = Shelf(tmp_path / "own", EXACT)
        for name, value in changes.items():
            setattr(hospital, name, value)
        return hospital

    return opened


Own = Callable[..., Hospital]


def sent(hospital: Hospital, request: Request) -> Update:
    return unpack_reply(hospital.respond(request), np.dtype(np.int32))


def test_the_gradient_is_taken_at_the_sites_own_prompt(open_own: Own, ask: Ask, tmp_path: Path) -> None:
    seen: list[Array] = []

    def step(*args: object) -> Update:
        seen.append(args[1])  # type: ignore[arg-type]
        return answer(*args)  # type: ignore[arg-type]

    hospital, requests = open_own(step=step), [ask(n, shift=n) for n in (1, 2, 3)]
    updates = {request.round: sent(hospital, request) for request in requests}
    expected = points(EXACT, [request.prompt for request in requests], updates)
    assert [point.tobytes() for point in seen] == [point.tobytes() for point in expected]
    assert seen[0].tobytes() == requests[0].prompt.tobytes() != seen[1].tobytes() != requests[1].prompt.tobytes()
    assert [event.asked for event in hospital.ledger.events] == [sha256(r.prompt) for r in requests]  # type: ignore[union-attr]
    files = sorted((tmp_path / "own").iterdir())
    assert [file.stem[-1] for file in files] == ["2", "3"]
    assert all(file.stat().st_mode & 0o077 == 0 for file in files)


@pytest.mark.parametrize(
    "point",
    [
        ("outbox", "keep", False, False),
        ("outbox", "keep", True, False),
        ("own", "keep", True, False),
        ("ledger", "charge", True, True),
        ("gate", "let_out", True, True),
    ],
)
@pytest.mark.parametrize("resent", [True, False])
def test_killed_at_any_point_it_has_moved_once_if_it_paid(
    point: tuple[str, str, bool, bool],
    resent: bool,
    open_own: Own,
    ask: Ask,
    tmp_path: Path,
) -> None:
    """Round 2 is cut off at one point; then it is asked for again, or the run goes on without it. Round 3 starts where it must."""
    part, method, after, charged = point
    hospital, one, two, three = open_own(), ask(1), ask(2, shift=0.5), ask(3, shift=0.25)
    updates = {1: sent(hospital, one)}
    cut_off(hospital, two, part, method, after)
    kept = np.load(tmp_path / "outbox/run1-2.npy") if charged else None
    seen: list[Array] = []

    def step(*args: object) -> Update:
        seen.append(args[1])  # type: ignore[arg-type]
        return answer(*args)  # type: ignore[arg-type]

    hospital = open_own(step=step)
    if charged:
        updates[2] = kept
    if resent:
        updates[2] = sent(hospital, two)
        assert kept is None or updates[2].tobytes() == kept.tobytes()
        sent(hospital, two)  # and again: a resend moves nothing
    sent(hospital, three)
    assert seen[-1].tobytes() == points(EXACT, [r.prompt for r in (one, two, three)], updates)[2].tobytes()
    assert len(hospital.ledger.events) == 2 + (charged or resent)  # type: ignore[union-attr]


def test_what_is_lost_or_comes_too_late_is_refused(open_own: Own, ask: Ask, tmp_path: Path) -> None:
    hospital = open_own()
    for round_ in (1, 3):
        hospital.respond(ask(round_))
    with pytest.raises(RefusedError, match="round 2 comes after a later one was answered"):
        hospital.respond(ask(2))
    hospital.respond(ask(3))  # a resend needs no file
    [path] = (tmp_path / "own").glob("*-run1-3.npz")
    whole = path.read_bytes()
    path.write_bytes(whole[:100])
    with pytest.raises(RunError, match="cannot be read"):
        hospital.respond(ask(4))
    path.unlink()
    with pytest.raises(RefusedError, match="own prompt after round 3, is gone"):
        hospital.respond(ask(4))
    path.write_bytes(whole)
    hospital.respond(ask(4))
    hospital.respond(ask(1, run="run2"))  # another run starts at its own broadcast
    assert hospital.own is not None
    state = hospital.own.newest(ask().task_digest, "run1", hospital.ledger.events)  # type: ignore[union-attr]
    assert state is not None
    assert (state.round, state.moves) == (4, 3)


def test_without_a_ledger_the_newest_file_counts(tmp_path: Path) -> None:
    shelf, broadcast = Shelf(tmp_path / "own", RULE, durable=False), np.zeros((1, 2), dtype=np.float32)
    for round_ in (1, 2, 3):
        before = shelf.before("task", "seed0", round_, None)
        assert (before.round if before else 0) == round_ - 1
        shelf.keep("task", "seed0", before, RULE.moved(before, broadcast, np.ones((1, 2)), round_))
    before = shelf.before("task", "seed0", 3, None)  # asked again after its checkpoint was lost
    assert before is not None
    assert before.round == 2
    assert shelf.newest("task", "seed0", None) is not None
    with pytest.raises(RefusedError, match="before round 2 is gone"):
        shelf.before("task", "seed0", 2, None)


def test_a_card_says_what_makes_sense(task: Task) -> None:
    def parsed(table: str, plan: str = "", prompt: str = "") -> Task:
        text = task.text.replace("[plan]", f"[plan]\n{plan}").replace("rows = 2", f"rows = 2\n{prompt}")
        return Task.parse(f"{text}\n[plan.personal]\n{table}", "card.toml")

    assert parsed("learning_rate = 0.5\npull = 2.0").card.plan.personal is not None
    with pytest.raises(InputError, match="set local_steps = 1"):
        parsed("learning_rate = 0.5\npull = 1.0", "local_steps = 2")
    with pytest.raises(InputError, match="it overshoots; lower pull"):
        parsed("learning_rate = 0.5\npull = 3.0")
    with pytest.raises(InputError, match=r"needs \[prompt\] label_rows"):
        parsed('learning_rate = 0.5\npull = 1.0\nrows = "labels"', prompt="label_rows = false")
