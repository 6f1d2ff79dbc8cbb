"""Made-up clinical notes with planted names, dates and record numbers: what the attacks on words try to read from an update.

A note is one public sentence with seven gaps, each filled from a public list with equal chances. No list was learned from data,
and the attacker knows all of this: what remains secret is which words a patient's note holds.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Choices = NDArray[np.int64]  # (N, G): which word stands in each of the G gaps of N notes
SENTENCE = "{} {} seen {} record {} reports {} history of {} takes {}"


@dataclass(frozen=True)
class Gap:
    """One gap of the sentence: what it holds, and its words."""

    name: str
    words: tuple[str, ...]


FIRST = "maria james linda robert anna john clara michael susan david karen thomas emily charles laura peter"
LAST = (
    "garcia smith novak chen okafor murphy tanaka silva weber kowalski haddad larsen patel moreau rossi brown "
    "nguyen cohen ivanov jensen lopez walker schmidt kim diaz fischer hassan olsen mendoza clarke dubois taylor"
)
DATES = (
    "january-3 february-14 march-21 april-8 may-27 june-16 july-5 august-30 september-11 october-19 november-24 december-9 "
    "january-18 march-2 june-29 october-6"
)
RECORDS = "10482 27391 33057 41826 58203 64719 70935 86142 91378 15760 22984 49613 53871 68240 77509 80426"
SYMPTOMS = "breathlessness palpitations dizziness nausea cough fever fatigue headache syncope oedema sweating vomiting"
HISTORY = "diabetes asthma hypertension stroke cancer gout epilepsy hepatitis arthritis migraine anaemia depression"
DRUGS = "aspirin metformin warfarin insulin atenolol digoxin furosemide simvastatin prednisone ibuprofen lisinopril morphine"

GAPS = (
    Gap("first name", tuple(FIRST.split())),
    Gap("surname", tuple(LAST.split())),
    Gap("date", tuple(date.replace("-", " ") for date in DATES.split())),
    Gap("record number", tuple(RECORDS.split())),
    Gap("symptom", tuple(SYMPTOMS.split())),
    Gap("history", tuple(HISTORY.split())),
    Gap("drug", tuple(DRUGS.split())),
)
SIZES = tuple(len(gap.words) for gap in GAPS)
SURNAME = 1  # the gap that the report names first


def draw(count: int, public: np.random.Generator) -> Choices:
    """Return `count` notes, every word of a gap equally likely: (N, G)."""
    return np.stack([public.integers(size, size=count) for size in SIZES], 1)


def text(note: Sequence[int] | Choices) -> str:
    """Return one note as its sentence.

    >>> text([0, 0, 0, 0, 0, 0, 0])
    'maria garcia seen january 3 record 10482 reports breathlessness history of diabetes takes aspirin'
    """
    return SENTENCE.format(*(gap.words[int(word)] for gap, word in zip(GAPS, note, strict=True)))


def blocks() -> list[slice]:
    """Return where each gap's words stand in `one_hot`."""
    ends = np.cumsum(SIZES)
    return [slice(int(end) - size, int(end)) for end, size in zip(ends, SIZES, strict=True)]


def one_hot(choices: Choices) -> NDArray[np.float64]:
    """Return which of all words each note holds, (N, W)."""
    return np.concatenate([np.eye(size)[choices[:, gap]] for gap, size in enumerate(SIZES)], 1)
