"""Label leakage: the label of one patient whose record is known, and how many patients of each label were in a draw.

One patient's label is a guess among L values, held against the ceiling. How many there were of each label is nobody's secret by
itself, so it has no ceiling; it is told beside what the prior and the un-noised update give.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from audits.attacks.alone import Alone
from audits.attacks.ceiling import ceiling_of, drawn
from audits.attacks.decoding import Background, best_of, estimates
from audits.attacks.judge import guesses, section
from audits.attacks.scenes import Draws
from audits.attacks.view import Numbers, noise_of
from audits.section import Section, Table
from audits.subject import Subject

TITLE = "Can one update tell a diagnosis?"


def attack(subject: Subject, scene: Alone, draws: Sequence[Draws], labels: NDArray[np.int64]) -> Section:
    """Guess the label of each release's patient, and count labels in each draw of the gallery, whose labels (K,) are given."""
    names = [label.name for label in subject.task.card.labels]
    trial = guesses(
        "Diagnosis of one patient, one update",
        "One update does not tell a patient's label better than its noise allows",
        _right(scene, scene.updates),
        _right(scene, scene.control),
        len(names),
        ceiling_of([drawn(subject.mechanism.spends)]),
        "the attacker knows the patient's record and everybody else in the draw; made-up patients",
    )
    with_noise, without, prior = (float(np.mean(errors)) for errors in _histograms(subject, draws, labels))
    told = {"with_noise": with_noise, "without_noise": without, "prior": prior}
    table = Table(
        "How far off the attacker's count of patients by label is, as a share of the draw: half the summed error.",
        ("update as it leaves", "without noise", "prior alone"),
        [[f"{with_noise:.3f}", f"{without:.3f}", f"{prior:.3f}"]],
    )
    return section(TITLE, [trial], {"labels": names, "histogram_error": told}, (table,))


def _right(scene: Alone, updates: Numbers) -> NDArray[np.bool_]:
    """Return which guesses are right, (R,): the candidates differ in the label alone."""
    candidates = scene.gradients[scene.target, :, scene.value]  # (R, L, d)
    return np.equal([best_of(mine, u) for mine, u in zip(candidates, updates, strict=True)], scene.label)


def _histograms(
    subject: Subject, draws: Sequence[Draws], labels: NDArray[np.int64]
) -> tuple[list[float], list[float], list[float]]:
    """Return the errors of each release: as it leaves, without noise, and by the prior alone."""
    one_hot = np.eye(len(subject.task.card.labels))[labels]  # (K, L)
    background = Background.coins(subject.mechanism.sample_rate, len(labels))
    prior = background.mean @ one_hot  # (L,)
    found: tuple[list[float], list[float], list[float]] = ([], [], [])
    for each in draws:
        for place, noisy, updates, who in ((0, True, each.updates, each.drawn), (1, False, each.control, each.control_drawn)):
            who_was_in = estimates(each.gradients, updates, noise_of(subject, noisy), background)  # (U, K)
            found[place].extend(_error(who_was_in @ one_hot, who @ one_hot))
        found[2].extend(_error(np.broadcast_to(prior, (len(each.drawn), len(prior))), each.drawn @ one_hot))
    return found


def _error(counted: Numbers, truth: Numbers) -> list[float]:
    return (np.abs(counted - truth).sum(1) / np.maximum(2 * truth.sum(1), 1)).tolist()  # type: ignore[no-any-return]
