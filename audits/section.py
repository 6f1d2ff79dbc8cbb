"""What every audit hands to the report: verdicts on claims, findings, tables, and what the pictures are drawn from."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Table:
    """A table of texts with a caption."""

    caption: str
    columns: tuple[str, ...]
    rows: Sequence[Sequence[str]]


@dataclass(frozen=True)
class Verdict:
    """One claim, held against what was measured.

    Attributes:
        layer: L0 (files and configuration), L1 (replay), L2 (noise and draws), L3 (ledger), L4 (canaries), L5 (attacks).
        claim: what should be so, in plain words.
        measured: what was found, with its figures.
        bound: what that was held against, with its figures.
        holds: None where it could not be decided; False makes `promptward audit` end with 1.
        caveat: what this does not show, in one sentence.
    """

    layer: str
    claim: str
    measured: str
    bound: str
    holds: bool | None
    caveat: str

    def __post_init__(self) -> None:
        """Take numpy's booleans too: `np.False_ is False` is not so."""
        if self.holds is not None:
            object.__setattr__(self, "holds", bool(self.holds))


@dataclass(frozen=True)
class Mark:
    """One row of the first page's picture: how often an attacker is right about one question.

    All numbers are probabilities of being right: `baseline` by the prior alone, `measured` with its 95 % interval `low` to
    `high`, `ceiling` what no attacker passes by the ledger (None: no bound is claimed), `control` the same attack without noise.
    """

    name: str
    baseline: float
    measured: float
    low: float
    high: float
    ceiling: float | None = None
    control: float | None = None


@dataclass(frozen=True)
class Curve:
    """One ROC curve: true positive rates at growing false positive rates; `ceiling` is the ledger's bound at the same rates."""

    name: str
    fpr: tuple[float, ...]
    tpr: tuple[float, ...]
    ceiling: tuple[float, ...] = ()


@dataclass(frozen=True)
class Section:
    """One audit's part of the report.

    Attributes:
        title: a question.
        passed: its answer; False makes `promptward audit` end with 1.
        summary: its answer in a sentence.
        findings: what is wrong, a sentence each.
        tables: what was looked at.
        verdicts: the claims that it decided, for the first page.
        marks: rows of the first page's picture.
        curves: ROC curves.
        caveats: what its figures do not show.
        facts: what `audit.json` holds of it beside the above; plain JSON values.
    """

    title: str
    passed: bool
    summary: str
    findings: tuple[str, ...] = ()
    tables: tuple[Table, ...] = ()
    verdicts: tuple[Verdict, ...] = ()
    marks: tuple[Mark, ...] = ()
    curves: tuple[Curve, ...] = ()
    caveats: tuple[str, ...] = ()
    facts: dict[str, Any] | None = None


def section_of(title: str, verdicts: Sequence[Verdict], **parts: Any) -> Section:
    """Return a section that passes when no verdict fails, with the failures as its findings.

    >>> good = Verdict("L2", "The noise is as stated", "sigma 2.37", "2.37", True, "one round only")
    >>> section_of("Is the noise there?", [good]).summary
    '1 of 1 claims hold.'
    """
    failed = [v for v in verdicts if v.holds is False]
    findings = tuple(f"{v.claim}: measured {v.measured}, against {v.bound}" for v in failed)
    decided = [v for v in verdicts if v.holds is not None]
    summary = f"{len(decided) - len(failed)} of {len(decided)} claims hold."
    return Section(title, not failed, summary, findings, verdicts=tuple(verdicts), **parts)


def as_json(section: Section) -> dict[str, Any]:
    """Return a section for `audit.json`, without its tables."""
    return {name: _plain(value) for name, value in asdict(section).items() if name != "tables"}


def _plain(value: Any) -> Any:
    """Return JSON's own types for numpy's numbers and arrays, wherever they stand."""
    if isinstance(value, Mapping):
        return {str(key): _plain(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    return value.tolist() if isinstance(value, np.ndarray | np.generic) else value
