"""Our Flower strategy: an explicit roster, a quorum, checked replies, and one pure step a round."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace

from flwr.app import ArrayRecord, ConfigRecord, Message, MetricRecord
from flwr.common import MessageType
from flwr.serverapp import Grid
from flwr.serverapp.strategy import Strategy

from server.aggregate import Rule, ServerState, apply
from server.checks import norm_bound, read_update
from server.robust import combine, require_sense
from shared.card import Task, TaskCard
from shared.errors import QuorumError
from shared.flower import deflated_size
from shared.privacy.mechanism import Mechanism, Update, decode
from shared.prompt import Array
from shared.wire import Request, pack_request, sha256


@dataclass(frozen=True)
class RoundSeen:
    """What the coordinator saw in one round.

    Attributes:
        state: the server's state after the round.
        broadcast: the prompt that was sent.
        updates: what each site that counts sent, in the mechanism's dtype; the audit site's is in it, and not in the prompt.
        left_out: the sites that do not count, each with the reason.
        reply_bytes: size of each reply as Flower sends it.
        received: SHA-256 of the payload that came last from each site, in this or an earlier round.
        kept: share of each site's numbers that a robust aggregation used, see `robust.Combined`; empty for the sum.
    """

    state: ServerState
    broadcast: Array
    updates: Mapping[str, Update]
    left_out: Mapping[str, str]
    reply_bytes: Mapping[str, int]
    received: Mapping[str, str]
    kept: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Start:
    """Where a run goes on from: the server's state, and what was received last from each site."""

    state: ServerState
    received: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Run:
    """One run of a task: its name, and the mechanism that every site agreed to."""

    task: Task
    name: str
    mechanism: Mechanism


class RosterStrategy(Strategy):
    """Runs the task's remaining rounds over the sites of the roster.

    Args:
        run: the task and the run's name.
        roster: Flower's node id of each site.
        rule: the server's step.
        start: where to go on from; `Start(init(prompt))` for a new run.
        observe: called after every round, before the next one; it writes checkpoint and transcript.
    """

    def __init__(
        self,
        run: Run,
        roster: Mapping[str, int],
        rule: Rule,
        start: "Start",
        observe: Callable[[RoundSeen], None],
    ) -> None:
        """Keep the parts; nothing is sent yet."""
        require_sense(run.task.card, run.mechanism)
        self.run, self.roster, self.rule, self._observe = run, dict(roster), rule, observe
        self.state, self._received = start.state, dict(start.received)
        self._names = {node: name for name, node in roster.items()}
        self._bound = norm_bound(run.task.card, run.mechanism, start.state.prompt.size)

    def configure_train(self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid) -> Iterable[Message]:
        """Address the same prompt to every site of the roster, and to nobody else."""
        asked = Request(self.run.task.digest, self.run.name, self.state.round + 1, self.state.broadcast)
        return [
            Message(pack_request(replace(asked, last=self._received.get(name, ""))), node, MessageType.TRAIN)
            for name, node in self.roster.items()
        ]

    def aggregate_train(self, server_round: int, replies: Iterable[Message]) -> tuple[ArrayRecord | None, MetricRecord | None]:
        """Check the replies, take the step and let it be observed; raise `QuorumError` when too few count."""
        updates: dict[str, Update] = {}
        left_out: dict[str, str] = {}
        broadcast, sizes = self.state.broadcast, {}
        for reply in replies:
            name = self._names.get(reply.metadata.src_node_id)
            if name is None or name in left_out:
                continue  # not on the roster, or found to lie already
            try:
                update = read_update(reply, broadcast.shape, self.run.mechanism, self._bound)
                if name in updates and sha256(update) != sha256(updates.pop(name)):
                    raise ValueError("it sent two different replies to one round")
                updates[name], sizes[name] = update, deflated_size(reply)
            except ValueError as error:
                updates.pop(name, None)
                left_out[name] = str(error)
        left_out |= {name: "it did not reply" for name in self.roster if name not in updates | left_out}
        card = self.run.task.card
        hospitals = set(card.hospitals)
        require_quorum(card, self.state.round + 1, updates, left_out)
        ordered = {name: updates[name] for name in self.roster if name in updates}  # one order, whoever is faster
        sums = {name: decode(update, self.run.mechanism) for name, update in ordered.items() if name in hospitals}
        combined = combine(sums, card.plan, len(hospitals))
        self.state = apply(self.state, combined.updates, self.rule)
        self._received |= {name: sha256(update) for name, update in ordered.items()}
        self._observe(RoundSeen(self.state, broadcast, ordered, left_out, sizes, dict(self._received), combined.kept))
        return ArrayRecord(), None

    def configure_evaluate(self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid) -> Iterable[Message]:
        """Ask for no evaluation: a site's metrics stay at the site."""
        return []

    def aggregate_evaluate(self, server_round: int, replies: Iterable[Message]) -> MetricRecord | None:
        """Nothing was asked."""
        return None

    def summary(self) -> None:
        """Nothing is logged: what a person should see, the observer shows."""


def require_quorum(card: TaskCard, round_: int, updates: Mapping[str, Update], left_out: Mapping[str, str]) -> None:
    """Raise `QuorumError`, which names every site that is missing and why, when too few sites contributed to a round."""
    there = updates.keys() & set(card.hospitals)  # an audit site makes no prompt, so it makes no quorum
    if len(there) < card.quorum:
        who = "; ".join(f"{name}: {why}" for name, why in left_out.items())
        came = f"{len(there)} of {len(card.hospitals)} sites contributed"
        raise QuorumError(f"round {round_}: {came}, the quorum is {card.quorum}. {who}.")
