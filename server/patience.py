"""How long a round waits, and for whom: Flower's grid with deadlines, resends and an eye on who is there.

A hospital answers a round once and repeats the same bytes when it is asked again, so asking again is always safe. It is asked
again when it has come back after having been away: a message that it had taken with it is lost.
"""

import time
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from flwr.app import Message, RecordDict
from flwr.serverapp import Grid
from flwr.supercore.run import Run as FlowerRun

LOOK = 0.15  # seconds between two looks for replies
ROLL_CALL = 1.0  # seconds between two looks at who is there
Tell = Callable[[Mapping[str, str]], None]


@dataclass(frozen=True)
class Patience:
    """Seconds. A round waits at most `first` for its first replies, later `factor` times the slowest site's time so far.

    Attributes:
        first: before any site's speed is known, and the upper bound ever after.
        least: lower bound of a later round's deadline.
        factor: times the slowest reply so far.
        absent: a site that was away for longer is not waited for until it is back, where the quorum is met without it.
    """

    first: float = 3600.0
    least: float = 60.0
    factor: float = 4.0
    absent: float = 90.0

    def deadline(self, slowest: float | None) -> float:
        """Return how long the next round may take."""
        return self.first if slowest is None else min(self.first, max(self.least, self.factor * slowest))


@dataclass
class _Place:
    """One site in one round: the messages that ask it, since when, and its activation when it was asked last."""

    message: Message
    asked: list[str] = field(default_factory=list)
    since: float = 0.0
    activation: str = ""
    replied: bool = False


class PatientGrid(Grid):
    """Sends a round's messages through Flower's grid and waits for them with patience.

    Args:
        inner: Flower's grid.
        names: site of each node id.
        quorum: sites that a round needs.
        patience: see `Patience`.
        tell: called with every site's state when one changed.
        clock: seconds; `sleep` waits.
        beside: nodes that do not count for the quorum: an audit site.
    """

    def __init__(
        self,
        inner: Grid,
        names: Mapping[int, str],
        quorum: int,
        patience: Patience,
        tell: Tell,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
        beside: Collection[int] = (),
    ) -> None:
        """Start with nobody seen."""
        self._beside = frozenset(beside)
        self._inner, self._names, self._quorum, self._patience, self._tell = inner, dict(names), quorum, patience, tell
        self._clock, self._sleep = clock, sleep
        self._slowest: float | None = None
        self._away: dict[int, float] = dict.fromkeys(names, self._clock())
        self._here: dict[int, str] = {}
        self._told: dict[str, str] = {}
        self._looked = -ROLL_CALL

    def send_and_receive(self, messages: Iterable[Message], *, timeout: float | None = None) -> Iterable[Message]:
        """Return the replies of a round; `timeout` is not used, our patience is."""
        places = {message.metadata.dst_node_id: _Place(message) for message in messages}
        start, replies = self._clock(), []
        deadline = start + self._patience.deadline(self._slowest)
        while not self._done(places, deadline):
            self._roll_call(places)
            self._ask(places, deadline)
            replies += self._collect(places)
            self._say(places)
            if any(not place.replied for place in places.values()):
                self._sleep(LOOK)
        return replies

    def _done(self, places: Mapping[int, _Place], deadline: float) -> bool:
        """Say whether the round is over: all replied, time is up, or the quorum is met and the rest is away for long."""
        missing = [node for node, place in places.items() if not place.replied]
        if not missing or self._clock() > deadline:
            return True
        enough = len(places.keys() - self._beside) - len(set(missing) - self._beside) >= self._quorum
        return enough and all(self._clock() - self._away.get(node, self._clock()) > self._patience.absent for node in missing)

    def _roll_call(self, places: Mapping[int, _Place]) -> None:
        """See who is there, about once a second."""
        if self._clock() - self._looked < ROLL_CALL:
            return
        self._looked = self._clock()
        self._here = {node.node_id: node.last_activated_at for node in self._inner.get_nodes() if node.node_id in places}
        for node in places:
            if node in self._here:
                self._away.pop(node, None)
            else:
                self._away.setdefault(node, self._clock())

    def _ask(self, places: Mapping[int, _Place], deadline: float) -> None:
        """Ask whoever is there and was not asked since it came.

        The question is void when the round is over: a site that was frozen must not spend its budget on a round of the past.
        """
        for node, activation in self._here.items():
            place = places[node]
            if not place.replied and place.activation != activation:
                old = place.message
                left = max(deadline - self._clock(), 1.0)
                fresh = Message(old.content, node, old.metadata.message_type, ttl=left, group_id=old.metadata.group_id)
                place.asked += [name for name in self._inner.push_messages([fresh]) if name]
                place.activation, place.since = activation, self._clock()

    def _collect(self, places: Mapping[int, _Place]) -> list[Message]:
        """Return the replies that are there; one that Flower wrote itself, because a node was away, is none."""
        asked = {name: (node, place) for node, place in places.items() for name in place.asked}
        replies = []
        for reply in self._inner.pull_messages(list(asked)) if asked else ():
            name = reply.metadata.reply_to_message_id
            node, place = asked[name]
            place.asked.remove(name)
            if reply.metadata.src_node_id != node:  # Flower's own word: the node was away, or its objects never came
                place.activation = place.activation if place.asked else ""
                continue
            place.replied = True
            self._slowest = max(self._slowest or 0.0, self._clock() - place.since)
            replies.append(reply)
        return replies

    def _say(self, places: Mapping[int, _Place]) -> None:
        states = {name: self._state(node, places) for node, name in self._names.items()}
        if states != self._told:
            self._told = states
            self._tell(states)

    def _state(self, node: int, places: Mapping[int, _Place]) -> str:
        place = places.get(node)
        if place and place.replied:
            return "contributed"
        if node not in self._here:
            return "away"
        return "training" if place and place.asked else "connected"

    # ---- the rest of Flower's grid, unchanged ----

    def set_run(self, run: FlowerRun) -> None:
        """Set the run."""
        self._inner.set_run(run)

    @property
    def run(self) -> FlowerRun:
        """Flower's description of the run."""
        return self._inner.run

    def create_message(
        self, content: RecordDict, message_type: str, dst_node_id: int, group_id: str, ttl: float | None = None
    ) -> Message:
        """Return a message (Flower's deprecated way to make one)."""
        return self._inner.create_message(content, message_type, dst_node_id, group_id, ttl)

    def get_node_ids(self) -> Iterable[int]:
        """Return the nodes that are online."""
        return self._inner.get_node_ids()

    def get_nodes(self) -> Iterable[Any]:
        """Return the nodes that are online, with what the SuperLink knows of them."""
        return self._inner.get_nodes()

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        """Send messages."""
        return self._inner.push_messages(messages)

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        """Return the replies that are there."""
        return self._inner.pull_messages(message_ids)
