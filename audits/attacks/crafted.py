"""A coordinator that crafts the prompt so that one patient's gradient stands out, after PromptMIA (arXiv 2601.06641).

It knows the target's record, the model and records like the others', not the others themselves. It builds prompts whose label
rows point along the target's own output, so that the target is as wrong as can be, at several lengths and with several prompt
rows, predicts on its own records how well each would tell "in" from "out", and sends the best. Differential privacy holds for
any prompt: Dong et al. (2022) bound its accuracy by Phi(mu / 2) and its AUC by Phi(mu / sqrt 2).
Letters in shape comments: N patients, P prompt rows, L label rows, D hidden size, K numbers of the one tensor.
"""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import stats
from torch import Tensor

from audits.attacks.choice import Tally
from audits.attacks.rehearsal import Rows, certain, clipped
from audits.subject import Subject, made_up_pool
from client.round import Pool, patient_gradients
from shared.backbone import Hidden
from shared.privacy.mechanism import decode
from shared.privacy.source import SimulationSource
from shared.prompt import Array

OTHERS, PUBLIC, CROWD = 3, 24, 96  # patients beside the target, those the search predicts with, and those of all sites
LENGTHS, TURNS, STRETCHES = (0.1, 1.0, 10.0), 2, (1.0, 30.0)  # of label rows; their turns off the target; of prompt rows


@dataclass(frozen=True)
class Prospect:
    """What the attacker can predict of a prompt alone, without asking anybody.

    Attributes:
        prompt: (P+L, D).
        direction: the target's clipped gradient (K,), along which updates are scored.
        middle: the score above which the guess is "in".
        separation: standard deviations by which the target's presence moves the score.
    """

    prompt: Array
    direction: NDArray[np.float64]
    middle: float
    separation: float

    @property
    def length(self) -> float:
        """The norm of the target's clipped gradient."""
        return float(np.linalg.norm(self.direction))


@dataclass(frozen=True)
class Membership:
    """How well a prompt told whether the target took part.

    Attributes:
        right: guesses that were right, half of them with the target and half without.
        auc: of the target's score.
        control: share of right guesses without noise.
    """

    right: Tally
    auc: float
    control: float


def accuracy_ceiling(mu: float) -> float:
    """Return the largest balanced accuracy of any membership attack under mu-Gaussian differential privacy.

    >>> round(accuracy_ceiling(1.0), 3)
    0.691
    """
    return float(stats.norm.cdf(mu / 2))


def auc_ceiling(mu: float) -> float:
    """Return the largest area under the ROC curve of any membership attack under mu-Gaussian differential privacy."""
    return float(stats.norm.cdf(mu / np.sqrt(2)))


def prospects(subject: Subject, seed: int = 0) -> list[Prospect]:
    """Return the broadcast prompt, and crafted ones that aim at the target of `measure`, with what can be predicted of each."""
    public, target = made_up_pool(subject, PUBLIC, seed + 1), _target(subject, seed)
    return [_prospect(subject, prompt, public, target) for prompt in _candidates(subject, target, np.random.default_rng(seed))]


def measure(subject: Subject, prospect: Prospect, trials: int, seed: int = 0) -> Membership:
    """Ask `trials` made-up sites with the target and as many without for this prompt, everybody drawn; all is seeded.

    The control is the score of the same patients' clipped gradients.
    """
    target, crowd, public = _target(subject, seed), made_up_pool(subject, CROWD, seed + 2), np.random.default_rng(seed)
    alone = gradients_of(subject, prospect.prompt, crowd) @ prospect.direction  # (CROWD,)
    plan, own = certain(subject), prospect.length**2
    scores, controls = np.zeros((2, trials)), np.zeros((2, trials))  # rows: without, with
    for inside, trial in np.ndindex(2, trials):
        others = public.choice(CROWD, OTHERS, replace=False)
        site = _site(crowd, torch.from_numpy(others), target if inside else None)
        source = SimulationSource(seed)
        left = subject.step(site, prospect.prompt, plan, subject.scorer, source, "crafted", inside, trial)
        scores[inside, trial] = decode(left, plan.mechanism).ravel() @ prospect.direction
        controls[inside, trial] = alone[others].sum() + inside * own
    auc = float(stats.mannwhitneyu(scores[1], scores[0]).statistic) / trials**2
    right, control = (int((x[1] > prospect.middle).sum() + (x[0] <= prospect.middle).sum()) for x in (scores, controls))
    return Membership(Tally(right, 2 * trials, 0.5), auc, control / (2 * trials))


def _target(subject: Subject, seed: int) -> Pool:
    """Return the one patient who is looked for."""
    return made_up_pool(subject, 1, seed)


def _site(crowd: Pool, index: Tensor, target: Pool | None) -> Pool:
    """Return a site of these patients of the crowd, who have one record each, with the target or without."""
    own = tuple(torch.tensor([i]) for i in range(len(index)))
    others = Pool(crowd.hidden[index], crowd.labels[index], own)
    if target is None:
        return others
    states = _stack(others.hidden.states, target.hidden.states)
    hidden = Hidden(states, _stack(others.hidden.mask, target.hidden.mask))
    return Pool(hidden, torch.cat([others.labels, target.labels]), (*own, torch.tensor([len(index)])))


def _stack(above: Tensor, below: Tensor) -> Tensor:
    """Put two blocks of records (B, T, ...) below each other, filled up with zeros to the longer T."""
    longest = max(above.shape[1], below.shape[1])
    filled = [torch.cat([x, x.new_zeros(len(x), longest - x.shape[1], *x.shape[2:])], 1) for x in (above, below)]
    return torch.cat(filled)


def _candidates(subject: Subject, target: Pool, public: np.random.Generator) -> list[Array]:
    """Return the broadcast prompt, and crafted ones."""
    honest = subject.prompts[0]
    shape, scorer = subject.scorer.shape, subject.scorer
    found = [honest]
    for stretch in STRETCHES:
        rows = honest[: shape.rows] * stretch  # (P, D)
        if not shape.labels:
            found.append(rows)
            continue
        with torch.no_grad():
            pooled = scorer.pooled(target.hidden, torch.from_numpy(rows)[None]) - scorer.centre  # (1, D)
        along = (pooled / pooled.norm()).numpy()[0]  # (D,)
        signs = np.where(np.arange(shape.labels) == int(target.labels[0]), -1.0, 1.0)[:, None]  # (L, 1)
        for length in LENGTHS:
            for turn in range(TURNS):
                turned = along + 0.5 * turn * public.normal(size=honest[shape.rows :].shape) / np.sqrt(shape.dim)  # (L, D)
                found.append(np.concatenate([rows, signs * length * turned]).astype(np.float32))
    return found


def _prospect(subject: Subject, prompt: Array, public: Pool, target: Pool) -> Prospect:
    direction = gradients_of(subject, prompt, target)[0]  # (K,)
    others = gradients_of(subject, prompt, public) @ direction  # (PUBLIC,)
    own = float(direction @ direction)
    spread = float(np.sqrt(others.var() * OTHERS + subject.mechanism.noise_std**2 * own))
    return Prospect(prompt, direction, OTHERS * float(others.mean()) + own / 2, own / spread if spread else 0.0)


def gradients_of(subject: Subject, prompt: Array, patients: Pool) -> Rows:
    """Return the patients' clipped gradients (N, K)."""
    everybody = np.arange(patients.patients)
    each = patient_gradients(patients, everybody, torch.from_numpy(np.array(prompt)), subject.scorer)  # (N, P+L, D)
    return clipped(each, subject.mechanism.clip_norm)
