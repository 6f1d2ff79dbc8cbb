"""Publish a noised accuracy of one prompt on a hospital's own test patients: charged to the ledger before anybody sees it."""

from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from client.chain import Chain
from client.cohorts import cohort_of
from client.gate import log_counts
from client.ledger import METRIC, Event, Ledger, releases
from client.metric import RIGHT, WRONG, accuracy, interval, outcomes
from client.opening import egress_log
from client.outbox import Outbox
from client.policy import afford_metric
from client.records import read_rows
from client.round import Pool, pool
from client.site import SiteFile
from shared.card import Task
from shared.errors import InputError, RefusedError
from shared.privacy.accounting import FINE, epsilon_of
from shared.privacy.counts import SENSITIVITY, release_counts
from shared.privacy.mechanism import Update
from shared.privacy.source import SecureSource
from shared.prompt import Array
from shared.scoring import Scorer, build
from shared.wire import sha256


@dataclass(frozen=True)
class Published:
    """A noised accuracy and what it cost; every number here may leave the hospital.

    Attributes:
        site: the hospital.
        task: the card's name.
        task_digest: the card.
        prompt_sha256: the prompt that was scored.
        right: patients read rightly, with noise; it may be below 0.
        wrong: patients read wrongly, with noise.
        noise_multiplier: the noise's scale in patients.
        accuracy: ``right / (right + wrong)``; None where the noise left no patient.
        accuracy_ci95: of the accuracy, for patients like these, noise included.
        epsilon_before: of all that the ledger's patients spent before this, training included.
        epsilon_after: and with it.
        delta: of both.
    """

    site: str
    task: str
    task_digest: str
    prompt_sha256: str
    right: int
    wrong: int
    noise_multiplier: float
    accuracy: float | None
    accuracy_ci95: tuple[float, float]
    epsilon_before: float
    epsilon_after: float
    delta: float
    accountant: str = "PLD"
    unit: str = "patient"
    adjacency: str = "add-or-remove-one"


def publish(site: SiteFile, task: Task, prompt: Array) -> tuple[Published, bool]:
    """Return the noised accuracy of a prompt (P+L, D), and whether it is newly charged.

    The same prompt and task get the same numbers again without a charge. When this returns, charge and egress log are on the
    disk.

    Raises:
        InputError: the site publishes nothing, has no test patients, or its files or the prompt are not as they should be.
        RefusedError: the policy does not allow it; the message has the projected numbers.
        RunError: another process has the ledger open, or the disk is full.
    """
    opted_in(site, task)
    asked = sha256(prompt)
    with opened(site.ledger.path) as (ledger, log):
        counts, new = charged(site, task, asked, (ledger, log), lambda: (_kinds(site, task, prompt), 2))
        return _published(site, task, asked, counts, ledger), new


def charged(
    site: SiteFile, task: Task, asked: str, books: tuple[Ledger, Chain], kinds: Callable[[], tuple[NDArray[np.int64], int]]
) -> tuple[Update, bool]:
    """Return noised counts of a site's patients, on the ledger before anybody sees them, and whether they are newly charged.

    The same question gets the same counts again without a charge; the budget is checked before any work.

    Args:
        site: which patients, and what its policy allows.
        task: the card.
        asked: SHA-256 that names the question.
        books: the open ledger and egress log.
        kinds: gives each patient's kind (N,) and the number of kinds; one patient is of one kind.
    """
    ledger, log = books
    ledger.covers(log)
    outbox = Outbox(site.ledger.path.with_suffix(".metrics"))
    earlier = ledger.find_metric(task.digest, asked)
    if earlier is None:
        sigma = afford_metric(site.policy.policy, task.digest, ledger.events)
        counts = release_counts(*kinds(), sigma, SecureSource().stream("noise", "metric", site.site)).value
        outbox.keep(_name(task, asked), 1, counts)
        ledger.charge(_event(site, task, asked, counts))
    else:
        counts = _kept(outbox, task, earlier)
    log_counts(log, task.digest, asked, counts)
    return counts, earlier is None


@contextmanager
def opened(path: Path) -> Iterator[tuple[Ledger, Chain]]:
    """Open a ledger and the egress log that belongs to it, for this process alone."""
    with closing(Ledger(Chain(path))) as ledger, closing(Chain(egress_log(path))) as log:
        yield ledger, log


def opted_in(site: SiteFile, task: Task) -> None:
    """Raise `InputError` unless the site publishes accuracies and answers this task."""
    if site.policy.metric_noise is None:
        raise InputError(f"site '{site.site}' publishes no accuracy; set [policy] metric_noise in its site file to allow it.")
    if task.digest not in site.policy.tasks:
        raise InputError(f"task {task.digest} is not in [policy] tasks of site '{site.site}'; add the digest to allow it.")


def _kinds(site: SiteFile, task: Task, prompt: Array) -> NDArray[np.int64]:
    """Return who of the test patients is read rightly and who wrongly (N,)."""
    scorer, _ = build(task.card, site.device)
    if prompt.shape != scorer.shape.shape or prompt.dtype != np.float32 or not np.isfinite(prompt).all():
        raise InputError(f"the prompt is not a finite float32 array of the card's shape {scorer.shape.shape}; name another folder.")
    return outcomes(test_patients(site, task, scorer), prompt, scorer)


def test_patients(site: SiteFile, task: Task, scorer: Scorer) -> Pool:
    """Return the patients that the site keeps for tests; raise `InputError` when it keeps none."""
    where = site.data.path
    if site.data.split is None:
        raise InputError(f"{where}: no patients are kept for tests; name the column that says train or test in [data] split.")
    found = cohort_of(site.data, read_rows(where), task.card, "test")
    if found.size == 0:
        raise InputError(f"{where}: column '{site.data.split}' says test of no row; without test patients there is no accuracy.")
    return pool(found, scorer)


def _event(site: SiteFile, task: Task, asked: str, counts: Update) -> Event:
    return Event(
        task=task.digest,
        run="",
        round=0,
        asked=asked,
        payload=sha256(counts),
        releases=1,
        sample_rate=1.0,
        noise_multiplier=site.policy.metric_noise or 0.0,
        clip_norm=float(SENSITIVITY),
        grid=1.0,
        max_records=task.card.privacy.max_records,
        kind=METRIC,
    )


def _kept(outbox: Outbox, task: Task, earlier: Event) -> Update:
    counts = outbox.find(_name(task, earlier.asked), 1)
    if counts is None or sha256(counts) != earlier.payload:
        raise RefusedError(f"the accuracy that the ledger paid for is gone from {outbox.folder}; it cannot be drawn again.")
    return counts


def _published(site: SiteFile, task: Task, asked: str, counts: Update, ledger: Ledger) -> Published:
    """Say what was spent when it was charged: a second time gives the same numbers."""
    events, delta = ledger.events, site.policy.delta
    at = next(n for n, e in enumerate(events) if e.kind == METRIC and (e.task, e.asked) == (task.digest, asked))
    sigma, right, wrong = events[at].noise_multiplier, int(counts[RIGHT]), int(counts[WRONG])
    return Published(
        site=site.site,
        task=task.card.name,
        task_digest=task.digest,
        prompt_sha256=asked,
        right=right,
        wrong=wrong,
        noise_multiplier=sigma,
        accuracy=accuracy(right, wrong),
        accuracy_ci95=interval(right, wrong, sigma),
        epsilon_before=epsilon_of(releases(events[:at]), delta, FINE),
        epsilon_after=epsilon_of(releases(events[: at + 1]), delta, FINE),
        delta=delta,
    )


def _name(task: Task, asked: str) -> str:
    return f"{task.digest}-{asked}"
