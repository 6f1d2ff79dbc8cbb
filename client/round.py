"""The private step: a hospital's work in one round, as pure functions of records, prompt and streams of randomness.

Everything computed here before `release` is secret. Only what `answer` returns may leave.
Letters in shape comments: R drawn records, N drawn patients, P prompt rows, L label rows, D hidden size.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from client.records import Cohort
from shared.backbone import Hidden
from shared.privacy.mechanism import Mechanism, Update, encode, release
from shared.privacy.sampling import Indices, poisson
from shared.privacy.source import Source
from shared.prompt import Array
from shared.scoring import Scorer


@dataclass(frozen=True)
class LocalPlan:
    """The public facts of a site's work in one round.

    Attributes:
        mechanism: rate, clip norm and noise of every release.
        steps: releases in one round; between two of them the site moves its own copy of the prompt.
        learning_rate: of that local move.
        denominator: public constant that divides the local sum in that move, never a count of patients.
    """

    mechanism: Mechanism
    steps: int
    learning_rate: float
    denominator: float


@dataclass(frozen=True)
class Pool:
    """A site's patients in memory: hidden states below the prompt, label indices (B,), and each patient's records."""

    hidden: Hidden
    labels: Tensor
    records: tuple[Tensor, ...]

    @property
    def patients(self) -> int:
        """The number of patients; private."""
        return len(self.records)


def pool(cohort: Cohort, scorer: Scorer) -> Pool:
    """Compute a cohort's hidden states once; every patient has at least one record."""
    owners = np.array(cohort.patients, dtype=np.int64)
    records = tuple(torch.from_numpy(np.flatnonzero(owners == patient)) for patient in range(cohort.size))
    return Pool(scorer.read(cohort.records), torch.tensor(cohort.labels, dtype=torch.long), records)


def patient_gradients(pool_: Pool, drawn: Indices, prompt: Tensor, scorer: Scorer) -> Tensor:
    """Return one gradient per drawn patient, the mean over the patient's records: (N, P+L, D).

    A patient's gradient depends on that patient's records and the prompt alone.
    """
    if len(drawn) == 0:
        return torch.zeros(0, *prompt.shape)
    mine = [pool_.records[patient] for patient in drawn]
    index = torch.cat(mine)  # (R,)
    owner = torch.repeat_interleave(torch.arange(len(mine)), torch.tensor([len(m) for m in mine]))  # (R,)
    each = scorer.record_gradients(pool_.hidden[index], pool_.labels[index], prompt)  # (R, P+L, D)
    summed = torch.zeros(len(mine), *prompt.shape).index_add(0, owner, each)  # (N, P+L, D)
    return summed / torch.tensor([len(m) for m in mine]).view(-1, 1, 1)


def answer(pool_: Pool, prompt: Array, plan: LocalPlan, scorer: Scorer, source: Source, *purpose: str | int) -> Update:
    """Return the sum of the round's noised gradient sums (P+L, D): what leaves the site, in the mechanism's dtype.

    Args:
        pool_: the site's patients.
        prompt: the broadcast prompt (P+L, D).
        plan: the public facts of the round.
        scorer: backbone and prompt shape.
        source: gives one stream for the draw and one for the noise of every step.
        purpose: names the round, for example ``(run, site, round)``.
    """
    here = torch.from_numpy(np.array(prompt))  # (P+L, D)
    total = np.zeros(prompt.shape, dtype=np.int64 if plan.mechanism.exact else np.float64)
    for step in range(plan.steps):
        drawn = poisson(pool_.patients, plan.mechanism.sample_rate, source.stream("draw", *purpose, step))
        gradients = patient_gradients(pool_, drawn, here, scorer)
        noised = release(gradients, plan.mechanism, source.stream("noise", *purpose, step))
        total += noised.value  # (P+L, D)
        moved = plan.learning_rate * noised.grid / plan.denominator
        here = here - torch.from_numpy(noised.value * moved).float()
    return encode(total, plan.mechanism)
