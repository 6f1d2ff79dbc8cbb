"""Membership by the released prompt alone: LiRA and RMIA with shadow prompts.

Half of the shadows are the attacker's, who knows whom each was trained on; the others are under attack (Carlini et al. 2022). That
each is under attack once, with all others as shadows, would use more of them, but a patient's own scores then depend on each
other, which pulls the area under the curve below a half. Let p be the probability that a prompt gives to the patient's own label.

* LiRA: phi = logit(p) is Gaussian with one mean for shadows that have the patient and one for those that have not; the score is
  the log-likelihood ratio. The two variances are shared by all patients, as the paper does where there are few shadows.
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
    mine = sizes.shadows // 2  # the attacker's; the others are attacked
    scores = [_scores(probabilities(subject.scorer, everyone, shadows), inside, mine) for shadows in (seen, control)]
    trials = [_trial(name, scores[0][name], scores[1][name], inside[mine:], ceiling) for name in ("LiRA", "RMIA")]
    facts = {"shadows": sizes.shadows, "patients": half, "rounds": rounds}
    return section(TITLE, trials, {**facts, "covers_half": {t.name: _covers_half(t) for t in trials}})


def probabilities(scorer: Scorer, patients: Pool, shadows: Shadows) -> Numbers:
    """Return the probability that each shadow's prompt gives to each patient's own label, (S, N)."""
    labels = patients.labels.unsqueeze(1)
    with torch.no_grad():
        found = [scorer.probabilities(patients.hidden, prompt).gather(1, labels)[:, 0] for prompt in shadows.prompts]
    return np.clip(torch.stack(found).double().numpy(), 1e-7, 1 - 1e-7)  # type: ignore[no-any-return]


def lira(targets: Numbers, shadows: Numbers, inside: Truth) -> Numbers:
    """Return each patient's score of being in each target, (U, N).

    Args:
        targets: probabilities of the own label by the prompts under attack, (U, N).
        shadows: the same by the attacker's prompts (S, N), of which `inside` (S, N) is known.
    """
    phi, seen = logit(targets), logit(shadows)
    terms = []
    for chosen in (inside, ~inside):
        mean = _means(seen, chosen)  # (N,)
        freedom = max(int(chosen.sum()) - len(mean), 1)
        spread = max(float(np.sqrt((((seen - mean) ** 2)[chosen]).sum() / freedom)), 1e-9)
        terms.append(-(((phi - mean) / spread) ** 2) / 2 - np.log(spread))
    return np.asarray(terms[0] - terms[1])


def rmia(targets: Numbers, shadows: Numbers, inside: Truth, crowd: tuple[Numbers, Numbers]) -> Numbers:
    """Return each patient's score of being in each target (U, N), 0 for the median of the crowd; arguments as for `lira`.

    `crowd` holds the probabilities by targets (U, Z) and shadows (S, Z) of patients from whom nobody trains.
    """
    both = (_means(shadows, inside) + _means(shadows, ~inside)) / 2  # (N,)
    x, z = targets / both, crowd[0] / crowd[1].mean(0)
    return np.array([(row[:, None] >= base[None]).mean(1) - 0.5 for row, base in zip(x, z, strict=True)])


def _means(values: Numbers, chosen: Truth) -> Numbers:
    """Return the mean (N,) of each column's chosen entries, or of all where none is chosen."""
    count = chosen.sum(0)
    return np.asarray(np.where(count > 0, (values * chosen).sum(0) / np.maximum(count, 1), values.mean(0)))


def _scores(probability: Numbers, inside: Truth, mine: int) -> dict[str, Numbers]:
    """Return both attacks' scores (U, N) from the probabilities (S + U, N + Z) of all shadows, the attacker's first."""
    shadows, targets = np.split(probability, [mine])
    patients = inside.shape[1]
    own, crowd = (targets[:, :patients], shadows[:, :patients]), (targets[:, patients:], shadows[:, patients:])
    return {"LiRA": lira(*own, inside[:mine]), "RMIA": rmia(*own, inside[:mine], crowd)}


def _trial(name: str, seen: Numbers, control: Numbers, inside: Truth, ceiling: Ceiling) -> Trial:
    target = np.repeat(np.arange(len(inside)), inside.shape[1])  # one prompt's scores share its noise
    return tell_apart(
        f"Who took part, released prompt ({name})",
        f"The released prompt does not tell {name} who took part better than epsilon allows",
        Scored(seen.ravel(), inside.ravel(), target),
        Scored(control.ravel(), inside.ravel(), target),
        ceiling,
        ENOUGH,
        "made-up patients, all at one site; shadows are fewer than in the papers unless the audit is thorough",
    )


def _covers_half(trial: Trial) -> bool:
    area = trial.figures[0].measured
    return area.low <= 0.5 <= area.high
