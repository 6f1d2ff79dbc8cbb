"""Attribute inference: one field of a patient whose other fields, and label, are known; with a certificate.

The attacker picks the field whose values move the gradient most and names one of its k equally likely values. Under mu-Gaussian
differential privacy the chance to be right is at most Phi(Phi^-1(1/k) + mu), see `ceiling.Ceiling.guess`. So R releases, each
with its own value and noise, of which many are guessed right, certify at 95 % that mu is at least

    Phi^-1(p) - Phi^-1(1/k),    p the lower end of Clopper and Pearson's one-sided interval.
"""

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

from audits.attacks.alone import Alone
from audits.attacks.ceiling import ceiling_of, drawn
from audits.attacks.decoding import best_of
from audits.attacks.judge import guesses, section
from audits.attacks.roc import share
from audits.attacks.view import Numbers
from audits.section import Section
from audits.subject import Subject

TITLE = "Can one update tell what a record says?"


def attack(subject: Subject, scene: Alone) -> Section:
    """Guess the field's value in each release."""
    right, control = (_right(scene, updates) for updates in (scene.updates, scene.control))
    values = len(scene.choices)
    trial = guesses(
        f"Value of '{scene.field}', one update",
        f"One update does not tell a patient's {scene.field} better than its noise allows",
        right,
        control,
        values,
        ceiling_of([drawn(subject.mechanism.spends)]),
        "the attacker knows the label, all other fields and everybody else in the draw; made-up patients",
    )
    claimed = 1 / subject.mechanism.noise_multiplier
    told = {"certified_at_least": certified(int(right.sum()), len(right), values), "claimed": claimed}
    facts = {"field": scene.field, "values": list(scene.choices), "gaussian_mu_of_one_release": told}
    return section(TITLE, [trial], facts, caveats=("A low certified mu proves nothing: another attacker may do better.",))


def certified(right: int, asked: int, values: int, level: float = 0.95) -> float:
    """Return the mu that so many right guesses among k values certify, 0 where they certify nothing.

    >>> round(certified(90, 100, 2), 2)  # 84 of 100 at least; two opposite gradients at mu = 1 are told apart by 84 %
    0.98
    """
    low = share(right, asked, 2 * level - 1).low
    return float(max(0.0, ndtri(low) - ndtri(1 / values)))


def _right(scene: Alone, updates: Numbers) -> NDArray[np.bool_]:
    """Return which guesses are right, (R,): the candidates differ in the field alone."""
    candidates = scene.gradients[scene.target, scene.label]  # (R, k, d)
    return np.equal([best_of(mine, u) for mine, u in zip(candidates, updates, strict=True)], scene.value)
