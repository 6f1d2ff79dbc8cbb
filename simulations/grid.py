"""Flower's Grid without a SuperLink: the same ServerApp and ClientApp as between machines, in one process or with Ray's actors."""

import itertools
from collections.abc import Callable, Iterable, Sequence

from flwr.app import DEFAULT_TTL, Message, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid
from flwr.supercore.run import Run

from shared.flower import context, empty_run, give_id, identify
from simulations.schedule import Presence

RUN_ID = 1


Deliver = Callable[[Sequence[Message]], Iterable[tuple[Message, Message]]]


class LocalGrid(Grid):
    """Hands messages on at once and keeps the replies until they are pulled.

    Args:
        deliver: gets a round's messages answered; gives each with its reply, in any order.
        nodes: the node ids.
        presence: where a node is for a message; one that is away does not get it, one that is too late is not waited for.
    """

    def __init__(self, deliver: Deliver, nodes: Iterable[int], presence: Callable[[Message], Presence] = lambda _: "here") -> None:
        """Start the run."""
        self._deliver, self._presence = deliver, presence
        self._nodes = tuple(nodes)
        self._replies: dict[str, Message] = {}
        self._numbers = itertools.count(1)
        self._run = empty_run(RUN_ID)
        identify(RUN_ID)

    def set_run(self, run: Run) -> None:
        """Keep Flower's description of the run."""
        self._run = run

    @property
    def run(self) -> Run:
        """Flower's description of the run."""
        return self._run

    def create_message(
        self,
        content: RecordDict,
        message_type: str,
        dst_node_id: int,
        group_id: str,
        ttl: float | None = None,
    ) -> Message:
        """Return a message (Flower's deprecated way to make one)."""
        return Message(content, dst_node_id, message_type, ttl=ttl or DEFAULT_TTL, group_id=group_id)

    def get_node_ids(self) -> Iterable[int]:
        """Return the nodes of this run."""
        return self._nodes

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        """Deliver each message to a node that is there, and return the messages' ids."""
        where: dict[str, Presence] = {}
        asked = []
        for message in messages:
            name = f"message-{next(self._numbers):012d}"
            give_id(message, name)
            where[name] = self._presence(message)
            asked += [message] if where[name] != "away" else []
        for message, reply in self._deliver(asked):
            name = message.metadata.message_id
            self._replies |= {name: reply} if where[name] == "here" else {}
        return list(where)

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        """Return the replies to these messages, each once."""
        return [self._replies.pop(name) for name in message_ids if name in self._replies]

    def send_and_receive(self, messages: Iterable[Message], *, timeout: float | None = None) -> Iterable[Message]:
        """Send and return the replies; nothing here can time out."""
        return self.pull_messages(self.push_messages(messages))


class InProcessGrid(LocalGrid):
    """Runs the ClientApp of every node in this process, one message after the other.

    Args:
        app: the ClientApp; it tells the nodes apart by ``context.node_id``.
        nodes: the node ids.
        presence: see `LocalGrid`.
    """

    def __init__(self, app: ClientApp, nodes: Iterable[int], presence: Callable[[Message], Presence] = lambda _: "here") -> None:
        """Start the run."""
        contexts = {node: context(RUN_ID, node) for node in nodes}

        def deliver(messages: Sequence[Message]) -> Iterable[tuple[Message, Message]]:
            for message in messages:
                yield message, app(message, contexts[message.metadata.dst_node_id])

        super().__init__(deliver, contexts, presence)
