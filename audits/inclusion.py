"""Layer L2, the draw: who was in, read off the updates of made-up patients who each have a direction of their own.

The noise is made tiny and public here and the gradients are known, so that every update shows its draw; rate and sampler are the
real ones. A black-box test of what amplification by sampling assumes: independent coins of the card's rate, new ones every round.
"""

import math
from dataclasses import asdict, replace

import numpy as np
import torch
from numpy.typing import NDArray

from audits.recorded import DRAW, Recorded, known, known_pool
from audits.section import Section, Table, Verdict, section_of
from audits.statistics import LEVEL, examine_draws
from audits.subject import SITE, Subject
from client.round import Pool
from shared.scoring import Scorer

TITLE = "Is every patient drawn with the stated rate, independently?"
RUN = "inclusion"
ROUNDS, PATIENTS = 40, 150  # at least; a low rate needs more of both
COINS = 1200  # drawn patients that the test needs
MOST_ROUNDS, MOST_PATIENTS = 3000, 1500
TINY = 1e-3  # the noise multiplier of the test: a thousandth of what a patient adds
UNSURE = 0.1  # what is this far from 0 and 1 is no draw


def inclusion(subject: Subject) -> Section:
    """Test the draws of the subject's step over 40 rounds or more, with the operating system's randomness."""
    read = readings(subject)
    drawn = read > 0.5
    doubt = float(np.abs(read - drawn).max(initial=0.0))
    verdicts = [_legible(doubt), _poisson(drawn, subject.mechanism.sample_rate)]
    facts = {"rounds": len(drawn), "patients": drawn.shape[1], "drawn": int(drawn.sum())}
    return section_of(TITLE, verdicts, tables=(_table(drawn, subject.mechanism.sample_rate),), facts=facts)


def readings(subject: Subject) -> NDArray[np.float64]:
    """Return how often each patient is in each round's update (T, N): 1 where drawn, 0 where not, up to the tiny noise."""
    rate, count = subject.mechanism.sample_rate, math.prod(subject.scorer.shape.shape)
    patients = min(count, MOST_PATIENTS, max(PATIENTS, math.ceil(COINS / rate / ROUNDS)))
    rounds = min(MOST_ROUNDS, max(ROUNDS, math.ceil(COINS / rate / patients)))
    plan = replace(subject.plan, mechanism=replace(subject.mechanism, noise_multiplier=TINY), steps=1)
    pool, scorer = _directions(subject, patients)
    source, rows = Recorded(0, real=(DRAW,)), []  # real coins; the tiny noise protects nobody and may be seeded
    for round_ in range(1, rounds + 1):
        update = subject.step(pool, subject.prompts[0], plan, scorer, source, RUN, SITE, round_)
        rows.append(_read(update * (plan.mechanism.grid / plan.mechanism.clip_norm), patients))
    return np.stack(rows)


def _directions(subject: Subject, patients: int) -> tuple[Pool, Scorer]:
    """Return patients of whom the n-th has a gradient of twice the clip norm in coordinate n."""
    shape = subject.scorer.shape.shape
    gradients = torch.eye(patients, math.prod(shape)) * 2 * subject.mechanism.clip_norm  # (N, d)
    return known_pool(list(range(patients))), known(subject.scorer, gradients.view(patients, *shape))


def _read(update: NDArray[np.float64], patients: int) -> NDArray[np.float64]:
    flat = update.ravel()[:patients]
    return np.nan_to_num(flat) if flat.size == patients else np.full(patients, 0.5)


def _legible(doubt: float) -> Verdict:
    return Verdict(
        "L2",
        "A drawn patient adds its own clipped gradient, another one nothing",
        f"the furthest reading from 0 and 1 is off by {doubt:.3f}",
        f"{UNSURE:g}",
        doubt < UNSURE,
        "Seen for patients whose gradients are longer than the clip norm and orthogonal.",
    )


def _poisson(drawn: NDArray[np.bool_], rate: float) -> Verdict:
    claim, caveat = "The draw is Poisson at the card's rate", "A generator whose coins only look independent passes."
    if rate == 1:
        absent = int((~drawn).sum())
        return Verdict("L2", claim, f"{absent} of {drawn.size} coins were tails", "none", absent == 0, caveat)
    found = examine_draws(drawn, rate)
    worst = min(asdict(found), key=lambda name: getattr(found, name))
    measured = f"rate {drawn.mean():.4f} in {len(drawn)} rounds of {drawn.shape[1]} patients; p-value {found.p_value:.2g} ({worst})"
    return Verdict("L2", claim, measured, f"rate {rate:g}, p-value {LEVEL:g}", found.p_value >= LEVEL, caveat)


def _table(drawn: NDArray[np.bool_], rate: float) -> Table:
    names = {
        "rate": "the share of drawn coins",
        "size": "how much the number of drawn patients varies",
        "patients": "how much the number of rounds of a patient varies",
        "pairs": "patients who come together, or never",
        "rounds": "a draw that resembles the one before",
    }
    found = examine_draws(drawn, rate) if rate < 1 else None
    rows = [(says, f"{getattr(found, name):.3g}") for name, says in names.items()] if found else []
    return Table("P-values of the draw", ("looked at", "p-value"), rows)
