"""A whole federation in one process: every site is a real hospital with its own pool, ledger and gate; one backbone serves all.

`conduct`, `hospital` and `books` are also what the other engines are made of.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from flwr.app import Context, Message
from flwr.serverapp import Grid

from client.app import client_app
from client.carry import carries_of
from client.chain import Chain
from client.control import control_of
from client.gate import Gate
from client.hospital import Hospital
from client.ledger import Ledger, read_ledger, releases
from client.mystery import MysterySource, canary_pool, canary_scorer, canary_step
from client.opening import proposal_of, shelf_of
from client.outbox import Outbox
from client.policy import Policy
from client.round import Pool, answer
from server.aggregate import init
from server.app import server_app
from server.checkpoint import RunFolder
from server.robust import require_sense
from server.strategy import RoundSeen, Run, Start
from shared.canaries import Canaries, require_bound
from shared.card import Task, TaskCard
from shared.device import enough_memory
from shared.errors import InputError
from shared.flower import context, log_quietly
from shared.privacy.accounting import Spent, spent
from shared.privacy.mechanism import Mechanism, Update, without_privacy
from shared.privacy.planned import epsilon_of_plan, mechanism_of
from shared.privacy.source import SimulationSource
from shared.prompt import Array
from shared.scoring import Scorer, build
from shared.wire import unpack_request
from simulations.evaluate import TestSet
from simulations.grid import RUN_ID, InProcessGrid
from simulations.pools import Hold, each
from simulations.schedule import Presence, Schedule
from simulations.study import SitePatients

T = TypeVar("T")
LEDGER, EGRESS = "ledger.jsonl", "egress.jsonl"
EVERYBODY = Schedule()  # is there in every round


@dataclass(frozen=True)
class Federation:
    """What all seeds of a simulation share; it is prepared once.

    Attributes:
        task: the card.
        mechanism: with a noise multiplier of 0 when privacy is off.
        budget: epsilon that a site's ledger may reach: what the card plans.
        scorer: the one resident backbone.
        initial: the prompt before round 1.
        pools: each site's training patients.
        tests: each site's test patients.
        canaries: of the audit site, where the card has one.
        schedule: which sites are there in a round.
    """

    task: Task
    mechanism: Mechanism
    budget: float
    scorer: Scorer
    initial: Array
    pools: Mapping[str, Pool]
    tests: Mapping[str, TestSet]
    canaries: Canaries | None = None
    schedule: Schedule = EVERYBODY

    @property
    def private(self) -> bool:
        """Whether the sites add noise and keep a ledger."""
        return self.mechanism.noise_multiplier > 0


@dataclass
class Stopwatch:
    """Adds up the seconds spent in the sites' private steps."""

    seconds: float = field(default=0.0)

    def timed(self, work: Callable[..., T]) -> Callable[..., T]:
        """Return `work`, timed."""

        def wrapper(*args: object, **named: object) -> T:
            start = time.perf_counter()
            result = work(*args, **named)
            self.seconds += time.perf_counter() - start
            return result

        return wrapper


@dataclass(frozen=True)
class Resident:
    """The dear part of a federation, which others with the same patients, model and prompt shape may share; see `Federation`."""

    scorer: Scorer
    initial: Array
    pools: Mapping[str, Pool]
    tests: Mapping[str, TestSet]


def resident(card: TaskCard, sites: Mapping[str, SitePatients], hold: Hold = each, device: str = "cpu") -> Resident:
    """Load the backbone and compute every site's hidden states; raise `InputError` where that cannot be. See `prepare`."""
    with enough_memory(device):
        scorer, initial = build(card, device)
        return Resident(scorer, initial, *hold(sites, scorer))


def prepare(
    task: Task,
    sites: Mapping[str, SitePatients],
    private: bool,
    canaries: Canaries | None = None,
    schedule: Schedule = EVERYBODY,
    hold: Hold = each,
    held: Resident | None = None,
    device: str = "cpu",
) -> Federation:
    """Check the card, and bring model and patients into memory; raise `InputError` where that cannot be.

    `hold` is `pools.each`, or another function of that module, as the engine needs it; `held` is in memory already, and then
    `sites` are not read again. The model runs on `device`.
    """
    if task.card.audit and (canaries is None or not private):
        raise InputError(f"task card {task.card.name} has an audit site: give its --canaries FILE, and no --no-privacy.")
    if canaries:
        require_bound(canaries, task.card, "--canaries")
    mechanism = mechanism_of(task.card) if private else without_privacy(task.card.privacy.sample_rate)
    require_sense(task.card, mechanism)
    budget = epsilon_of_plan(task.card) if private else 0.0
    mine = held or resident(task.card, sites, hold, device)
    return Federation(task, mechanism, budget, mine.scorer, mine.initial, mine.pools, mine.tests, canaries, schedule)


