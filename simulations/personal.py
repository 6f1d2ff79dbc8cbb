"""The sites' own prompts of a simulation (`[plan.personal]` of a card): found in each site's folder, scored, and written out."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats

from client.ledger import read_ledger
from client.opening import shelf_of
from client.personal import facts_of
from shared.library import CARD
from shared.peft_format import save_prompt
from shared.prompt import Array
from simulations.evaluate import Scores
from simulations.federation import LEDGER, Federation

FOLDER = "personal"


def own_prompts(federation: Federation, seed: int, out: Path, shared: Array) -> dict[str, Array]:
    """Return each site's own prompt (P+L, D) after a seed, none where the card wants none.

    A site that was never asked has the shared prompt.
    """
    found = {}
    for name in federation.pools:
        ledger = out / "ledgers" / f"seed{seed}" / name / LEDGER
        shelf = shelf_of(federation.task.card, federation.mechanism, ledger, durable=False)
        if shelf is not None:
            events = read_ledger(ledger) if federation.private else None
            state = shelf.newest(federation.task.digest, f"seed{seed}", events)
            found[name] = state.published if state else shared
    return found


def gain(own: Sequence[Scores], shared: Sequence[Scores]) -> dict[str, Any]:
    """Return by how much own prompts beat the shared one in the mean of sites' accuracies, seed by seed.

    `ci95_over_seeds` is Student's interval of the mean of these paired differences: the luck of draws and noise, on one split
    of the patients; None with one seed.
    """
    values = [a.mean_of_sites_accuracy - b.mean_of_sites_accuracy for a, b in zip(own, shared, strict=True)]
    mean, std, count = float(np.mean(values)), float(np.std(values, ddof=1)) if len(values) > 1 else 0.0, len(values)
    half = float(stats.t.ppf(0.975, count - 1)) * std / count**0.5 if count > 1 else None
    return {
        "mean": mean,
        "std": std,
        "values": values,
        "ci95_over_seeds": None if half is None else [mean - half, mean + half],
    }


def save_own_prompts(federation: Federation, prompts: Mapping[str, Array], facts: Mapping[str, Any], out: Path) -> None:
    """Write each site's own prompt as a prompt folder under `personal/`, with a sentence that says whose it is."""
    for name, prompt in prompts.items():
        folder = out / FOLDER / name
        save_prompt(
            folder, prompt, federation.task, federation.scorer, {**facts, "personal": facts_of(name, f"seed{facts['seed']}")}
        )
        (folder / CARD).write_text(federation.task.text, encoding="utf-8")
