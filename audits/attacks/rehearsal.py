"""Updates that an attacker on notes can make alone, and those that it attacks: made up, of made-up patients.

Letters in shape comments: N notes, B notes of one update, U updates, G gaps, K numbers of the one tensor.
"""

from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from audits.attacks import notes
from audits.attacks.notes import Choices
from audits.subject import Subject
from client.records import Cohort
from client.round import LocalPlan, Pool, answer, pool
from shared.privacy.clip import drop_non_finite
from shared.privacy.mechanism import Mechanism, decode
from shared.privacy.source import SimulationSource

Rows = NDArray[np.float64]  # (N, K)
SHADOWS, SINGLE, SUMMED, BATCH = 768, 48, 9, 8  # public notes; updates of one note and of a batch; the batch
Labels = NDArray[np.int64]  # (N,)


@dataclass(frozen=True)
class Shadows:
    """Public notes with the clipped gradients that they give: (N, G), (N,), (N, K)."""

    choices: Choices
    labels: Labels
    gradients: Rows
    kinds: int  # how many labels the task has


@dataclass(frozen=True)
class Updates:
    """What left of U updates of B notes each, with and without noise, and the truth that the attack is measured by.

    `choices` is (U, B, G), `labels` (U, B), `noised` and `control` (U, K) sums of gradients.
    """

    choices: NDArray[np.int64]
    labels: NDArray[np.int64]
    noised: Rows
    control: Rows

    @property
    def batch(self) -> int:
        """B, the notes of one update."""
        return int(self.choices.shape[1])

    def first(self, count: int) -> "Updates":
        """Return the first `count` updates."""
        return Updates(self.choices[:count], self.labels[:count], self.noised[:count], self.control[:count])


@dataclass(frozen=True)
class Material:
    """What both attacks on words work with.

    Attributes:
        shadows: what the attacker made.
        read: updates that the inverter reads, one entry a batch size.
        matched: the first of them, which gradients are matched with.
        alternatives: words that matching tries in each gap with exact gradients.
    """

    shadows: Shadows
    read: tuple[Updates, ...]
    matched: tuple[Updates, ...]
    alternatives: int


def gather(subject: Subject, thorough: bool = False, seed: int = 0) -> Material:
    """Make what the attacks need; seconds of simulated gradients, of which `thorough` takes four times as many."""
    more = 4 if thorough else 1
    shadows = make_shadows(subject, SHADOWS * more, np.random.default_rng([seed, 1]))
    single = make_updates(subject, SINGLE * more, 1, seed)
    summed = make_updates(subject, SUMMED * more, BATCH, seed)
    matched = single.first(len(single.noised) // 2), summed.first(len(summed.noised) // 3)
    return Material(shadows, (single, summed), matched, alternatives=3 if thorough else 1)


def predict(subject: Subject, choices: Choices, labels: Labels) -> Rows:
    """Return the clipped gradients that notes would give at the broadcast prompt: anyone with the model can, (N, K)."""
    prompt = torch.from_numpy(np.array(subject.prompts[0]))  # (P+L, D)
    hidden = subject.scorer.read([notes.text(note) for note in choices])
    each = subject.scorer.record_gradients(hidden, torch.from_numpy(labels), prompt)  # (N, P+L, D)
    return clipped(each, subject.mechanism.clip_norm)


def clipped(gradients: Tensor, clip_norm: float) -> Rows:
    """Return gradients (N, P+L, D) as rows (N, K) of at most this norm; one that is not finite is zero, as at a site."""
    flat = drop_non_finite(gradients).flatten(1).double().numpy()  # (N, K)
    norms = np.linalg.norm(flat, axis=1, keepdims=True)  # (N, 1)
    return flat * np.minimum(1.0, clip_norm / np.maximum(norms, 1e-300))  # type: ignore[no-any-return]


def make_shadows(subject: Subject, count: int, public: np.random.Generator) -> Shadows:
    """Return `count` public notes with labels that follow from nothing, and their gradients."""
    kinds = subject.scorer.labels
    choices, labels = notes.draw(count, public), public.integers(kinds, size=count)
    return Shadows(choices, labels, predict(subject, choices, labels), kinds)


def make_updates(subject: Subject, count: int, batch: int, seed: int) -> Updates:
    """Return updates of made-up notes, one note a patient, from the subject's own step; draws and noise are seeded.

    Every patient is drawn for certain, which is the worst case, and the control is the true step without noise.
    """
    public = np.random.default_rng([seed, batch])
    choices, labels = notes.draw(count * batch, public), public.integers(subject.scorer.labels, size=count * batch)
    patients = pool(_cohort(choices, labels), subject.scorer)
    plan, bare = certain(subject), certain(subject, noised=False)
    noised, control = [], []
    for number in range(count):
        mine, prompt = _part(patients, number * batch, batch), subject.prompts[0]
        source, purpose = SimulationSource(seed), ("notes", batch, number)
        noised.append(decode(subject.step(mine, prompt, plan, subject.scorer, source, *purpose), plan.mechanism).ravel())
        control.append(decode(answer(mine, prompt, bare, subject.scorer, source, *purpose), bare.mechanism).ravel())
    cut = (count, batch)
    return Updates(choices.reshape(*cut, -1), labels.reshape(cut), np.stack(noised), np.stack(control))


def certain(subject: Subject, noised: bool = True) -> LocalPlan:
    """Return the card's plan of one release in which every patient is drawn; without noise for a control."""
    stated = subject.mechanism
    mechanism = replace(stated, sample_rate=1.0) if noised else Mechanism(1.0, stated.clip_norm, 0.0, exact=False)
    return replace(subject.plan, mechanism=mechanism, steps=1)


def _cohort(choices: Choices, labels: Labels) -> Cohort:
    texts = tuple(notes.text(note) for note in choices)
    return Cohort(texts, tuple(int(label) for label in labels), tuple(range(len(texts))), len(texts))


def _part(patients: Pool, start: int, batch: int) -> Pool:
    """Return a site of some of the patients, who have one record each."""
    index = torch.arange(start, start + batch)
    return Pool(patients.hidden[index], patients.labels[index], tuple(torch.tensor([i]) for i in range(batch)))
