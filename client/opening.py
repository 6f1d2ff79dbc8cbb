"""From a site file and a task card to the resident hospital: what a real site does once, before its first message."""

from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from client.carry import carries_of
from client.chain import Chain
from client.cohorts import cohort_of
from client.control import control_of
from client.gate import Gate
from client.hospital import Hospital
from client.ledger import Ledger
from client.mystery import MysterySource, canary_pool, canary_scorer, canary_step
from client.outbox import Outbox
from client.personal import rule_of
from client.policy import Proposal
from client.records import read_rows
from client.round import Gradients, LocalPlan, Pool, Step, answer, pool
from client.shelf import Shelf
from client.site import SiteFile
from shared.canaries import read_canaries, require_bound
from shared.card import Task, TaskCard
from shared.device import enough_memory
from shared.errors import InputError
from shared.privacy.mechanism import Mechanism
from shared.privacy.planned import mechanism_of
from shared.privacy.source import SecureSource, Source
from shared.scoring import build


def proposal_of(task: Task, mechanism: Mechanism) -> Proposal:
    """Return what a card asks of each of its sites; only a simulation gives another mechanism than `mechanism_of(card)`."""
    plan = task.card.plan
    local = LocalPlan(
        mechanism=mechanism,
        steps=plan.local_steps,
        learning_rate=plan.local_learning_rate,
        denominator=plan.patients_per_round / len(task.card.hospitals),
        proximal=plan.local_proximal,
    )
    return Proposal(task.digest, local, plan.rounds, task.card.privacy.max_records)


def open_hospital(site: SiteFile, task: Task, source: Source | None = None) -> Hospital:
    """Return the hospital: records read, backbone loaded, ledger verified, policy applied.

    Its randomness is the system's. `source` is there for tests that compare a run between processes with a simulation; no
    file, option or message reaches it.

    Ledger and egress log are its own from here to `Hospital.close`, or the end of the process.

    Raises:
        RunError: another process has this site open; nothing was read yet.
        InputError: table, device, backbone or ledger is not as it should be, or the site is not on the card's roster.
        RefusedError: the policy does not allow the card.
    """
    if site.site not in task.card.plan.sites:
        raise InputError(f"site '{site.site}' is not on the card's roster ({', '.join(task.card.plan.sites)}).")
    with ExitStack() as undo:
        ledger = Ledger(Chain(site.ledger.path))
        undo.callback(ledger.close)
        log = Chain(egress_log(site.ledger.path))
        undo.callback(log.close)
        hospital = _hospital(site, task, ledger, log, source or SecureSource())
        undo.pop_all()
    return hospital


def egress_log(ledger: Path) -> Path:
    """Return the file of the egress log that belongs to a ledger."""
    return ledger.with_suffix(".egress.jsonl")


def shelf_of(card: TaskCard, mechanism: Mechanism, ledger: Path, durable: bool = True) -> Shelf | None:
    """Return where the site with this ledger keeps its own prompt; None where the card wants none."""
    rule = rule_of(card, mechanism)
    return Shelf(ledger.with_suffix(".personal"), rule, durable) if rule else None


@dataclass(frozen=True)
class _Parts:
    """What differs between a hospital and an audit site."""

    pool: Pool
    scorer: Gradients
    source: Source
    step: Step


def _hospital(site: SiteFile, task: Task, ledger: Ledger, log: Chain, source: Source) -> Hospital:
    proposal = proposal_of(task, mechanism_of(task.card))
    parts = _patients(site, task, source) if site.canaries is None else _canaries(site, site.canaries.file, task, source)
    return Hospital(
        name=site.site,
        policy=site.policy.policy,
        proposal=proposal,
        pool=parts.pool,
        scorer=parts.scorer,
        source=parts.source,
        ledger=ledger,
        gate=Gate(parts.scorer.shape, proposal.plan.mechanism.dtype, log),
        outbox=Outbox(ledger.path.with_suffix(".outbox")),
        step=parts.step,
        own=shelf_of(task.card, proposal.plan.mechanism, ledger.path) if site.canaries is None else None,
        control=control_of(task.card, ledger.path) if site.canaries is None else None,
        carries=carries_of(task.card, ledger.path),
    )


def _patients(site: SiteFile, task: Task, source: Source) -> _Parts:
    if task.card.audit and site.site == task.card.audit.site:
        raise InputError(
            f"'{site.site}' is the card's audit site, which has [canaries] in place of [data]; no patient belongs there."
        )
    if task.card.privacy.bands > 1 and site.data.columns_map.patient is None:  # a line's number changes with the table
        raise InputError(
            f"{site.data.path}: the card has [privacy] bands, whose groups follow from patients' names; "
            "name their column in [data] patient."
        )
    patients = cohort_of(site.data, read_rows(site.data.path), task.card)
    with enough_memory(site.device):
        scorer, _ = build(task.card, site.device)
        return _Parts(pool(patients, scorer), scorer, source, answer)


def _canaries(site: SiteFile, file: Path, task: Task, source: Source) -> _Parts:
    canaries, rounds = read_canaries(file), task.card.plan.rounds
    require_bound(canaries, task.card, str(file))
    if site.site != canaries.table.site:
        raise InputError(
            f"site '{site.site}' is not the card's audit site '{canaries.table.site}', and only that one has [canaries]."
        )
    scorer = canary_scorer(canaries, task.card.privacy.clip_norm)
    return _Parts(canary_pool(canaries, 1, rounds), scorer, MysterySource(canaries, source), canary_step(canaries, rounds))
