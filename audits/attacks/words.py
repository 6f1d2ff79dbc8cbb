"""From words that an attack read to tallies a gap, a verdict and the marks of the first page."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from audits.attacks import notes
from audits.attacks.choice import Tally, ceiling
from audits.section import Mark, Table, Verdict

Sets = Sequence[NDArray[np.int64]]  # for each gap the distinct words that were guessed: (U, M), M fixed beforehand
CAVEAT = (
    "One release of made-up notes of one sentence, read by one attack that knows the sentence, its word lists and who was "
    "drawn; another attack may read more, up to the ceiling."
)


@dataclass(frozen=True)
class Reading:
    """What one attack read from updates of B notes, gap by gap: with the noise, and without it as its control."""

    batch: int
    noised: tuple[Tally, ...]
    control: tuple[Tally, ...]


def tally(truth: NDArray[np.int64], guessed: Sets) -> tuple[Tally, ...]:
    """Count, gap by gap, how many notes (U, B, G) hold a word that was guessed for their update."""
    tallies = []
    for gap, (words, size) in enumerate(zip(guessed, notes.SIZES, strict=True)):
        hits = (truth[:, :, gap, None] == words[:, None, :]).any(2)  # (U, B)
        tallies.append(Tally(int(hits.sum()), hits.size, words.shape[1] / size))
    return tuple(tallies)


def judge(attack: str, readings: Sequence[Reading], mu: float) -> Verdict:
    """Return whether no gap is read more often than one release allows; undecided where the control reads no more either.

    Args:
        attack: its name, in the words of the claim.
        readings: one a batch size.
        mu: of one release in which the patient is drawn: 1 / noise multiplier.
    """
    tallies = [(t, c) for reading in readings for t, c in zip(reading.noised, reading.control, strict=True)]
    questions = len(tallies)
    broken = [t for t, _ in tallies if t.passes(ceiling(t.chance, mu), questions)]
    works = [c for _, c in tallies if c.passes(ceiling(c.chance, mu), questions)]
    surname = readings[0].noised[notes.SURNAME]
    measured = (
        f"surname right in {percent(surname.rate)} of {surname.tries} updates of one note; "
        f"{len(broken)} of {questions} kinds of words above their ceiling; without noise {len(works)} of {questions}"
    )
    return Verdict(
        layer="L5",
        claim=f"A {attack} reads names, dates, numbers and findings from an update no better than one release allows",
        measured=measured,
        bound=f"surname right in {percent(ceiling(surname.chance, mu))} at the most, by chance {percent(surname.chance)}",
        holds=False if broken else True if works else None,
        caveat=CAVEAT if works else "The attack failed without noise too, so that its failure shows nothing.",
    )


def marks(attack: str, readings: Sequence[Reading], mu: float) -> tuple[Mark, ...]:
    """Return a row of the picture a batch size: the patient's surname among all surnames of the list."""
    found = []
    for reading in readings:
        noised, control = reading.noised[notes.SURNAME], reading.control[notes.SURNAME]
        name = f"Surname in an update of {_many(reading.batch)} ({attack})"
        bound = ceiling(noised.chance, mu)
        found.append(Mark(name, noised.chance, noised.rate, *noised.interval, ceiling=bound, control=control.rate))
    return tuple(found)


def table(attack: str, reading: Reading, mu: float) -> Table:
    """Return what was read in each gap beside chance, control and ceiling."""
    rows = []
    for gap, noised, control in zip(notes.GAPS, reading.noised, reading.control, strict=True):
        low, high = noised.interval
        span = f"{percent(noised.rate)} ({percent(low)} to {percent(high)})"
        rows.append([gap.name, percent(noised.chance), percent(control.rate), span, percent(ceiling(noised.chance, mu))])
    guesses = "one guess" if reading.batch == 1 else f"{reading.batch} guesses"
    caption = f"Words read from updates of {_many(reading.batch)} by {attack}, {guesses} a kind of word, 95 % interval."
    return Table(caption, ("", "by chance", "without noise", "as it leaves", "ceiling"), rows)


def as_facts(readings: Sequence[Reading], mu: float) -> list[dict[str, Any]]:
    """Return the readings for `audit.json`."""
    return [
        {
            "notes": reading.batch,
            "gap": gap.name,
            "chance": noised.chance,
            "control": control.rate,
            "measured": noised.rate,
            "tries": noised.tries,
            "ceiling": ceiling(noised.chance, mu),
        }
        for reading in readings
        for gap, noised, control in zip(notes.GAPS, reading.noised, reading.control, strict=True)
    ]


def percent(share: float) -> str:
    """Return a share as a percentage with one digit.

    >>> percent(0.0312)
    '3.1 %'
    """
    return f"{100 * share:.1f} %"


def _many(batch: int) -> str:
    return "one note" if batch == 1 else f"{batch} notes"
