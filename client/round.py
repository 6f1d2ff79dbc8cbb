"""The private step: a hospital's work in one round, as pure functions of records, prompt and streams of randomness.

Everything computed here before `release` is secret. Only what `answer` returns may leave.
Letters in shape comments: R drawn records, N drawn patients, P prompt rows, L label rows, D hidden size.
"""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from client.records import Cohort
from shared.backbone import Hidden
from shared.privacy.banded import Carry, groups
from shared.privacy.guarantee import NoisedSum
from shared.privacy.mechanism import Mechanism, Update, encode, parts_of, release, release_in_turn
from shared.privacy.sampling import Indices, poisson
from shared.privacy.source import Source
from shared.prompt import Array, PromptShape
from shared.scoring import Scorer

Step = Callable[..., Update]


@dataclass(frozen=True)
class LocalPlan:
    """The public facts of a site's work in one round.

    Attributes:
        mechanism: rate, clip norm and noise of every release.
        steps: releases in one round; between two of them the site moves its own copy of the prompt.
        learning_rate: of that local move.
        denominator: public constant that divides the local sum in that move, never a count of patients.
        proximal: mu of FedProx (Li et al. 2020, equation 2): the move also goes back toward the broadcast prompt. That adds a term
            of public numbers only, so it costs nothing.
        drift: what every local move adds to the gradient, (P+L, D): `client.control`'s c - c_k; None adds nothing.
    """

    mechanism: Mechanism
    steps: int
    learning_rate: float
    denominator: float
    proximal: float = 0.0
    drift: Tensor | None = None

    def releases(self, turn: int) -> int:
        """Return as how many releases the accountant takes the round that is a run's turn `turn`."""
        return self.mechanism.releases(self.steps, turn)

    def move(self, here: Tensor, noised: NoisedSum, start: Tensor) -> Tensor:
        """Return the site's own copy of the prompt (P+L, D) after a local step; it sees noised values only."""
        moved = self.learning_rate * noised.grid / self.denominator
        drawn_back = self.learning_rate * self.proximal * (here - start)  # (P+L, D)
        there = here - torch.from_numpy(noised.value * moved).float() - drawn_back  # (P+L, D)
        return there if self.drift is None else there - self.learning_rate * self.drift


class Gradients(Protocol):
    """What the private step asks of a model: `shared.scoring.Scorer`, or a mystery site's canaries in its place."""

    @property
    def shape(self) -> PromptShape:
        """The prompt's shape."""
        ...

    def record_gradients(self, hidden: Hidden, labels: Tensor, prompt: Tensor) -> Tensor:
        """Return the gradient of each record's own loss for the prompt, (B, P+L, D)."""
        ...


@dataclass(frozen=True)
class Pool:
    """A site's patients in memory: hidden states below the prompt, label indices (B,), and each patient's records.

    `keys` (N,) hang on a patient's name alone, and say which group of a banded run a patient is in; None: the patients' numbers.
    """

    hidden: Hidden
    labels: Tensor
    records: tuple[Tensor, ...]
    keys: NDArray[np.uint64] | None = None

    @property
    def patients(self) -> int:
        """The number of patients; private."""
        return len(self.records)

    @property
    def numbered(self) -> NDArray[np.uint64]:
        """The keys, or the patients' numbers (N,)."""
        return np.arange(self.patients, dtype=np.uint64) if self.keys is None else self.keys

    def groups(self, bands: int) -> NDArray[np.int64]:
        """Return each patient's group (N,)."""
        return groups(self.numbered, bands)


def pool(cohort: Cohort, scorer: Scorer) -> Pool:
    """Compute a cohort's hidden states once; every patient has at least one record."""
    return pool_of(cohort, scorer.read(cohort.records))


def pool_of(cohort: Cohort, hidden: Hidden) -> Pool:
    """Return the pool of a cohort whose records' hidden states are known."""
    owners = np.array(cohort.patients, dtype=np.int64)
    records = tuple(torch.from_numpy(np.flatnonzero(owners == patient)) for patient in range(cohort.size))
    return Pool(hidden, torch.tensor(cohort.labels, dtype=torch.long), records, keys_of(cohort.names))


