"""`promptward prompts guard SITE TASK`: the guard's noised counts, charged to the ledger, and what they advise."""

import tomllib
from typing import Any

import tomli_w

from client.cohorts import cohort_of
from client.guard import KINDS, Advice, Measured, Start, advice, kinds_of
from client.ledger import TRAINING, Ledger
from client.publish import charged, opened, opted_in, test_patients
from client.records import read_rows
from client.round import Pool, pool
from client.site import SiteFile
from shared.arrays import sha256
from shared.card import Task
from shared.errors import InputError
from shared.library import find
from shared.privacy.accounting import FINE, epsilon_of
from shared.reuse import PREFIX
from shared.scoring import Scorer, build
from shared.toml import digest


def ask_guard(site: SiteFile, task: Task, fresh: str) -> dict[str, Any]:
    """Return what the site's patients, noised, say of the card's trained start against a fresh one.

    The patients are those to train on, of whom there are most, and test patients stay unseen. Where the ledger says that this
    site trained the source, they are its test patients.

    Args:
        site: its policy decides whether and with how much noise, as for a published accuracy.
        task: a card with `init = "prompt:..."`.
        fresh: the init of the start that it is compared with.

    Raises:
        InputError: the card does not start from a trained prompt, or the site's files are not as they should be.
        RefusedError: the policy does not allow it.
    """
    if not task.card.prompt.init.startswith(PREFIX):
        raise InputError(f"the card starts from '{task.card.prompt.init}', not from a trained prompt; there is nothing to guard.")
    opted_in(site, task)
    other = _with_init(task, fresh)
    asked = digest(f"guard which reads {task.digest} {other.digest}")
    with opened(site.ledger.path) as books:
        before = epsilon_of(books[0].releases, site.policy.delta, FINE)
        part, kinds = _part(task, books[0]), KINDS * len(task.card.labels)
        counts, new = charged(
            site, task, asked, books, lambda: (kinds_of(_start(site, task, part), _start(site, other, part)), kinds)
        )
        noise = next(e.noise_multiplier for e in books[0].events if e.payload == sha256(counts))
        found: Advice = advice(counts, noise)
        return {
            "site": site.site,
            "task": task.card.name,
            "task_digest": task.digest,
            "compared_with": fresh,
            "reuse": found.reuse,
            "advice": found.why,
            "chance": found.chance,
            "reads": _said(found.reads),
            "lead": _said(found.lead),
            "counts": [int(count) for count in counts],
            "noise_multiplier": noise,
            "newly_charged": new,
            "epsilon_before": before,
            "epsilon_after": epsilon_of(books[0].releases, site.policy.delta, FINE),
            "delta": site.policy.delta,
            "unit": "patient",
            "adjacency": "add-or-remove-one",
            "accountant": "PLD",
        }


def _part(task: Task, ledger: Ledger) -> str:
    """Return which patients did not make the source: `test` where this ledger paid for its training, else `train`."""
    source = find(task.card.prompt.init.removeprefix(PREFIX).rpartition("@")[0]).facts.get("task_digest")
    return "test" if any(event.kind == TRAINING and event.task == source for event in ledger.events) else "train"


def _start(site: SiteFile, task: Task, part: str) -> Start:
    scorer, initial = build(task.card, site.device)
    return Start(task.card, scorer, initial, _patients(site, task, scorer, part))


def _patients(site: SiteFile, task: Task, scorer: Scorer, part: str) -> Pool:
    if part == "test":
        return test_patients(site, task, scorer)
    return pool(cohort_of(site.data, read_rows(site.data.path), task.card), scorer)


def _said(measured: Measured | None) -> dict[str, float] | None:
    return None if measured is None else {"value": measured.value, "standard_error": measured.error}


def _with_init(task: Task, init: str) -> Task:
    raw = tomllib.loads(task.text)
    raw["prompt"]["init"] = init
    return Task.parse(tomli_w.dumps(raw), f"the card with init '{init}'")
