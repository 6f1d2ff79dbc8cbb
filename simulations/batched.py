"""The batched engine: a round of all sites at once, by `simulations.stack`, with each site's ledger, gate and files.

It is the fast twin of `federation.run_seed` with its hospitals and Flower messages: the same coins, the same noise, and the same
prompt up to floating point.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from flwr.app import Message
from flwr.common import MessageType

from client.carry import Carries, carries_of
from client.chain import Chain
from client.control import Control, control_of
from client.gate import Gate
from client.hospital import Hospital
from client.ledger import Event, Ledger
from client.opening import proposal_of, shelf_of
from client.outbox import Outbox
from client.personal import State
from client.round import LocalPlan, answer
from client.shelf import Shelf
from server.aggregate import ServerState, apply, init
from server.checkpoint import RunFolder
from server.robust import combine
from server.rule import rule_of
from server.strategy import RoundSeen, Run, Start, require_quorum
from shared.errors import RunError
from shared.flower import deflated_size, identify
from shared.privacy.accounting import Spent
from shared.privacy.banded import Carry
from shared.privacy.mechanism import Update, decode
from shared.privacy.source import SimulationSource
from shared.prompt import Array
from shared.wire import Request, pack_reply, sha256, unpack_reply
from simulations.federation import EGRESS, LEDGER, Federation, Stopwatch, books, hospital, nodes, spent_by
from simulations.grid import RUN_ID
from simulations.stack import answers, answers_in_turn, stack


@dataclass(frozen=True)
class _Books:
    """A simulated site's ledger, gate, shelf of its own prompt, and what rounds leave to later ones; kept as a hospital does."""

    ledger: Ledger | None  # None without privacy
    gate: Gate
    own: Shelf | None
    carries: Carries | None
    control: Control | None
    outbox: Outbox  # of a site with a control, which looks back at what it sent

    def controlled(self, plan: LocalPlan, request: Request) -> LocalPlan:
        """Return the plan by which the site moves between the local steps of a round."""
        if self.control is None:
            return plan
        self.control.keep(request)
        return self.control.plan(plan, request, self.outbox, self.ledger)

    def carried(self, event: Event, numbers: int) -> Carry:
        """Return what the site takes into the round of a charge to come."""
        assert self.carries  # noqa: S101 (for the type checker)
        assert self.ledger  # noqa: S101
        return self.carries.before(event, self.ledger.events, numbers)

    def begin(self, event: Event) -> State | None:
        """Return in which state the site's own prompt starts the round of a charge to come."""
        if self.own is None:
            return None
        return self.own.before(event.task, event.run, event.round, self.ledger.events if self.ledger else None)

    def settle(self, event: Event, broadcast: Array, before: State | None, update: Update, after: Carry | None = None) -> None:
        """Charge once; a round that an interrupted run had charged gave the same bytes, because its streams are seeded."""
        if self.own:
            self.own.keep(event.task, event.run, before, self.own.rule.moved(before, broadcast, update, event.round))
        if self.control:
            self.outbox.keep(event.run, event.round, update)
        if self.carries and self.ledger and after:
            self.carries.keep(event, after, self.ledger.events)
        if self.ledger is None:
            return
        earlier = self.ledger.find(event.task, event.run, event.round)
        if earlier is None:
            self.ledger.charge(event)
        elif earlier.payload != event.payload:
            raise RunError(f"{self.ledger.path}: round {event.round} was charged for other bytes; start a new run.")
        self.gate.let_out(event.task, event.run, event.round, update)


