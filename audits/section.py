"""What every audit hands to the report: its outcome in one sentence, its findings, its tables."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Table:
    """A table of texts with a caption."""

    caption: str
    columns: tuple[str, ...]
    rows: Sequence[Sequence[str]]


@dataclass(frozen=True)
class Section:
    """One audit's part of the report.

    Attributes:
        title: a question.
        passed: its answer; False makes `promptward audit` end with 1.
        summary: its answer in a sentence.
        findings: what is wrong, a sentence each.
        tables: what was looked at.
    """

    title: str
    passed: bool
    summary: str
    findings: tuple[str, ...]
    tables: tuple[Table, ...]
