"""A Flower Grid inside one process: the same ServerApp and ClientApp as between machines, without Ray or sockets."""

import itertools
from collections.abc import Callable, Iterable

from flwr.app import DEFAULT_TTL, Message, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid
from flwr.supercore.run import Run

from shared.flower import context, empty_run, give_id, identify
from simulations.schedule import Presence

RUN_ID = 1


class InProcessGrid(Grid):
    """Hands each message to the client app at once and keeps the replies until they are pulled.

    Args:
        app: the ClientApp of every node; it tells them apart by ``context.node_id``.
        nodes: the node ids.
        presence: where a node is for a message; one that is away does not get it, one that is too late is not waited for.
    """

    def __init__(self, app: ClientApp, nodes: Iterable[int], presence: Callable[[Message], Presence] = lambda _: "here") -> None:
        """Start the run."""
        self._presence = presence
        self._app = app
        self._contexts = {node: context(RUN_ID, node) for node in nodes}
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
        """Return the nodes of this process."""
        return list(self._contexts)

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        """Run the client app on each message, and return the messages' ids."""
        names = []
        for message in messages:
            name = f"message-{next(self._numbers):012d}"
            give_id(message, name)
            where = self._presence(message)
            if where != "away":
                reply = self._app(message, self._contexts[message.metadata.dst_node_id])
                self._replies |= {name: reply} if where == "here" else {}
            names.append(name)
        return names

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        """Return the replies to these messages, each once."""
        return [self._replies.pop(name) for name in message_ids if name in self._replies]

    def send_and_receive(self, messages: Iterable[Message], *, timeout: float | None = None) -> Iterable[Message]:
        """Send and return the replies; nothing here can time out."""
        return self.pull_messages(self.push_messages(messages))
