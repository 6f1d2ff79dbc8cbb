"""`promptward prompts guard SITE TASK`: the guard's noised counts, charged to the ledger, and what they advise."""

import tomllib
from typing import Any

import tomli_w

from client.guard import SIDES, Advice, Start, advice, kinds_of
from client.publish import charged, opened, opted_in, test_patients
from client.site import SiteFile
from shared.arrays import sha256
from shared.card import Task
from shared.errors import InputError
from shared.privacy.accounting import FINE, epsilon_of
from shared.reuse import PREFIX
from shared.scoring import build
from shared.toml import digest


def ask_guard(site: SiteFile, task: Task, fresh: str) -> dict[str, Any]:
    """Return what the site's test patients, noised, say of the card's trained start against a fresh one.

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
    asked = digest(f"guard {task.digest} {other.digest}")
    with opened(site.ledger.path) as books:
        before = epsilon_of(books[0].releases, site.policy.delta, FINE)
        kinds = SIDES * len(task.card.labels)
        counts, new = charged(site, task, asked, books, lambda: (kinds_of(_start(site, task), _start(site, other)), kinds))
        noise = next(e.noise_multiplier for e in books[0].events if e.payload == sha256(counts))
        found: Advice = advice(counts, noise)
        return {
            "site": site.site,
            "task": task.card.name,
            "task_digest": task.digest,
            "compared_with": fresh,
            "reuse": found.reuse,
            "advice": found.why,
            "lead": found.lead,
            "standard_error": found.error,
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


def _start(site: SiteFile, task: Task) -> Start:
    scorer, initial = build(task.card)
    return Start(task.card, scorer, initial, test_patients(site, task, scorer))


def _with_init(task: Task, init: str) -> Task:
    raw = tomllib.loads(task.text)
    raw["prompt"]["init"] = init
    return Task.parse(tomli_w.dumps(raw), f"the card with init '{init}'")
