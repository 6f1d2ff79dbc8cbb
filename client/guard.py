"""The guard against negative transfer: does a trained start read this hospital's patients better than a fresh start?

Each patient votes for the start that scores the patient's own label higher. A start's scores are first put on the scale of its own
scores of made-up public records, so that a start that is merely surer of itself, or says one label more often, wins nothing. Votes
are counted for each label, noised and charged as a published accuracy is (`client.publish`); one patient moves one count by one.
"""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from client.round import Pool
from shared.card import TaskCard
from shared.privacy.mechanism import Update
from shared.prompt import Array
from shared.scoring import Scorer, public_records

TRAINED, FRESH = 0, 1
SIDES = 2  # counts of a label: see above
SURE = 1.0  # standard errors by which a trained start must win
ENOUGH = 2.0  # standard deviations of the noise that a label's patients must pass to be counted at all


@dataclass(frozen=True)
class Start:
    """A start and how it reads: its card, the scorer, the prompt (P+L, D), and the patients' states below its layer."""

    card: TaskCard
    scorer: Scorer
    prompt: Array
    pool: Pool


@dataclass(frozen=True)
class Advice:
    """What noised counts say; it may leave the hospital.

    Attributes:
        reuse: whether to start from the trained prompt; False too where the counts cannot tell.
        lead: share of patients whom the trained start reads better, less the share for the fresh one, labels weighing alike;
            None where a label has too few patients for the noise.
        error: the lead's standard error, of patients and noise together.
    """

    reuse: bool
    lead: float | None
    error: float | None

    @property
    def why(self) -> str:
        """The advice in a sentence."""
        if self.lead is None or self.error is None:
            return "Start fresh: a label has too few patients here for the noise, so nothing speaks for the trained prompt."
        measured = f"its lead over a fresh start is {self.lead:+.3f} (from -1 to 1), standard error {self.error:.3f}"
        return f"Start from the trained prompt: {measured}." if self.reuse else f"Start fresh: of the trained prompt, {measured}."


def kinds_of(trained: Start, fresh: Start) -> NDArray[np.int64]:
    """Return each patient's kind (N,), ``SIDES * label`` plus whose vote; a patient's label is the first record's.

    A patient's kind depends on that patient's records and the two starts alone.
    """
    labels = torch.tensor([int(fresh.pool.labels[mine[0]]) for mine in fresh.pool.records], dtype=torch.long)  # (N,)
    ours, theirs = _scores(trained, labels), _scores(fresh, labels)  # (N,)
    return (SIDES * labels + torch.where(ours > theirs, TRAINED, FRESH)).numpy()


def advice(counts: Update, noise: float) -> Advice:
    """Return what noised counts (2 L,) say.

    Args:
        counts: of every kind, with noise.
        noise: its standard deviation.
    """
    table = np.asarray(counts, dtype=float).reshape(-1, SIDES)  # (L, 2)
    patients = table.sum(1)  # (L,)
    if (patients < max(1.0, ENOUGH * np.sqrt(SIDES) * noise)).any():
        return Advice(False, None, None)
    leads = (table[:, TRAINED] - table[:, FRESH]) / patients  # (L,)
    variances = np.maximum(1 - leads**2, 0) / patients + SIDES * noise**2 / patients**2
    lead, error = float(leads.mean()), float(np.sqrt(variances.sum()) / len(leads))
    return Advice(lead > SURE * error, lead, error)


def _scores(start: Start, labels: Tensor) -> Tensor:
    """Return each patient's mean score (N,) for the patient's own label, in standard deviations of the public records' scores."""
    prompt = torch.from_numpy(np.array(start.prompt))
    made_up = _log_odds(
        start.scorer.probabilities(start.scorer.read(public_records(start.card, start.scorer.backbone)), prompt)
    )  # (R, L)
    odds = _log_odds(start.scorer.probabilities(start.pool.hidden, prompt))  # (B, L)
    odds = (odds - made_up.mean(0)) / made_up.std(0).clamp_min(1e-6)
    means = [odds[mine].mean(0)[label] for mine, label in zip(start.pool.records, labels.tolist(), strict=True)]
    return torch.stack(means) if means else torch.zeros(0)


def _log_odds(probabilities: Tensor) -> Tensor:
    """Return the log odds (B, L) of each label against all others."""
    return torch.logit(probabilities.double(), eps=1e-12)