def keys_of(names: Sequence[str]) -> NDArray[np.uint64] | None:
    """Return a number for each patient's name (N,), of which nothing else is known; None without names."""
    whole = [int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big") for name in names]
    return np.array(whole, dtype=np.uint64) if names else None


def patient_gradients(pool_: Pool, drawn: Indices, prompt: Tensor, scorer: Gradients) -> Tensor:
    """Return one gradient per drawn patient, the mean over the patient's records: (N, P+L, D).

    A patient's gradient depends on that patient's records and the prompt alone.
    """
    if len(drawn) == 0:
        return torch.zeros(0, *prompt.shape)
    mine = [pool_.records[patient] for patient in drawn]
    index = torch.cat(mine)  # (R,)
    return patient_means(scorer.record_gradients(pool_.hidden[index], pool_.labels[index], prompt), mine)


def owners(mine: Sequence[Tensor]) -> Tensor:
    """Return which of the patients, whose records are `mine`, each record belongs to, (R,)."""
    return torch.repeat_interleave(torch.arange(len(mine)), torch.tensor([len(m) for m in mine]))


def patient_means(each: Tensor, mine: Sequence[Tensor]) -> Tensor:
    """Return each patient's mean gradient (N, ...) from those of its records (R, ...), which stand in the order of `mine`."""
    summed = torch.zeros(len(mine), *each.shape[1:]).index_add(0, owners(mine), each)  # (N, ...)
    return summed / torch.tensor([len(m) for m in mine]).view(-1, *[1] * (each.dim() - 1))


def answer(pool_: Pool, prompt: Array, plan: LocalPlan, scorer: Gradients, source: Source, *purpose: str | int) -> Update:
    """Return the sum of the round's noised gradient sums (P+L, D): what leaves the site, in the mechanism's dtype.

    Args:
        pool_: the site's patients.
        prompt: the broadcast prompt (P+L, D).
        plan: the public facts of the round.
        scorer: backbone and prompt shape.
        source: gives one stream for the draw and one for the noise of every step.
        purpose: names the round, for example ``(run, site, round)``.
    """
    here = start = torch.from_numpy(np.array(prompt))  # (P+L, D)
    total = np.zeros(prompt.shape, dtype=np.int64 if plan.mechanism.exact else np.float64)
    for step in range(plan.steps):
        drawn = poisson(pool_.patients, plan.mechanism.sample_rate, source.stream("draw", *purpose, step))
        gradients = patient_gradients(pool_, drawn, here, scorer)
        noised = release(gradients, plan.mechanism, source.stream("noise", *purpose, step))
        total += noised.value  # (P+L, D)
        here = plan.move(here, noised, start)
    return encode(total, plan.mechanism)


def answer_in_turn(
    pool_: Pool, prompt: Array, plan: LocalPlan, scorer: Gradients, source: Source, carry: Carry, *purpose: str | int
) -> tuple[Update, Carry]:
    """Return what leaves in a round of a banded run (P+L, D), and what the site takes to its next round; see `answer`.

    `carry` is what the last charged round of the run left, or `shared.privacy.banded.fresh`.
    """
    drawn = drawn_in_turn(pool_.groups(plan.mechanism.bands), plan.mechanism, carry.turn, source, *purpose)
    gradients = patient_gradients(pool_, drawn, torch.from_numpy(np.array(prompt)), scorer)
    sums = parts_of(gradients, plan.mechanism).sum(1)  # (b, K)
    noised, after = release_in_turn(sums, plan.mechanism, source.stream("noise", *purpose, 0), carry)
    return encode(noised.value.reshape(prompt.shape), plan.mechanism), after


def drawn_in_turn(groups_: NDArray[np.int64], mechanism: Mechanism, turn: int, source: Source, *purpose: str | int) -> Indices:
    """Return the drawn patients of the group whose turn it is, from each patient's group (N,)."""
    drawn = poisson(len(groups_), mechanism.draw_rate, source.stream("draw", *purpose, 0))
    mine: Indices = drawn[groups_[drawn] == turn % mechanism.bands]
    return mine
