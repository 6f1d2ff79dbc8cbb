"""Gradient matching on text: the notes whose simulated gradients add up to an update.

Zhu et al. (2019) match an image's gradient by descent, Balunovic et al. (2022, LAMP) a text's by descent and exchanges of
words. Here the words come from known lists, so that the search is over words alone: first in a linear model of how each word
moves the gradient, learned from simulated notes, then among exact gradients of the best notes' neighbours.
Letters in shape comments: U updates, B notes of one update, G gaps, W words of all gaps, L labels, K numbers of the tensor.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from audits.attacks import notes
from audits.attacks.notes import Choices
from audits.attacks.rehearsal import Labels, Rows, Shadows

RIDGE = 0.3
SWEEPS = 3
BLOCKS = notes.blocks()
Predict = Callable[[Choices, Labels], Rows]  # notes and labels to clipped gradients


@dataclass(frozen=True)
class Dictionary:
    """The linear model: a note's gradient is its label's row W plus the row of each of its words, `effects` (L, W+1, K)."""

    effects: NDArray[np.float64]

    def gradients(self, choices: Choices, label: int) -> Rows:
        """Return the modelled gradients (N, K) of notes (N, G)."""
        return _design(choices) @ self.effects[label]  # type: ignore[no-any-return]

    def scores(self, rest: Rows, choices: Choices, label: int, gap: int) -> NDArray[np.float64]:
        """Return (N, words): how near to `rest` (N, K) each word of the gap brings the note, in squared distance, negated."""
        block, effects = BLOCKS[gap], self.effects[label]
        others = _design(choices)
        others[:, block] = 0.0
        left = rest - others @ effects  # (N, K)
        return 2 * left @ effects[block].T - (effects[block] ** 2).sum(1)  # type: ignore[no-any-return]


@dataclass(frozen=True)
class Guess:
    """The notes that an attack reads from updates: choices (U, B, G) and labels (U, B)."""

    choices: NDArray[np.int64]
    labels: NDArray[np.int64]


def learn(shadows: Shadows) -> Dictionary:
    """Fit the linear model to simulated notes, one ridge regression a label."""
    effects = []
    for label in range(shadows.kinds):
        mine = shadows.labels == label
        design = _design(shadows.choices[mine])  # (N, W+1)
        normal = design.T @ design + RIDGE * np.eye(design.shape[1])
        effects.append(np.linalg.solve(normal, design.T @ shadows.gradients[mine]))
    return Dictionary(np.stack(effects))


def match(dictionary: Dictionary, updates: Rows, batch: int) -> Guess:
    """Return notes whose modelled gradients add up to the updates (U, K): matching pursuit, note by note, then again."""
    count = len(updates)
    parts = np.zeros((batch, count, updates.shape[1]))  # (B, U, K)
    choices = np.zeros((batch, count, len(BLOCKS)), dtype=np.int64)
    labels = np.zeros((batch, count), dtype=np.int64)
    for _ in range(SWEEPS if batch > 1 else 1):
        for note in range(batch):
            rest = updates - parts.sum(0) + parts[note]  # (U, K)
            choices[note], labels[note], parts[note] = _nearest(dictionary, rest)
    return Guess(choices.transpose(1, 0, 2), labels.T)


def refine(dictionary: Dictionary, updates: Rows, guess: Guess, predict: Predict, alternatives: int) -> Guess:
    """Change one word of each note where the exact gradients then come nearer to the update.

    Args:
        dictionary: chooses the words that are tried.
        updates: (U, K).
        guess: the notes to start from.
        predict: exact gradients; it is asked for about ``U * B * G * alternatives`` notes.
        alternatives: words that are tried in each gap.
    """
    count, batch, gaps = guess.choices.shape
    choices, flat_labels = guess.choices.copy(), guess.labels.reshape(-1)
    exact = predict(choices.reshape(-1, gaps), flat_labels).reshape(count, batch, -1)  # (U, B, K)
    rest = updates[:, None] - exact.sum(1, keepdims=True) + exact  # (U, B, K): what each note has to explain
    tried = _neighbours(dictionary, rest.reshape(count * batch, -1), choices.reshape(-1, gaps), flat_labels, alternatives)
    width = tried.shape[1]
    found = predict(tried.reshape(-1, gaps), np.repeat(flat_labels, width)).reshape(count, batch, width, -1)
    tried = tried.reshape(count, batch, width, gaps)
    for u in range(count):
        for b in range(batch):
            left = updates[u] - exact[u].sum(0) + exact[u, b]  # (K,)
            distances = ((left - found[u, b]) ** 2).sum(1)  # (width,)
            nearest = int(distances.argmin())
            if distances[nearest] < ((left - exact[u, b]) ** 2).sum():
                choices[u, b], exact[u, b] = tried[u, b, nearest], found[u, b, nearest]
    return Guess(choices, guess.labels)


def _nearest(dictionary: Dictionary, rest: Rows) -> tuple[Choices, Labels, Rows]:
    """Return for each row (N, K) the one note, its label and its modelled gradient that come nearest."""
    best = np.full(len(rest), np.inf)
    choices = np.zeros((len(rest), len(BLOCKS)), dtype=np.int64)
    labels, modelled = np.zeros(len(rest), dtype=np.int64), np.zeros_like(rest)
    for label in range(len(dictionary.effects)):
        mine = _ascend(dictionary, rest, label)
        gradients = dictionary.gradients(mine, label)  # (N, K)
        distance = ((rest - gradients) ** 2).sum(1)
        nearer = distance < best
        best[nearer], choices[nearer], labels[nearer] = distance[nearer], mine[nearer], label
        modelled[nearer] = gradients[nearer]
    return choices, labels, modelled


def _ascend(dictionary: Dictionary, rest: Rows, label: int) -> Choices:
    """Choose one gap's word after the other, several times over, for notes of this label."""
    choices = np.zeros((len(rest), len(BLOCKS)), dtype=np.int64)
    for _ in range(SWEEPS):
        for gap in range(len(BLOCKS)):
            choices[:, gap] = dictionary.scores(rest, choices, label, gap).argmax(1)
    return choices


def _neighbours(dictionary: Dictionary, rest: Rows, choices: Choices, labels: Labels, alternatives: int) -> NDArray[np.int64]:
    """Return notes that differ in one word, (N, G * alternatives, G): in each gap the words that the model ranks next."""
    tried = np.repeat(choices[:, None], len(BLOCKS) * alternatives, 1)
    for label in np.unique(labels):
        mine = np.flatnonzero(labels == label)
        for gap in range(len(BLOCKS)):
            scores = dictionary.scores(rest[mine], choices[mine], int(label), gap)  # (N, words)
            scores[np.arange(len(mine)), choices[mine, gap]] = -np.inf  # the word that stands there is no change
            ranked = np.argsort(-scores, 1)[:, :alternatives]
            tried[mine, gap * alternatives : (gap + 1) * alternatives, gap] = ranked
    return tried


def _design(choices: Choices) -> NDArray[np.float64]:
    """Return the regression's columns (N, W+1): the words, and a constant for the label."""
    return np.concatenate([notes.one_hot(choices), np.ones((len(choices), 1))], 1)