def run_seed(
    federation: Federation, seed: int, out: Path, watch: Stopwatch, observe: Callable[[RoundSeen], None]
) -> tuple[Array, dict[str, Spent]]:
    """Run, or go on with, one seed, as `federation.run_seed` does and with the same files; see there."""
    identify(RUN_ID)
    run = Run(federation.task, f"seed{seed}", federation.mechanism)
    folder, home = RunFolder(out / "checkpoints" / run.name, out / "transcript" / run.name), books(out, seed)
    stacked = stack(federation.pools)
    own_books = [_books(federation, home / name) for name in stacked.names]
    audit = _audit_site(federation, seed, home)
    start = folder.latest(run) or Start(init(federation.initial))
    plan, work, turns = proposal_of(federation.task, federation.mechanism).plan, watch.timed(answers), watch.timed(answers_in_turn)
    state, received = start.state, dict(start.received)
    while state.round < federation.task.card.plan.rounds:
        broadcast, number = state.broadcast, state.round + 1
        where = {
            name: federation.schedule.presence(seed, name, number, federation.task.card.plan.rounds)
            for name in nodes(federation).values()
        }
        asked = [site for site, name in enumerate(stacked.names) if where[name] != "away"]
        charge = _event(federation, run.name, number, sha256(broadcast))
        before = {site: own_books[site].begin(charge) for site in asked}
        facts = (broadcast, plan, federation.scorer, SimulationSource(seed), run.name, number)
        if plan.mechanism.bands > 1:
            carries = {site: own_books[site].carried(charge, broadcast.size) for site in asked}
            taken = turns(stacked, carries, *facts) if asked else {}
            found = {site: update for site, (update, _) in taken.items()}
        else:
            points = {site: own.rule.point(before[site], broadcast) for site in asked if (own := own_books[site].own)}
            request = Request(federation.task.digest, run.name, number, broadcast)
            controlled = {site: own_books[site].controlled(plan, request) for site in asked}
            carries, taken = {}, {}
            found = work(stacked, asked, *facts, points=points, controlled=controlled) if asked else {}
        for site, update in found.items():
            cost = plan.releases(carries[site].turn if carries else 0)
            mine = replace(charge, payload=sha256(update), releases=cost)
            own_books[site].settle(mine, broadcast, before[site], update, taken[site][1] if taken else None)
        sent = {stacked.names[site]: update for site, update in found.items()}
        for name, watched in audit.items():
            if where[name] != "away":
                request = Request(federation.task.digest, run.name, number, broadcast, received.get(name, ""))
                sent[name] = unpack_reply(watched.respond(request), federation.mechanism.dtype)
        seen = _close(run, state, broadcast, {name: update for name, update in sent.items() if where[name] == "here"}, received)
        state, received = seen.state, dict(seen.received)
        observe(seen)
        folder.save(run, seen)
    return state.published, spent_by(federation, home)


def _audit_site(federation: Federation, seed: int, home: Path) -> dict[str, Hospital]:
    """Open the audit site, where there is one: it has no patients to batch, and answers as in the readable twin."""
    names = [name for name in nodes(federation).values() if name not in federation.pools]
    return {name: hospital(federation, name, seed, home, answer) for name in names}


def _close(run: Run, state: ServerState, broadcast: Array, updates: Mapping[str, Update], received: Mapping[str, str]) -> RoundSeen:
    """Take the server's step; every reply is as large as the first, which is packed as Flower would send it."""
    card = run.task.card
    left_out = {name: "it did not reply" for name in card.plan.sites if name not in updates}
    require_quorum(card, state.round + 1, updates, left_out)
    hospitals = frozenset(card.hospitals)
    sums = {name: decode(update, run.mechanism) for name, update in updates.items() if name in hospitals}
    combined = combine(sums, card.plan, len(hospitals))
    after = apply(state, combined.updates, rule_of(card))
    size = deflated_size(Message(pack_reply(next(iter(updates.values()))), 1, MessageType.TRAIN))
    now = {**received, **{name: sha256(update) for name, update in updates.items()}}
    return RoundSeen(after, broadcast, updates, left_out, dict.fromkeys(updates, size), now, combined.kept)


def _books(federation: Federation, home: Path) -> _Books:
    gate = Gate(federation.scorer.shape, federation.mechanism.dtype, Chain(home / EGRESS, durable=False))
    ledger = Ledger(Chain(home / LEDGER, durable=False)) if federation.private else None
    card, path = federation.task.card, home / LEDGER
    own = shelf_of(card, federation.mechanism, path, durable=False)
    carries = carries_of(card, path, durable=False) if federation.private else None
    return _Books(ledger, gate, own, carries, control_of(card, path, durable=False), Outbox(home / "outbox", durable=False))


def _event(federation: Federation, run: str, round_: int, asked: str) -> Event:
    """Return a site's charge of a round, but for its payload and as how many releases it counts."""
    mechanism = federation.mechanism
    return Event(
        task=federation.task.digest,
        run=run,
        round=round_,
        asked=asked,
        payload="",
        releases=0,
        sample_rate=mechanism.draw_rate,
        noise_multiplier=mechanism.noise_multiplier,
        clip_norm=mechanism.clip_norm,
        grid=mechanism.grid if mechanism.exact else None,
        max_records=federation.task.card.privacy.max_records,
        bands=mechanism.bands,
    )
