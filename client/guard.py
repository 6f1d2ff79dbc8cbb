"""The guard against negative transfer: does a trained start read this hospital's patients, and no worse than a fresh start does?

A start reads a patient rightly when the patient's own label has the highest score, each label's scores being put on the scale of
the start's own scores of made-up public records. Patients are counted by label and by which of the two starts reads them rightly;
the counts are noised and charged as a published accuracy is (`client.publish`), and one patient moves one count by one.
Letters in shape comments: N patients, B records, R public records, L labels.
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

BOTH, TRAINED, FRESH, NEITHER = 0, 1, 2, 3  # which of the two starts reads a patient rightly
KINDS = 4  # counts of a label: see above
SURE = 1.645  # standard errors above chance that the trained start must read: of starts at chance 5 % get through
LESS = 1.0  # standard errors by which it may read worse than the fresh start
ENOUGH = 2.0  # standard deviations of its noise that a label's number of patients must pass


@dataclass(frozen=True)
class Start:
    """A start and how it reads: its card, the scorer, the prompt (P+L, D), and the patients' states below its layer."""

    card: TaskCard
    scorer: Scorer
    prompt: Array
    pool: Pool


@dataclass(frozen=True)
class Measured:
    """A number that noised counts give, with its standard error, of patients and noise together."""

    value: float
    error: float

    def __str__(self) -> str:
        """Return both."""
        return f"{self.value:.3f} (standard error {self.error:.3f})"


@dataclass(frozen=True)
class Advice:
    """What noised counts say; it may leave the hospital.

    Attributes:
        reuse: whether to start from the trained prompt; False too where the counts cannot tell.
        chance: one over the number of labels.
        reads: share of patients whom the trained start reads rightly, labels weighing alike; None where a label has too few
            patients for the noise.
        lead: that share less the fresh start's; None with `reads`.
    """

    reuse: bool
    chance: float
    reads: Measured | None = None
    lead: Measured | None = None

    @property
    def why(self) -> str:
        """The advice in a sentence."""
        if self.reads is None or self.lead is None:
            return "Start fresh: a label has too few patients here for the noise, so nothing speaks for the trained prompt."
        measured = f"it reads {self.reads} of the patients rightly, chance is {self.chance:.3f}, its lead over a fresh start is"
        start = "Start from the trained prompt" if self.reuse else "Start fresh, the trained prompt was not convincing"
        return f"{start}: {measured} {self.lead}."


def kinds_of(trained: Start, fresh: Start) -> NDArray[np.int64]:
    """Return each patient's kind (N,), ``KINDS * label`` plus who reads the patient rightly; the label is the first record's.

    A patient's kind depends on that patient's records and the two starts alone.
    """
    labels = torch.tensor([int(fresh.pool.labels[mine[0]]) for mine in fresh.pool.records], dtype=torch.long)  # (N,)
    ours, theirs = _reads(trained, labels), _reads(fresh, labels)  # (N,)
    return (KINDS * labels + 2 * (~ours).long() + (~theirs).long()).numpy()


def advice(counts: Update, noise: float) -> Advice:
    """Return what noised counts (4 L,) say.

    Args:
        counts: of every kind, with noise.
        noise: its standard deviation.
    """
    table = np.asarray(counts, dtype=float).reshape(-1, KINDS)  # (L, 4)
    patients = table.sum(1)  # (L,)
    chance = 1 / len(table)
    if (patients < max(1.0, ENOUGH * np.sqrt(KINDS) * noise)).any():
        return Advice(False, chance)
    reads = _measured(table, np.array([1, 1, 0, 0]), noise)
    lead = _measured(table, np.array([0, 1, -1, 0]), noise)
    sure = reads.value - chance > SURE * reads.error and lead.value > -LESS * lead.error
    return Advice(sure, chance, reads, lead)


def _measured(table: NDArray[np.float64], worth: NDArray[np.int64], noise: float) -> Measured:
    """Return the mean over labels of what patients are worth on average, worth (4,) by kind.

    A ratio's noise to first order: a count's noise moves its label's mean by how far its worth is from that mean.
    """
    patients = table.sum(1)  # (L,)
    means = np.clip(table @ worth / patients, -1, 1)  # (L,)
    squares = np.clip(table @ worth**2 / patients, means**2, 1)  # (L,)
    noised = noise**2 * ((worth - means[:, None]) ** 2).sum(1)  # (L,)
    variances = (squares - means**2) / patients + noised / patients**2
    return Measured(float(means.mean()), float(np.sqrt(variances.sum()) / len(table)))


def _reads(start: Start, labels: Tensor) -> Tensor:
    """Return whether each patient's own label (N,) has the highest mean score, in standard deviations of public records' scores."""
    prompt = torch.from_numpy(np.array(start.prompt))
    made_up = _log_odds(
        start.scorer.probabilities(start.scorer.read(public_records(start.card, start.scorer.backbone)), prompt)
    )  # (R, L)
    odds = _log_odds(start.scorer.probabilities(start.pool.hidden, prompt))  # (B, L)
    odds = (odds - made_up.mean(0)) / made_up.std(0).clamp_min(1e-6)
    means = [odds[mine].mean(0) for mine in start.pool.records]  # (L,) each
    return torch.stack(means).argmax(-1) == labels if means else torch.zeros(0, dtype=torch.bool)


def _log_odds(probabilities: Tensor) -> Tensor:
    """Return the log odds (B, L) of each label against all others."""
    return torch.logit(probabilities.double(), eps=1e-12)
