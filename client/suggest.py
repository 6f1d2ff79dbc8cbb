"""From a table to a suggested task card: which columns are fields, in what words, and with which public thresholds.

A card is public. Thresholds come from the list below or from a person, never from the table's numbers; words do come from the
table, without those that few patients have, and a person agrees to them.
"""

import re
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from client.records import Row
from shared.errors import InputError
from shared.template import is_absent

MOST_WORDS = 20  # distinct values above which a column is free text
RARE = 5  # rows below which a value stays out of the public card
# Common adult thresholds: round numbers of guidelines and textbooks, from nobody's patients. Unit in the comment.
THRESHOLDS: dict[str, tuple[float, ...]] = {
    "age": (40, 55, 70),  # years
    "bmi": (18.5, 25, 30),  # kg/m2
    "pulse": (60, 80, 100),  # per minute
    "heart_rate": (60, 80, 100),  # per minute
    "systolic": (100, 120, 140, 160),  # mm Hg
    "diastolic": (60, 80, 90),  # mm Hg
    "temperature": (36, 37.5, 38.5),  # degrees Celsius
    "spo2": (90, 94, 97),  # per cent
    "glucose": (70, 100, 126),  # mg/dl, fasting
    "hba1c": (5.7, 6.5, 8),  # per cent
    "cholesterol": (200, 240, 300),  # mg/dl
    "ldl": (100, 130, 160),  # mg/dl
    "creatinine": (0.7, 1.2, 2),  # mg/dl
    "egfr": (30, 60, 90),  # ml/min/1.73 m2
    "hemoglobin": (8, 12, 16),  # g/dl
    "crp": (5, 20, 100),  # mg/l
}
WORDS = {2: ("low", "high"), 3: ("low", "middle", "high"), 4: ("low", "normal", "raised", "high")}
WORDS |= {5: ("very low", "low", "normal", "raised", "high")}


@dataclass(frozen=True)
class Field:
    """One column as a field of the card.

    Attributes:
        column: in the table.
        name: in the card: a plain name.
        edges: of a number; empty otherwise.
        words: of the values; empty for a number and for free text.
        rare: how many values few rows have: they are not in the card.
    """

    column: str
    name: str
    edges: tuple[float, ...] = ()
    words: tuple[str, ...] = ()
    rare: int = 0

    @property
    def table(self) -> dict[str, object]:
        """The field as the card's `[template.fields]` has it; empty for free text, which needs none."""
        if self.edges:
            return {"edges": list(self.edges), "words": list(in_words(len(self.edges) + 1))}
        return {"words": {word: word.lower() for word in self.words}} if self.words else {}


def in_words(count: int) -> tuple[str, ...]:
    """Return words for that many buckets of a number, lowest first.

    >>> in_words(3)
    ('low', 'middle', 'high')
    """
    return WORDS.get(count) or tuple(f"level {number}" for number in range(1, count + 1))


def public_thresholds(column: str) -> tuple[float, ...]:
    """Return the known thresholds of a column by its name; none where the list does not have it.

    >>> public_thresholds("Age (years)")
    (40, 55, 70)
    """
    return THRESHOLDS.get(plain(re.sub(r"\(.*?\)", "", column)), ())


def plain(column: str) -> str:
    """Return a column's name as a plain name.

    >>> plain("Heart rate [1/min]")
    'heart_rate_1_min'
    """
    name = re.sub(r"\W+", "_", column.strip().lower()).strip("_")
    return f"x_{name}" if not name or not name.isidentifier() else name


def is_number(rows: Sequence[Row], column: str) -> bool:
    """Say whether every cell that is there is a number, and there are more of them than a code would have."""
    cells = {str(row[column]).strip() for row in rows if not is_absent(row.get(column))}
    return len(cells) > 3 and all(re.fullmatch(r"[-+]?\d*\.?\d+([eE][-+]?\d+)?", cell) for cell in cells)


def suggested(rows: Sequence[Row], taken: Collection[str], edges: Mapping[str, tuple[float, ...]]) -> list[Field]:
    """Return a field for each column that is not `taken`.

    Args:
        rows: the table.
        taken: columns that are the label, the patient, the hospital, the split, or left out.
        edges: thresholds that a person gave.

    Raises:
        InputError: a number without public thresholds, thresholds of no column, or two columns with the same plain name.
    """
    columns = [column for column in dict.fromkeys(name for row in rows for name in row) if column not in taken]
    if strange := [column for column in edges if column not in columns]:
        raise InputError(f"--edges {strange[0]}: the table has no such column that is used; it has {', '.join(columns)}.")
    fields = [_field(rows, column, edges.get(column, ())) for column in columns]
    if not fields:
        raise InputError("no column is left to read; name fewer by --skip.")
    twice = [field for n, field in enumerate(fields) if field.name in {other.name for other in fields[:n]}]
    if twice:
        raise InputError(f"two columns are called '{twice[0].name}' in plain letters; rename one, or leave one out by --skip.")
    return fields


def _field(rows: Sequence[Row], column: str, edges: tuple[float, ...]) -> Field:
    name = plain(column)
    if edges or is_number(rows, column):
        edges = edges or public_thresholds(column)
        if not edges:
            raise InputError(
                f"column '{column}' holds numbers, and no public thresholds of that name are known: give some that do not come "
                f"from your patients, by --edges '{column}=LOW,HIGH', or leave it out by --skip '{column}'."
            )
        if list(edges) != sorted(set(edges)):
            raise InputError(f"--edges {column}: thresholds must increase.")
        return Field(column, name, edges)
    counts = Counter(str(row[column]).strip() for row in rows if not is_absent(row.get(column)))
    if len(counts) > MOST_WORDS:
        return Field(column, name)
    common = tuple(sorted(value for value, count in counts.items() if count >= RARE))
    return Field(column, name, words=common, rare=len(counts) - len(common)) if common else Field(column, name)
