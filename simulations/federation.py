"""A whole federation in one process: every site is a real hospital with its own pool, ledger and gate; one backbone serves all."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from flwr.app import Context, Message

from client.app import client_app
from client.chain import Chain
from client.gate import Gate
from client.hospital import Hospital
from client.ledger import Ledger
from client.mystery import MysterySource, canary_pool, canary_scorer, canary_step
from client.opening import proposal_of
from client.outbox import Outbox
from client.policy import Policy
from client.records import joined
from client.round import Pool, answer, pool, pool_of
from server.aggregate import init
from server.app import server_app
from server.checkpoint import RunFolder
from server.robust import require_sense
from server.strategy import RoundSeen, Run, Start
from shared.canaries import Canaries, require_bound
from shared.card import Task, TaskCard
from shared.errors import InputError
from shared.flower import context, log_quietly
from shared.privacy.accounting import Spent
from shared.privacy.mechanism import Mechanism, Update, without_privacy
from shared.privacy.planned import epsilon_of_plan, mechanism_of
from shared.privacy.source import SimulationSource
from shared.prompt import Array
from shared.scoring import Scorer, build
from shared.wire import unpack_request
from simulations.evaluate import TestSet, test_set, test_set_of
from simulations.grid import RUN_ID, InProcessGrid
from simulations.schedule import Presence, Schedule
from simulations.study import SitePatients

T = TypeVar("T")
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

        def wrapper(*args: object) -> T:
            start = time.perf_counter()
            result = work(*args)
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


def resident(card: TaskCard, sites: Mapping[str, SitePatients], together: bool) -> Resident:
    """Load the backbone and compute every site's hidden states; raise `InputError` where that cannot be.

    `together` reads all sites' records in one go and gives each site its part of the one tensor, for the batched engine.
    """
    scorer, initial = build(card)
    if together:
        return Resident(scorer, initial, *_together(sites, scorer))
    pools = {name: pool(patients.train, scorer) for name, patients in sites.items()}
    return Resident(scorer, initial, pools, {name: test_set(p.train, p.test, scorer) for name, p in sites.items()})


def prepare(
    task: Task,
    sites: Mapping[str, SitePatients],
    private: bool,
    canaries: Canaries | None = None,
    together: bool = False,
    schedule: Schedule = EVERYBODY,
    held: Resident | None = None,
) -> Federation:
    """Check the card, and bring model and patients into memory; raise `InputError` where that cannot be.

    `together`: see `resident`; `held` is in memory already, and then `sites` are not read again.
    """
    if task.card.audit and (canaries is None or not private):
        raise InputError(f"task card {task.card.name} has an audit site: give its --canaries FILE, and no --no-privacy.")
    if task.card.audit and together:
        raise InputError(f"task card {task.card.name} has an audit site; leave --engine batched away.")
    if canaries:
        require_bound(canaries, task.card, "--canaries")
    mechanism = mechanism_of(task.card) if private else without_privacy(task.card.privacy.sample_rate)
    require_sense(task.card, mechanism)
    budget = epsilon_of_plan(task.card) if private else 0.0
    mine = held or resident(task.card, sites, together)
    return Federation(task, mechanism, budget, mine.scorer, mine.initial, mine.pools, mine.tests, canaries, schedule)


def _together(sites: Mapping[str, SitePatients], scorer: Scorer) -> tuple[dict[str, Pool], dict[str, TestSet]]:
    """Return pools and test sets whose hidden states are parts of one tensor each."""
    trained = scorer.read(joined([site.train.records for site in sites.values()]))
    tested = scorer.read(joined([site.test.records for site in sites.values()]))
    pools, tests, a, b = {}, {}, 0, 0
    for name, site in sites.items():
        n, m = len(site.train.records), len(site.test.records)
        pools[name] = pool_of(site.train, trained.part(a, a + n))
        tests[name] = test_set_of(site.train, site.test, tested.part(b, b + m))
        a, b = a + n, b + m
    return pools, tests


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
    run = Run(federation.task, f"seed{seed}", federation.mechanism)
    folder = RunFolder(out / "checkpoints" / run.name, out / "transcript" / run.name)
    hospitals = [_hospital(federation, name, seed, out / "ledgers" / run.name, watch.timed(step)) for name in federation.pools]
    if federation.canaries:
        hospitals.append(_mystery_site(federation, federation.canaries, seed, out / "ledgers" / run.name))
    by_node = dict(enumerate(hospitals, start=1))

    def hospital_of(where: Context) -> Hospital:
        return by_node[where.node_id]

    def seen(round_seen: RoundSeen) -> None:
        observe(round_seen)
        folder.save(run, round_seen)

    def presence(message: Message) -> Presence:
        name, number = by_node[message.metadata.dst_node_id].name, unpack_request(message.content).round
        return federation.schedule.presence(seed, name, number, federation.task.card.plan.rounds)

    log_quietly()
    start = folder.latest(run) or Start(init(federation.initial))
    roster = {hospital.name: node for node, hospital in by_node.items()}
    server_app(run, roster, start, seen)(InProcessGrid(client_app(hospital_of), by_node, presence), context(RUN_ID, 0))
    delta = federation.task.card.privacy.delta
    spent = {hospital.name: hospital.ledger.spent(delta) for hospital in hospitals if hospital.ledger}
    final = folder.latest(run)
    return (final.state.published if final else federation.initial), spent


def _mystery_site(federation: Federation, canaries: Canaries, seed: int, folder: Path) -> Hospital:
    """Return the audit site: its draws follow from the canary file, its noise is the system's even here."""
    rounds = federation.task.card.plan.rounds
    site = _hospital(federation, canaries.table.site, seed, folder, canary_step(canaries, rounds), canary_pool(canaries, 1, rounds))
    site.scorer, site.source = canary_scorer(canaries, federation.mechanism.clip_norm), MysterySource(canaries)
    return site


def _hospital(
    federation: Federation, name: str, seed: int, folder: Path, step: Callable[..., Update], patients: Pool | None = None
) -> Hospital:
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
        pool=patients or federation.pools[name],
        scorer=federation.scorer,
        source=SimulationSource(seed),
        ledger=Ledger(Chain(home / "ledger.jsonl", durable=False)) if federation.private else None,
        gate=Gate(federation.scorer.shape, federation.mechanism.dtype, Chain(home / "egress.jsonl", durable=False)),
        outbox=Outbox(home / "outbox", durable=False),
        step=step,
    )
