"""Membership by the released prompt alone: LiRA and RMIA with shadow prompts.

Every shadow is the target once, and the others are the attacker's (Carlini et al. 2022). Let p be the probability that the target
gives to the patient's own label.

* LiRA: phi = logit(p) is Gaussian with one mean for shadows that have the patient and one for those that have not; the score is
  the log-likelihood ratio. Both variances are shared by all patients, as the paper does where there are few shadows.
* RMIA (Zarifzadeh et al. 2024): how often ``[p(x) / mean p(x)] / [p(z) / mean p(z)] >= 1`` for z from a population that nobody
  trains on; the means are over shadows with and without x, each half.

A released prompt depends on the releases only, so the ceiling is that of all of them. An attack on what is released is no
certificate: it says what such attackers find, not what all could.
"""

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import logit

from audits.attacks.ceiling import Ceiling, ceiling_of
from audits.attacks.judge import Scored, Trial, section, tell_apart
from audits.attacks.scenes import Sizes, distinct
from audits.attacks.shadows import Shadows, train
from audits.attacks.view import Numbers
from audits.section import Section
from audits.subject import Subject
from client.round import Pool
from shared.scoring import Scorer

TITLE = "Can the released prompt tell who took part?"
ENOUGH = 0.6
Truth = NDArray[np.bool_]


def attack(subject: Subject, sizes: Sizes, seed: int) -> Section:
    """Train shadows with and without noise, and look for their patients in each."""
    everyone = distinct(subject, 2 * sizes.shadow_patients, seed)
    half = everyone.patients // 2
    inside = np.random.default_rng(seed).random((sizes.shadows, half)) < 0.5
    rounds = min(subject.task.card.plan.rounds * subject.plan.steps, sizes.rounds)
    patients = Pool(everyone.hidden, everyone.labels, everyone.records[:half])
    seen, control = (train(subject, patients, inside, rounds, noisy) for noisy in (True, False))
    ceiling = ceiling_of([subject.mechanism.spends] * rounds)
    right = [probabilities(subject.scorer, everyone, shadows) for shadows in (seen, control)]  # 2 x (S, 2N)
    trials = [
        _trial("LiRA", [lira(p[:, :half], inside) for p in right], inside, ceiling),
        _trial("RMIA", [rmia(p[:, :half], p[:, half:], inside) for p in right], inside, ceiling),
    ]
    facts = {"shadows": sizes.shadows, "patients": half, "rounds": rounds}
    return section(TITLE, trials, {**facts, "covers_half": {t.name: _covers_half(t) for t in trials}})


def probabilities(scorer: Scorer, patients: Pool, shadows: Shadows) -> Numbers:
    """Return the probability that each shadow's prompt gives to each patient's own label, (S, N)."""
    labels = patients.labels.unsqueeze(1)
    with torch.no_grad():
        found = [scorer.probabilities(patients.hidden, prompt).gather(1, labels)[:, 0] for prompt in shadows.prompts]
    return np.clip(torch.stack(found).double().numpy(), 1e-7, 1 - 1e-7)  # type: ignore[no-any-return]


def lira(probability: Numbers, inside: Truth) -> Numbers:
    """Return each patient's score of being in each shadow (S, N), from the other shadows; both arguments are (S, N)."""
    phi = logit(probability)
    with_, without = (_means_of_others(phi, chosen) for chosen in (inside, ~inside))
    spread = [float(np.sqrt(np.mean((phi - mean)[chosen] ** 2))) for mean, chosen in ((with_, inside), (without, ~inside))]
    ratio = [
        -(((phi - mean) / max(s, 1e-12)) ** 2) / 2 - np.log(max(s, 1e-12)) for mean, s in zip((with_, without), spread, strict=True)
    ]
    return ratio[0] - ratio[1]  # type: ignore[no-any-return]


def rmia(probability: Numbers, population: Numbers, inside: Truth) -> Numbers:
    """Return each patient's score of being in each shadow (S, N), 0 for the median of the `population` (S, Z)."""
    both = (_means_of_others(probability, inside) + _means_of_others(probability, ~inside)) / 2
    count = len(population)
    others = (population.sum(0) - population) / max(count - 1, 1)  # (S, Z): nobody trains on them
    x, z = probability / both, population / others
    return np.array([(row[:, None] >= base[None]).mean(1) - 0.5 for row, base in zip(x, z, strict=True)])


def _means_of_others(values: Numbers, chosen: Truth) -> Numbers:
    """Return, of each entry (S, N), the mean over the chosen entries of its column that are not it; of all others if none is."""
    weight = chosen.astype(np.float64)
    own = values * weight
    count = weight.sum(0) - weight
    whole = (values.sum(0) - values) / max(len(values) - 1, 1)
    return np.where(count > 0, (own.sum(0) - own) / np.maximum(count, 1), whole)  # type: ignore[no-any-return]


def _trial(name: str, scores: list[Numbers], inside: Truth, ceiling: Ceiling) -> Trial:
    cluster = np.repeat(np.arange(len(inside)), inside.shape[1])
    seen, control = (Scored(score.ravel(), inside.ravel(), cluster) for score in scores)
    return tell_apart(
        f"Who took part, released prompt ({name})",
        f"The released prompt does not tell {name} who took part better than epsilon allows",
        seen,
        control,
        ceiling,
        ENOUGH,
        "made-up patients, all at one site; shadows are fewer than in the papers unless the audit is thorough",
    )


def _covers_half(trial: Trial) -> bool:
    area = trial.figures[0].measured
    return area.low <= 0.5 <= area.high
