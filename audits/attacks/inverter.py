"""A learned inverter: ridge regression from an update to the words in it, learned from public made-up notes alone.

Once learned it asks no model and takes a matrix product an update (after Wu et al. 2023, "Learning to invert"). It is linear, so
that what it learned on single notes holds for the sum of several. A word of one label may pull the update the other way than
under another label, so each word has one target a label and counts by its largest.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from audits.attacks import notes, words
from audits.attacks.choice import Tally
from audits.attacks.rehearsal import Material, Rows, Shadows, Updates
from audits.attacks.words import Reading, Sets
from audits.section import Section, section_of
from audits.subject import Subject

TITLE = "Can words be read from an update by what was learned from public notes?"
ATTACK = "learned inverter"
FLOOR = 0.03  # regularisation without noise, as a share of the gradients' mean square
BLOCKS = notes.blocks()


@dataclass(frozen=True)
class Inverter:
    """What was learned: the mean gradient (K,), and the weights (K, L * W)."""

    mean: NDArray[np.float64]
    weights: NDArray[np.float64]

    def scores(self, updates: Rows, batch: int) -> NDArray[np.float64]:
        """Return how strongly each word speaks from updates (U, K) of so many notes, (U, W)."""
        found = (updates - batch * self.mean) @ self.weights  # (U, L * W)
        return found.reshape(len(updates), -1, sum(notes.SIZES)).max(1)  # type: ignore[no-any-return]


def audit(subject: Subject, material: Material) -> Section:
    """Learn from the shadows and read the updates.

    The verdict looks at what was learned for the noise as stated, the best for a right step, and for a tenth of it, which reads
    more where there is less noise than stated. The report shows the first.
    """
    std, mu = subject.mechanism.noise_std, 1 / subject.mechanism.noise_multiplier
    readings = [_reading(material.shadows, updates, std) for updates in material.read]
    suspecting = [_reading(material.shadows, updates, std / 10) for updates in material.read]
    return section_of(
        TITLE,
        [words.judge(ATTACK, [*readings, *suspecting], mu)],
        tables=tuple(words.table(ATTACK, reading, mu) for reading in readings),
        marks=words.marks(ATTACK, readings, mu),
        facts={"words": words.as_facts(readings, mu), "words_for_a_tenth_of_the_noise": words.as_facts(suspecting, mu)},
    )


def _reading(shadows: Shadows, updates: Updates, noise_std: float) -> Reading:
    """Return what is read from the noised updates by what was learned for this noise, and from the control for none."""
    return Reading(updates.batch, _read(shadows, updates, updates.noised, noise_std), _read(shadows, updates, updates.control, 0.0))


def _read(shadows: Shadows, updates: Updates, rows: Rows, noise_std: float) -> tuple[Tally, ...]:
    """Learn for this noise, and count what is read from the updates' rows (U, K)."""
    scores = train(shadows, updates.batch, noise_std).scores(rows, updates.batch)
    return words.tally(updates.choices, top_words(scores, updates.batch))


def train(shadows: Shadows, batch: int, noise_std: float) -> Inverter:
    """Learn for updates of `batch` notes under noise of this standard deviation: the best linear estimate for it."""
    held = notes.one_hot(shadows.choices)  # (N, W)
    targets = np.concatenate([held * (shadows.labels == label)[:, None] for label in range(shadows.kinds)], 1)  # (N, L*W)
    mean = shadows.gradients.mean(0)
    centred = shadows.gradients - mean  # (N, K)
    gram = centred @ centred.T  # (N, N)
    damping = len(gram) * noise_std**2 / batch + FLOOR * np.trace(gram) / len(gram) + 1e-12
    dual = np.linalg.solve(gram + damping * np.eye(len(gram)), targets - targets.mean(0))
    return Inverter(mean, centred.T @ dual)


def top_words(scores: NDArray[np.float64], batch: int) -> Sets:
    """Return the `batch` best words of each gap, (U, min(B, words)) a gap."""
    return [np.argsort(-scores[:, block], 1)[:, :batch] for block in BLOCKS]
