"""What is put to the test: the installed private step and hospital, with the public facts of a task, and made-up patients."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from client.carry import carries_of
from client.chain import Chain
from client.gate import Gate
from client.hospital import Hospital
from client.ledger import Ledger
from client.opening import proposal_of, shelf_of
from client.outbox import Outbox
from client.policy import Policy, Proposal
from client.records import Cohort
from client.round import LocalPlan, Pool, answer, answer_in_turn, pool
from shared.card import Task
from shared.privacy.banded import Carry
from shared.privacy.mechanism import Mechanism, Update
from shared.privacy.planned import epsilon_of_plan, mechanism_of
from shared.privacy.source import SecureSource, Source
from shared.prompt import Array
from shared.scoring import Scorer

Step = Callable[..., Update]
SITE = "Shadow"


@dataclass(frozen=True)
class Subject:
    """A task and the code that answers for a hospital in it.

    Attributes:
        task: the card.
        scorer: its frozen model.
        prompts: what the run broadcast, in order; at least one (P+L, D).
        step: the private step: `client.round.answer`, or one with a bug.
        turn: that of a card with bands: `client.round.answer_in_turn`, or one with a bug.
        open_site: makes a hospital of a pool in a folder, see `open_site`; or one with a bug.
    """

    task: Task
    scorer: Scorer
    prompts: tuple[Array, ...]
    step: Step = answer
    turn: Callable[..., tuple[Update, Carry]] = answer_in_turn
    open_site: "Callable[[Subject, Pool, Path, Source], Hospital] | None" = None

    @property
    def mechanism(self) -> Mechanism:
        """Rate, clip norm and noise of the card."""
        return mechanism_of(self.task.card)

    @property
    def proposal(self) -> Proposal:
        """What the card asks of a site."""
        return proposal_of(self.task, self.mechanism)

    @property
    def plan(self) -> LocalPlan:
        """The public facts of a round."""
        return self.proposal.plan

    def hospital(self, patients: Pool, folder: Path, source: Source | None = None) -> Hospital:
        """Open a hospital of these patients with its ledger in `folder`; close it when done."""
        return (self.open_site or open_site)(self, patients, folder, source or SecureSource())


def open_site(subject: Subject, patients: Pool, folder: Path, source: Source) -> Hospital:
    """Return a hospital as `client.opening` makes one, with a policy that allows just the card's plan."""
    card, mechanism = subject.task.card, subject.mechanism
    budget = epsilon_of_plan(card)
    policy = Policy(
        epsilon=budget,
        delta=card.privacy.delta,
        tasks=(subject.task.digest,),
        task_epsilon=budget,
        least_noise=0.0,
        most_clip_norm=mechanism.clip_norm,
        most_records=card.privacy.max_records,
        least_patients=0,
    )
    return Hospital(
        name=SITE,
        policy=policy,
        proposal=subject.proposal,
        pool=patients,
        scorer=subject.scorer,
        source=source,
        ledger=Ledger(Chain(folder / "ledger.jsonl", durable=False)),
        gate=Gate(subject.scorer.shape, mechanism.dtype, Chain(folder / "egress.jsonl", durable=False)),
        outbox=Outbox(folder / "outbox", durable=False),
        step=subject.step,
        own=shelf_of(card, mechanism, folder / "ledger.jsonl", durable=False),
        carries=carries_of(card, folder / "ledger.jsonl", durable=False),
    )


def made_up(task: Task, patients: int, seed: int, records: int = 1) -> Cohort:
    """Return patients whose records are drawn from the card's public template, with labels that follow from nothing."""
    public = np.random.default_rng(seed)
    texts = tuple(task.card.record_text.draw(lambda n: int(public.integers(n))) for _ in range(patients * records))
    labels = tuple(int(x) for x in public.integers(len(task.card.labels), size=patients * records))
    return Cohort(texts, labels, tuple(i // records for i in range(patients * records)), patients)


def made_up_images(subject: Subject, patients: int, seed: int, records: int = 1) -> Cohort:
    """Return patients whose records are images of pure noise, in the size of the card's model; labels follow from nothing."""
    public, like = np.random.default_rng(seed), subject.scorer.backbone.public_images
    if like is None:
        raise ValueError("the card's model reads texts")
    images = public.standard_normal((patients * records, *like.images.shape[1:]), dtype=np.float32)
    labels = tuple(int(x) for x in public.integers(len(subject.task.card.labels), size=len(images)))
    return Cohort((), labels, tuple(i // records for i in range(len(images))), patients, images)


def made_up_cohort(subject: Subject, patients: int, seed: int, records: int = 1) -> Cohort:
    """Return made-up patients of the card's kind: `made_up` sentences, or `made_up_images`."""
    if subject.task.card.template is None:
        return made_up_images(subject, patients, seed, records)
    return made_up(subject.task, patients, seed, records)


def made_up_pool(subject: Subject, patients: int, seed: int, records: int = 1) -> Pool:
    """Return made-up patients of the card's kind in memory."""
    return pool(made_up_cohort(subject, patients, seed, records), subject.scorer)
