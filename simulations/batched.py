"""The batched engine: all sites' drawn patients of a round go through the one resident backbone in a few large batches.

Rows of a batch never meet in the model, so that the gradient of each record's own prompt rows is that record's gradient, whoever
else is in the batch. Clipping, sums by site and each site's noise follow. It is the fast twin of `federation.run_seed` with its
hospitals and Flower messages: the same coins, the same noise, and the same prompt up to floating point.

Letters in shape comments: S sites, N drawn patients, R their records, P prompt rows, L label rows, D hidden size, K = (P+L) D.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from flwr.app import Message
from flwr.common import MessageType
from numpy.typing import NDArray
from torch import Tensor

from client.chain import Chain
from client.gate import Gate
from client.hospital import Hospital
from client.ledger import Event, Ledger
from client.opening import proposal_of, shelf_of
from client.personal import State
from client.round import LocalPlan, Pool, answer, owners, patient_means
from client.shelf import Shelf
from server.aggregate import ServerState, apply, init
from server.checkpoint import RunFolder
from server.robust import combine
from server.rule import rule_of
from server.strategy import RoundSeen, Run, Start, require_quorum
from shared.backbone import Hidden
from shared.errors import RunError
from shared.flower import deflated_size, identify
from shared.privacy.accounting import Spent
from shared.privacy.clip import STEPS, clipped_rows
from shared.privacy.guarantee import ClippedSum, NoisedSum
from shared.privacy.mechanism import Mechanism, Update, decode, encode, release
from shared.privacy.noise import add_noise
from shared.privacy.sampling import Indices, poisson
from shared.privacy.source import SimulationSource, Stream
from shared.prompt import Array
from shared.scoring import BATCH, Scorer
from shared.wire import Request, pack_reply, sha256, unpack_reply
from simulations.federation import EGRESS, LEDGER, Federation, Stopwatch, books, hospital, nodes, spent_by
from simulations.grid import RUN_ID


@dataclass(frozen=True)
class Stack:
    """All sites' patients in one pool, site after site.

    Attributes:
        pool: everybody.
        first: (S + 1,), the first patient of each site, and the number of all.
        names: of the sites.
        longest: tokens in the longest window of each patient's records.
    """

    pool: Pool
    first: NDArray[np.int64]
    names: tuple[str, ...]
    longest: NDArray[np.int64]

    def patients(self, site: int) -> int:
        """The number of patients of a site."""
        return int(self.first[site + 1] - self.first[site])


def stack(pools: Mapping[str, Pool]) -> Stack:
    """Put pools into one; each pool's hidden states have the same padded length, as `federation.prepare` makes them."""
    parts = list(pools.values())
    hidden = Hidden.together([p.hidden for p in parts])  # states (B, T, D)
    starts = np.cumsum([0, *(len(p.labels) for p in parts)])
    records = tuple(mine + int(start) for p, start in zip(parts, starts, strict=False) for mine in p.records)
    pool = Pool(hidden, torch.cat([p.labels for p in parts]), records)
    first = np.cumsum([0, *(p.patients for p in parts)])
    lengths = hidden.lengths  # (B,)
    return Stack(pool, first, tuple(pools), np.array([int(lengths[mine].max()) for mine in records], dtype=np.int64))


def answers(
    stacked: Stack,
    sites: Sequence[int],
    prompt: Array,
    plan: LocalPlan,
    scorer: Scorer,
    source: SimulationSource,
    *purpose: str | int,
    points: Mapping[int, Array] | None = None,
) -> dict[int, Update]:
    """Return what each of these sites would send, as `client.round.answer` gives it, (P+L, D).

    Args:
        stacked: all sites' patients.
        sites: positions in `stacked.names`.
        prompt: the broadcast prompt (P+L, D).
        plan: the public facts of a round.
        scorer: backbone and prompt shape.
        source: of draws and noise.
        purpose: (run, round); streams are named as `answer` names them.
        points: site -> where its gradients are taken, (P+L, D), where that is not the broadcast prompt.
    """
    run, round_ = purpose
    given = points or dict.fromkeys(sites if plan.steps > 1 else (), prompt)
    here = {site: torch.from_numpy(np.array(point)) for site, point in given.items()}  # (P+L, D) each
    same = torch.from_numpy(np.array(prompt))  # (P+L, D)
    total = {site: np.zeros(prompt.shape, dtype=np.int64 if plan.mechanism.exact else np.float64) for site in sites}
    for step in range(plan.steps):
        names = {site: (run, stacked.names[site], round_, step) for site in sites}
        drawn = {
            site: poisson(stacked.patients(site), plan.mechanism.sample_rate, source.stream("draw", *names[site])) for site in sites
        }
        prompts = torch.stack([here.get(site, same) for site in sites]) if here else same
        streams = {site: source.stream("noise", *names[site]) for site in sites}
        for site, noised in _released(stacked, drawn, prompts, plan.mechanism, scorer, streams):
            total[site] += noised.value  # (P+L, D)
            if step + 1 < plan.steps:
                here[site] = plan.move(here[site], noised, same)
    return {site: encode(value, plan.mechanism) for site, value in total.items()}


