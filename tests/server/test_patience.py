"""Who a round waits for, and how long: on a clock that the test turns."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pytest
from flwr.app import Error, Message, RecordDict
from flwr.serverapp import Grid

from server.patience import Patience, PatientGrid
from shared.flower import give_id, identify

PATIENCE = Patience(first=100.0, least=20.0, factor=4.0, absent=30.0)
NAMES = {1: "North", 2: "South", 3: "East"}


@dataclass
class Site:
    """How a site behaves: online in these spans of time, and replying so many seconds after it was asked (None: never)."""

    takes: float | None = 2.0
    online: tuple[tuple[float, float], ...] = ((0.0, 1e9),)

    def activation(self, now: float) -> str | None:
        return next((f"since {start}" for start, end in self.online if start <= now < end), None)


@dataclass
class FakeGrid(Grid):  # type: ignore[misc]
    """Flower's grid as far as a round needs it."""

    sites: dict[int, Site]
    now: float = 0.0
    asked: list[tuple[int, float]] = field(default_factory=list)
    void: list[float] = field(default_factory=list)
    waiting: dict[str, tuple[Message, float, str]] = field(default_factory=dict)

    def sleep(self, seconds: float) -> None:
        self.now += seconds

    def get_nodes(self) -> Iterable[Any]:
        found = {node: site.activation(self.now) for node, site in self.sites.items()}
        return [SimpleNamespace(node_id=node, last_activated_at=since) for node, since in found.items() if since]

    def push_messages(self, messages: Iterable[Message]) -> list[str]:
        names = []
        for message in messages:
            node = message.metadata.dst_node_id
            name = f"m{len(self.asked)}"
            give_id(message, name)
            self.asked.append((node, self.now))
            self.void.append(self.now + message.metadata.ttl)
            self.waiting[name] = (message, self.now, self.sites[node].activation(self.now) or "")
            names.append(name)
        return names

    def pull_messages(self, message_ids: Iterable[str]) -> list[Message]:
        return [reply for name in message_ids if (reply := self._reply(name)) is not None]

    def _reply(self, name: str) -> Message | None:
        message, when, activation = self.waiting[name]
        site = self.sites[message.metadata.dst_node_id]
        if site.activation(self.now) is None:  # Flower writes an error in the site's place
            reply = Message(Error(3, "node unavailable"), reply_to=message)
            reply.metadata.__dict__["_src_node_id"] = 0
            return reply
        alive = site.activation(self.now) == activation
        if alive and site.takes is not None and self.now >= when + site.takes:
            return Message(RecordDict(), reply_to=message)
        return None

    def set_run(self, run: Any) -> None: ...

    @property
    def run(self) -> Any: ...

    def create_message(self, *args: Any, **kwargs: Any) -> Any: ...

    def get_node_ids(self) -> Any: ...

    def send_and_receive(self, messages: Any, *, timeout: float | None = None) -> Any: ...


Play = Callable[..., tuple[PatientGrid, FakeGrid, list[dict[str, str]]]]


@pytest.fixture
def play() -> Play:
    def made(*sites: Site, quorum: int = 2) -> tuple[PatientGrid, FakeGrid, list[dict[str, str]]]:
        identify(1)
        fake = FakeGrid(dict(enumerate(sites, start=1)))
        told: list[dict[str, str]] = []
        names = {node: NAMES[node] for node in fake.sites}
        return PatientGrid(fake, names, quorum, PATIENCE, lambda s: told.append(dict(s)), lambda: fake.now, fake.sleep), fake, told

    return made


def ask(grid: PatientGrid, fake: FakeGrid) -> list[int]:
    replies = grid.send_and_receive([Message(RecordDict(), node, "train") for node in fake.sites])
    return sorted(reply.metadata.src_node_id for reply in replies)


def test_a_round_ends_with_the_last_reply(play: Play) -> None:
    grid, fake, told = play(Site(1.0), Site(3.0), Site(2.0))
    assert ask(grid, fake) == [1, 2, 3]
    assert 3.0 <= fake.now < 4.0
    assert len(fake.asked) == 3
    assert told[-1] == dict.fromkeys(NAMES.values(), "contributed")
    assert {"North": "contributed", "South": "training", "East": "training"} in told


