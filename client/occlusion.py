"""Why a prompt says what it says of a row: how the probability changes when one field, or one word of a text, is hidden."""

from collections.abc import Sequence
from dataclasses import dataclass

from client.prediction import Prediction, Question, answers
from client.records import Row
from shared.template import is_absent

MOST_WORDS = 80  # words of a free text that are hidden one by one


@dataclass(frozen=True)
class Reason:
    """One thing that was hidden.

    Attributes:
        field: of the template.
        said: what it said.
        change: the predicted label's probability with it, less without it: above 0 it speaks for the label.
    """

    field: str
    said: str
    change: float


@dataclass(frozen=True)
class Explanation:
    """A row's prediction by one prompt, and its reasons, the strongest first."""

    row: int
    prompt: str
    prediction: Prediction
    reasons: tuple[Reason, ...]


def explain(questions: Sequence[Question], row: Row, source: str, number: int) -> list[Explanation]:
    """Return each prompt's prediction for a row with its reasons; everything is read in one mixed batch."""
    asked: list[tuple[str, int]] = []
    hidden: list[tuple[int, str, str]] = []
    for which, question in enumerate(questions):
        asked.append((question.sentence(row, source, number), which))
        hidden.append((which, "", ""))
        for field, said, without in _hidings(question, row):
            asked.append((question.sentence(without, source, number), which))
            hidden.append((which, field, said))
    said_of = list(zip(hidden, answers(questions, asked), strict=True))
    return [_explanation(question, number, [x for x in said_of if x[0][0] == n]) for n, question in enumerate(questions)]


def _explanation(question: Question, row: int, found: Sequence[tuple[tuple[int, str, str], Prediction]]) -> Explanation:
    whole = found[0][1]
    reasons = [Reason(field, said, whole.probability - less.probabilities[whole.label]) for (_, field, said), less in found[1:]]
    return Explanation(row, question.reader.name, whole, tuple(sorted(reasons, key=lambda r: -abs(r.change))))


def _hidings(question: Question, row: Row) -> list[tuple[str, str, Row]]:
    """Return (field, what it says, the row without it); a free text gives one for each of its words."""
    card = question.reader.task.card
    found: list[tuple[str, str, Row]] = []
    for field in card.record_text.names:
        column = question.column(field)
        if is_absent(row.get(column)):
            continue
        how = card.record_text.fields.get(field)
        if how is not None and (how.words is not None or how.edges is not None):
            found.append((field, how.say(row[column]), {**row, column: None}))
            continue
        words = str(row[column]).split()
        for n, word in enumerate(words[:MOST_WORDS]):
            found.append((field, word, {**row, column: " ".join(words[:n] + words[n + 1 :])}))
    return found