def _released(
    stacked: Stack,
    drawn: Mapping[int, Indices],
    prompts: Tensor,
    mechanism: Mechanism,
    scorer: Scorer,
    streams: Mapping[int, Stream],
) -> Iterator[tuple[int, NoisedSum]]:
    """Give each site's noised sum; `prompts` is one for all (P+L, D), or one a site (S, P+L, D)."""
    shape = prompts.shape[-2:]
    place = np.repeat(np.arange(len(drawn)), [len(d) for d in drawn.values()])  # (N,), which of `drawn` a patient belongs to
    patients = np.concatenate([stacked.first[site] + d for site, d in drawn.items()])  # (N,)
    if not mechanism.exact:
        kept = torch.zeros(len(patients), *shape)
        for index, gradients in _gradients(stacked, patients, place, prompts, scorer):
            kept[index] = gradients
        for number, site in enumerate(drawn):
            yield site, release(kept[torch.from_numpy(place == number)], mechanism, streams[site])
        return
    sums = torch.zeros(len(drawn), shape.numel(), dtype=torch.int64)  # (S, K)
    for index, gradients in _gradients(stacked, patients, place, prompts, scorer):
        rows = torch.from_numpy(clipped_rows(gradients, mechanism.clip_norm))  # (n, K)
        sums.index_add_(0, torch.from_numpy(place)[index], rows)
    for number, site in enumerate(drawn):
        clipped = ClippedSum(sums[number].numpy().reshape(shape), STEPS, mechanism.grid)
        yield site, add_noise(clipped, mechanism.noise_multiplier, streams[site])


def _gradients(
    stacked: Stack, patients: Indices, place: Indices, prompts: Tensor, scorer: Scorer
) -> Iterator[tuple[Tensor, Tensor]]:
    """Give (positions in `patients` (n,), their gradients (n, P+L, D)), batch after batch, patients of like length together."""
    for index in _pieces(stacked, patients, scorer.most(BATCH)):
        mine = [stacked.pool.records[patients[i]] for i in index]
        records = torch.cat(mine)  # (R,)
        chosen = prompts if prompts.dim() == 2 else prompts[torch.from_numpy(place[index])][owners(mine)]  # (P+L, D), (R, P+L, D)
        each = scorer.record_gradients(
            stacked.pool.hidden[records], stacked.pool.labels[records], chosen, len(records)
        )  # (R, P+L, D)
        yield torch.from_numpy(index), patient_means(each, mine)


def _pieces(stacked: Stack, patients: Indices, batch: int) -> Iterator[NDArray[np.int64]]:
    """Cut the drawn patients, the shortest first, into pieces of about `batch` windows; a patient is never cut."""
    order = np.argsort(stacked.longest[patients], kind="stable")
    counts = np.array([len(stacked.pool.records[patients[i]]) for i in order], dtype=np.int64)
    piece = (np.cumsum(counts) - counts) // max(1, batch // stacked.pool.hidden.widest)
    for number in np.unique(piece):
        yield order[piece == number]


@dataclass(frozen=True)
class _Books:
    """A simulated site's ledger and gate, and the shelf of its own prompt; the batched engine keeps them as a hospital does."""

    ledger: Ledger | None  # None without privacy
    gate: Gate
    own: Shelf | None

    def begin(self, event: Event) -> State | None:
        """Return in which state the site's own prompt starts the round of a charge to come."""
        if self.own is None:
            return None
        return self.own.before(event.task, event.run, event.round, self.ledger.events if self.ledger else None)

    def settle(self, event: Event, broadcast: Array, before: State | None, update: Update) -> None:
        """Charge once; a round that an interrupted run had charged gave the same bytes, because its streams are seeded."""
        if self.own:
            self.own.keep(event.task, event.run, before, self.own.rule.moved(before, broadcast, update, event.round))
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
    plan, work = proposal_of(federation.task, federation.mechanism).plan, watch.timed(answers)
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
        points = {site: own.rule.point(before[site], broadcast) for site in asked if (own := own_books[site].own)}
        facts = (plan, federation.scorer, SimulationSource(seed), run.name, number)
        found = work(stacked, asked, broadcast, *facts, points=points) if asked else {}
        for site, update in found.items():
            own_books[site].settle(replace(charge, payload=sha256(update)), broadcast, before[site], update)
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
    return _Books(ledger, gate, shelf_of(federation.task.card, federation.mechanism, home / LEDGER, durable=False))


def _event(federation: Federation, run: str, round_: int, asked: str) -> Event:
    """Return a site's charge of a round, but for its payload."""
    mechanism = federation.mechanism
    return Event(
        task=federation.task.digest,
        run=run,
        round=round_,
        asked=asked,
        payload="",
        releases=federation.task.card.plan.local_steps,
        sample_rate=mechanism.sample_rate,
        noise_multiplier=mechanism.noise_multiplier,
        clip_norm=mechanism.clip_norm,
        grid=mechanism.grid if mechanism.exact else None,
        max_records=federation.task.card.privacy.max_records,
    )