def test_a_site_that_comes_late_to_the_first_round_is_waited_for(play: Play) -> None:
    grid, fake, told = play(Site(), Site(online=((50.0, 1e9),)))
    assert ask(grid, fake) == [1, 2]
    assert 52.0 <= fake.now < 55.0
    assert told[0]["South"] == "away"


def test_a_site_that_was_killed_and_came_back_is_asked_again(play: Play) -> None:
    grid, fake, _ = play(Site(5.0, online=((0.0, 3.0), (10.0, 1e9))), Site(1.0))
    assert ask(grid, fake) == [1, 2]
    assert [node for node, _ in fake.asked] == [1, 2, 1]
    assert 15.0 <= fake.now < 18.0


def test_a_site_that_was_restarted_at_once_is_asked_again(play: Play) -> None:
    grid, fake, _ = play(Site(5.0, online=((0.0, 3.0), (3.0, 1e9))), Site(1.0))
    assert ask(grid, fake) == [1, 2]
    assert [node for node, _ in fake.asked] == [1, 2, 1]
    assert fake.now < 11.0


def test_a_silent_site_costs_a_round_its_deadline_and_no_more(play: Play) -> None:
    grid, fake, _ = play(Site(2.0), Site(2.0), Site(2.0))
    assert ask(grid, fake) == [1, 2, 3]
    fake.sites[3].takes = None
    start = fake.now
    assert ask(grid, fake) == [1, 2]
    assert 20.0 <= fake.now - start < 21.0  # the least deadline, as four times two seconds is less


def test_a_question_is_void_when_its_round_is_over(play: Play) -> None:
    grid, fake, _ = play(Site(2.0), Site(2.0))
    ask(grid, fake)
    start = fake.now
    ask(grid, fake)
    assert fake.void == pytest.approx([100.0, 100.0, start + 20.0, start + 20.0], abs=1.5)


def test_the_deadline_follows_the_slowest_site(play: Play) -> None:
    grid, fake, _ = play(Site(2.0), Site(9.0))
    ask(grid, fake)
    fake.sites[2].takes = None
    start = fake.now
    ask(grid, fake)
    assert 36.0 <= fake.now - start < 38.5


def test_a_site_that_is_long_away_is_not_waited_for_where_the_quorum_is_met(play: Play) -> None:
    grid, fake, told = play(Site(2.0), Site(2.0), Site(2.0, online=((0.0, 4.0),)))
    assert ask(grid, fake) == [1, 2, 3]
    fake.now = 4.0
    ask(grid, fake)  # it is waited for, until the deadline
    fake.now = 60.0
    start = fake.now
    assert ask(grid, fake) == [1, 2]
    assert fake.now - start < 4.0
    assert told[-1]["East"] == "away"


def test_a_site_that_does_not_count_for_the_quorum_does_not_end_a_round_either() -> None:
    """North has replied, South is away, and East, an audit site, has replied: of two hospitals one is there."""
    identify(1)
    fake = FakeGrid({1: Site(), 2: Site(online=((500.0, 1e9),)), 3: Site()})
    ends = []
    for beside in ((3,), ()):
        fake.now = 0.0
        grid = PatientGrid(fake, NAMES, 2, PATIENCE, lambda _: None, lambda: fake.now, fake.sleep, beside=beside)
        assert ask(grid, fake) == [1, 3]
        ends.append(fake.now)
    assert ends[0] > PATIENCE.first > ends[1] > PATIENCE.absent


def test_under_the_quorum_a_site_that_is_away_is_waited_for_until_the_deadline(play: Play) -> None:
    grid, fake, _ = play(Site(2.0), Site(2.0, online=((0.0, 3.0), (18.0, 1e9))))
    assert ask(grid, fake) == [1, 2]
    assert ask(grid, fake) == [1, 2]
    assert fake.now > 20.0


def test_nobody_at_all_is_waited_for_until_the_first_deadline(play: Play) -> None:
    grid, fake, _ = play(Site(online=()), Site(online=()))
    assert ask(grid, fake) == []
    assert 100.0 <= fake.now < 101.5


def test_flowers_own_error_is_no_reply_of_the_site(play: Play) -> None:
    grid, fake, _ = play(Site(50.0, online=((0.0, 3.0),)), Site(1.0))
    assert ask(grid, fake) == [2]
