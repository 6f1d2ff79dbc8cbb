"""Rows of a table are read by one or several prompts: sentences, label probabilities, what is missing. Images: `client.albums`."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch

from client.records import Row
from shared.errors import InputError
from shared.reading import Reader, Reading, Record, logits_of
from shared.windows import lengths

CHUNK = 1024  # rows in memory at once


@dataclass(frozen=True)
class Prediction:
    """What one prompt says of one row: the likeliest label and the probability of each, in the card's order."""

    label: str
    probabilities: Mapping[str, float]

    @property
    def probability(self) -> float:
        """The probability of the likeliest label."""
        return self.probabilities[self.label]


@dataclass(frozen=True)
class Question:
    """A reader with how a table's columns map to its fields (images have none), and the temperature that divides its scores."""

    reader: Reader
    columns: Mapping[str, str]
    temperature: float = 1.0

    @property
    def sees(self) -> bool:
        """Whether its records are images."""
        return self.reader.task.card.image is not None

    def column(self, field: str) -> str:
        """Return the column that holds a field."""
        return self.columns.get(field, field)

    def sentence(self, row: Row, source: str, number: int) -> str:
        """Return a row's sentence; raise `InputError` naming the row where a cell has no words."""
        text = self.reader.task.card.record_text
        try:
            return text.render({name: row.get(self.column(name)) for name in text.names})
        except InputError as error:
            raise InputError(f"{source}: row {number}: {error}") from None


def absent_columns(rows: Sequence[Row], question: Question, source: str) -> list[str]:
    """Return the columns that the prompt knows and the table lacks: every row says `missing` there.

    Raises `InputError` when the table has none of them, so that nothing would be read at all.
    """
    if not rows:
        raise InputError(f"{source}: the table has no rows; give at least one.")
    have = {name for row in rows for name in row}
    wanted = [question.column(name) for name in question.reader.task.card.record_text.names]
    absent = [column for column in wanted if column not in have]
    if len(absent) == len(wanted):
        raise InputError(
            f"{source}: none of the columns that prompt '{question.reader.name}' reads is there ({', '.join(wanted)}); "
            f"the table has {', '.join(sorted(have))}. Map them in a site file's [data.columns] and give it by --site."
        )
    return absent


def unread(question: Question, rows: Sequence[Row], source: str) -> int:
    """Return the number of rows of which the prompt does not read every word, because they are too long."""
    card, tokenizer = question.reader.task.card, question.reader.scorer.backbone.tokenizer
    texts = [question.sentence(row, source, number) for number, row in enumerate(rows, 1)]
    if card.windows is not None:
        return sum(windows > card.windows.most for windows in card.windows.needed(texts, tokenizer))
    return sum(tokens > card.backbone.max_tokens for tokens in lengths(tokenizer, texts))


def predict(questions: Sequence[Question], rows: Sequence[Row], source: str) -> Iterator[list[Prediction]]:
    """Yield, row by row, what each prompt says; all prompts read a row in the same mixed batch."""
    for start in range(0, len(rows), CHUNK):
        chunk = rows[start : start + CHUNK]
        texts = [[q.sentence(row, source, n) for q in questions] for n, row in enumerate(chunk, start + 1)]
        said = answers(questions, [(text, number) for per_row in texts for number, text in enumerate(per_row)])
        for first in range(0, len(said), len(questions)):
            yield said[first : first + len(questions)]


def answers(questions: Sequence[Question], asked: Sequence[tuple[Record, int]]) -> list[Prediction]:
    """Return a prediction for each (sentence or prepared picture, number of its question)."""
    readers = [question.reader for question in questions]
    logits = logits_of(readers, [Reading(record, number) for record, number in asked])
    return [_said(questions[number], scores) for (_, number), scores in zip(asked, logits, strict=True)]


def _said(question: Question, scores: torch.Tensor) -> Prediction:
    shares = (scores.double() / question.temperature).softmax(-1)  # (L,)
    labels = question.reader.labels
    return Prediction(labels[int(shares.argmax())], dict(zip(labels, shares.tolist(), strict=True)))