def run_seed(
    federation: Federation,
    seed: int,
    out: Path,
    watch: Stopwatch,
    observe: Callable[[RoundSeen], None],
    step: Callable[..., Update] = answer,
) -> tuple[Array, dict[str, Spent]]:
    """Run, or go on with, one seed; return the published prompt and what each site's ledger says was spent.

    Args:
        federation: see `prepare`.
        seed: of the sites' draws and noise, which makes a simulation reproducible and protects nobody.
        out: the run directory; the seed's files are in `checkpoints/`, `transcript/` and `ledgers/` under it.
        watch: adds up the time of the sites' work.
        observe: called after every round, before its checkpoint is written.
        step: the sites' private step; another one than `answer` makes sites that lie.
    """
    home, timed = books(out, seed), watch.timed(step)
    hospitals = {node: hospital(federation, name, seed, home, timed) for node, name in nodes(federation).items()}

    def hospital_of(where: Context) -> Hospital:
        return hospitals[where.node_id]

    grid = InProcessGrid(client_app(hospital_of), hospitals, presence(federation, seed))
    return conduct(federation, seed, out, grid, observe), spent_by(federation, home)


def nodes(federation: Federation) -> dict[int, str]:
    """Return Flower's node ids, from 1, with the sites' names; the audit site comes last."""
    audit = [federation.canaries.table.site] if federation.canaries else []
    return dict(enumerate([*federation.pools, *audit], start=1))


def books(out: Path, seed: int) -> Path:
    """Return where the sites' ledgers, egress logs and outboxes of a seed are."""
    return out / "ledgers" / f"seed{seed}"


def presence(federation: Federation, seed: int) -> Callable[[Message], Presence]:
    """Return what says for a message where its site is."""
    names, rounds = nodes(federation), federation.task.card.plan.rounds

    def where(message: Message) -> Presence:
        name, number = names[message.metadata.dst_node_id], unpack_request(message.content).round
        return federation.schedule.presence(seed, name, number, rounds)

    return where


def conduct(federation: Federation, seed: int, out: Path, grid: Grid, observe: Callable[[RoundSeen], None]) -> Array:
    """Run Flower's ServerApp over the rounds of a seed that are left; return the published prompt (P+L, D).

    The arguments are those of `run_seed`; `grid` reaches the sites.
    """
    run = Run(federation.task, f"seed{seed}", federation.mechanism)
    folder = RunFolder(out / "checkpoints" / run.name, out / "transcript" / run.name)

    def seen(round_seen: RoundSeen) -> None:
        observe(round_seen)
        folder.save(run, round_seen)

    log_quietly()
    start = folder.latest(run) or Start(init(federation.initial))
    roster = {name: node for node, name in nodes(federation).items()}
    server_app(run, roster, start, seen)(grid, context(RUN_ID, 0))
    final = folder.latest(run)
    return final.state.published if final else federation.initial


def spent_by(federation: Federation, folder: Path) -> dict[str, Spent]:
    """Return what the ledgers in a folder of `books` say that each site spent; nothing without privacy."""
    if not federation.private:
        return {}
    delta = federation.task.card.privacy.delta
    return {name: spent(releases(read_ledger(folder / name / LEDGER)), delta) for name in nodes(federation).values()}


def hospital(federation: Federation, name: str, seed: int, folder: Path, step: Callable[..., Update]) -> Hospital:
    """Open a site on its books in `folder`; the audit site has canaries and a step of its own."""
    if federation.canaries and name == federation.canaries.table.site:
        return _mystery_site(federation, federation.canaries, seed, folder)
    return _hospital(federation, name, seed, folder, step, federation.pools[name])


def _mystery_site(federation: Federation, canaries: Canaries, seed: int, folder: Path) -> Hospital:
    """Return the audit site: its draws follow from the canary file, its noise is the system's even here."""
    rounds = federation.task.card.plan.rounds
    site = _hospital(federation, canaries.table.site, seed, folder, canary_step(canaries, rounds), canary_pool(canaries, 1, rounds))
    site.scorer, site.source = canary_scorer(canaries, federation.mechanism.clip_norm), MysterySource(canaries)
    site.control = None
    site.own = None  # canaries have the same gradients everywhere
    return site


def _hospital(federation: Federation, name: str, seed: int, folder: Path, step: Callable[..., Update], patients: Pool) -> Hospital:
    card = federation.task.card
    proposal = proposal_of(federation.task, federation.mechanism)
    policy = Policy(
        epsilon=federation.budget,
        delta=card.privacy.delta,
        tasks=(federation.task.digest,),
        task_epsilon=federation.budget,
        least_noise=0.0,
        most_clip_norm=federation.mechanism.clip_norm,
        most_rounds=card.plan.rounds,
        most_records=card.privacy.max_records,
        least_patients=0,
    )
    home = folder / name
    return Hospital(
        name=name,
        policy=policy,
        proposal=proposal,
        pool=patients,
        scorer=federation.scorer,
        source=SimulationSource(seed),
        ledger=Ledger(Chain(home / LEDGER, durable=False)) if federation.private else None,
        gate=Gate(federation.scorer.shape, federation.mechanism.dtype, Chain(home / EGRESS, durable=False)),
        outbox=Outbox(home / "outbox", durable=False),
        step=step,
        own=shelf_of(card, federation.mechanism, home / LEDGER, durable=False),
        control=control_of(card, home / LEDGER, durable=False),
        carries=carries_of(card, home / LEDGER, durable=False) if federation.private else None,
    )
