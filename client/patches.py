"""What in a picture a prediction rests on: patches of it are hidden one after the other (Zeiler and Fergus 2014, section 4.2).

Letters in shape comments: C channels, S pixels of a side, G patches of a side.
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from client.albums import Album, Files, Shown, Told, shown_in
from client.occlusion import Explanation
from client.prediction import Prediction, Question, answers
from shared.pixels import ImageTable, Pixels

GRID = 7  # patches of a side
MOST_PICTURES = 4  # of a patient, the first
LEAST = 1e-9  # a probability below which odds say nothing more


@dataclass(frozen=True)
class Heat:
    """One picture and what hiding its patches changes.

    Attributes:
        file: as the manifest names it.
        picture: as the model sees it, (C, S, S), from 0 to 1.
        changes: (G, G), rows from the top: this picture's probability of the label with the patch, less without it.
        evidence: (G, G), the same of the natural logarithm of the label's odds: a prediction that is all but certain shows its
            reasons there, too.
    """

    file: str
    picture: Pixels
    changes: NDArray[np.float64]
    evidence: NDArray[np.float64]


@dataclass(frozen=True)
class PictureExplanation(Explanation):
    """A patient's prediction by one prompt, with its pictures; it has no reasons in words."""

    heats: tuple[Heat, ...] = ()


def explain_album(questions: Sequence[Question], album: Album, told: Sequence[Told]) -> list[PictureExplanation]:
    """Return the explanations of some patients, for each prompt; a picture and its hidden patches share a batch."""
    found = []
    for number, patient in enumerate(told, start=1):
        mine = album.part(patient.rows)
        shown = [each for some in shown_in(questions, mine, Files()) for each in some]
        for which, (question, said) in enumerate(zip(questions, patient.said, strict=True)):
            mine_of = [each for each in shown if each.question == which][:MOST_PICTURES]
            heats = tuple(_heat(questions, each, said.label, str(mine.rows[each.row][mine.column])) for each in mine_of)
            found.append(PictureExplanation(number, question.reader.name, said, (), heats))
    return found


def hidings(picture: Pixels) -> Pixels:
    """Return the picture (C, S, S) with each patch hidden in turn, (G * G, C, S, S), row by row from the top.

    A patch takes half of its neighbours with it and is filled with the picture's own mean of each channel: a grey that says
    nothing. A side of fewer than `GRID` pixels has as many patches as pixels.
    """
    side = picture.shape[-1]
    grid = min(GRID, side)
    edges = np.linspace(0, side, grid + 1)
    reach = side / grid / 2
    spans = [slice(max(0, round(a - reach)), min(side, round(b + reach))) for a, b in itertools.pairwise(edges)]
    mean = picture.mean(axis=(1, 2), keepdims=True)  # (C, 1, 1)
    hidden = np.repeat(picture[None], grid * grid, axis=0)  # (G * G, C, S, S)
    for number, (rows, columns) in enumerate((rows, columns) for rows in spans for columns in spans):
        hidden[number, :, rows, columns] = mean
    return hidden


def as_seen(picture: Pixels, image: ImageTable) -> Pixels:
    """Return a prepared picture (C, S, S) on the scale 0 to 1 again."""
    mean, std = (np.array(x, dtype=np.float32)[:, None, None] for x in (image.mean, image.std))
    return np.asarray(np.clip(picture * std + mean, 0, 1), dtype=np.float32)


def _heat(questions: Sequence[Question], shown: Shown, label: str, file: str) -> Heat:
    card = questions[shown.question].reader.task.card
    asked = [shown.picture, *hidings(shown.picture)]
    said = answers(questions, [(each, shown.question) for each in asked])
    side = round((len(said) - 1) ** 0.5)
    shares = np.array([one.probabilities[label] for one in said])  # (1 + G * G,)
    odds = np.array([_log_odds(one, label) for one in said])
    changes, evidence = (((all_[0] - all_[1:]).reshape(side, side)) for all_ in (shares, odds))
    return Heat(file, as_seen(shown.picture, card.picture), changes, evidence)


def _log_odds(said: Prediction, label: str) -> float:
    others = sum(share for name, share in said.probabilities.items() if name != label)
    return float(np.log(max(said.probabilities[label], LEAST) / max(others, LEAST)))
