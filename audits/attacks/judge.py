"""From what an attack measured to a verdict, a row of the picture, a curve and a table."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from audits.attacks.ceiling import Ceiling
from audits.attacks.roc import Estimate, Numbers, Truth, auc, balanced_accuracy, curve, share, tpr_at
from audits.section import Curve, Mark, Section, Table, Verdict, section_of

STRICT = 0.998  # level of the interval that convicts: an attack that just reaches its ceiling is accused once in a thousand
LOW_RATES = (0.01, 0.001)
HEADER = ("attack", "figure", "measured, with 95 % interval", "no attacker passes", "without noise", "prior alone")


@dataclass(frozen=True)
class Figure:
    """One figure of an attack: what was measured, the interval that convicts, the control, and what they are held against.

    `convicts` is what the interval's low end must not pass: the ceiling, or more where the ceiling's place is measured too.
    """

    name: str
    measured: Estimate
    strict: Estimate
    control: Estimate
    ceiling: float
    baseline: float
    convicts: float | None = None

    @property
    def above(self) -> bool:
        """Whether the attack did better than any attacker can."""
        return self.strict.low > (self.ceiling if self.convicts is None else self.convicts)


@dataclass(frozen=True)
class Trial:
    """One attack, tried on what leaves and on the same without noise.

    Attributes:
        name: of the row in the picture.
        claim: what should be so, in plain words.
        figures: the first is the one that the picture shows.
        enough: the least of the first figure's control from which on staying under the ceiling says something.
        caveat: see `Verdict`.
        curve: None for an attack that guesses among values.
    """

    name: str
    claim: str
    figures: tuple[Figure, ...]
    enough: float
    caveat: str
    curve: Curve | None = None

    @property
    def verdict(self) -> Verdict:
        """Failed above a ceiling; undecided where the control shows that this attack finds little anyway."""
        worst = next((figure for figure in self.figures if figure.above), self.figures[0])
        works = self.figures[0].control.value >= self.enough
        measured = f"{worst.name} {worst.measured}; without noise {worst.control.value:.3f}"
        bound = f"{worst.name} {worst.ceiling:.3f} at most, by the privacy curve of the releases"
        return Verdict("L5", self.claim, measured, bound, False if worst.above else True if works else None, self.caveat)

    @property
    def mark(self) -> Mark:
        """The first figure as a row of the picture."""
        first = self.figures[0]
        its = first.measured
        return Mark(self.name, first.baseline, its.value, its.low, its.high, first.ceiling, first.control.value)


@dataclass(frozen=True)
class Scored:
    """Scores (N,) with the truth (N,), and which of them may depend on each other (N,) or None; see `roc.auc`."""

    scores: Numbers
    truth: Truth
    cluster: NDArray[np.int64] | None = None


def tell_apart(name: str, claim: str, seen: Scored, control: Scored, ceiling: Ceiling, enough: float, caveat: str) -> Trial:
    """Return the trial of an attack that scores who is in; a score above 0 says "in"."""
    area = Figure("AUC", auc(*_of(seen)), auc(*_of(seen), STRICT), auc(*_of(control)), ceiling.auc, 0.5)
    rates = [rate for rate in LOW_RATES if rate * (~seen.truth).sum() >= 1]  # fewer non-members cannot show such a rate
    figures = [area, _balanced(seen, control, ceiling), *(_at(rate, seen, control, ceiling) for rate in rates)]
    fpr, tpr = curve(seen.scores, seen.truth)
    drawn = Curve(name, tuple(fpr.tolist()), tuple(tpr.tolist()), tuple(ceiling.tpr(fpr).tolist()))
    return Trial(name, claim, tuple(figures), enough, caveat, drawn)


def guesses(name: str, claim: str, right: Truth, control: Truth, candidates: int, ceiling: Ceiling, caveat: str) -> Trial:
    """Return the trial of an attack that names one of k equally likely values; `right` and `control` are (N,)."""
    its, by_control = (int(right.sum()), len(right)), (int(control.sum()), len(control))
    bound = ceiling.guess(candidates)
    figure = Figure("right guesses", share(*its), share(*its, STRICT), share(*by_control), bound, 1 / candidates)
    return Trial(name, claim, (figure,), min(0.9, (1 + bound) / 2), caveat)


def section(title: str, trials: Sequence[Trial], facts: dict[str, Any], tables: tuple[Table, ...] = (), **parts: Any) -> Section:
    """Return an attack's section; its facts hold every figure."""
    rows = [_row(trial, figure) for trial in trials for figure in trial.figures]
    told = {trial.name: {figure.name: asdict(figure) for figure in trial.figures} for trial in trials}
    return section_of(
        title,
        [trial.verdict for trial in trials],
        tables=(Table("How often an attacker is right, and what no attacker passes.", HEADER, rows), *tables),
        marks=tuple(trial.mark for trial in trials),
        curves=tuple(trial.curve for trial in trials if trial.curve),
        facts={**facts, "attacks": told},
        **parts,
    )


def _of(some: Scored) -> tuple[Numbers, Truth, NDArray[np.int64] | None]:
    return some.scores, some.truth, some.cluster


def _balanced(seen: Scored, control: Scored, ceiling: Ceiling) -> Figure:
    measured, strict = (balanced_accuracy(seen.scores, seen.truth, 0.0, level) for level in (0.95, STRICT))
    by_control = balanced_accuracy(control.scores, control.truth)
    return Figure("balanced accuracy", measured, strict, by_control, ceiling.balanced_accuracy, 0.5)


def _at(rate: float, seen: Scored, control: Scored, ceiling: Ceiling) -> Figure:
    """Return the true positive rate at a low false positive rate; it convicts at the largest that this rate may truly be."""
    outside = int((~seen.truth).sum())
    truly = share(int(rate * outside), outside, STRICT).high
    measured, strict = (tpr_at(rate, seen.scores, seen.truth, level) for level in (0.95, STRICT))
    by_control = tpr_at(rate, control.scores, control.truth)
    name = f"true positives at {rate:.1%} false ones"
    return Figure(name, measured, strict, by_control, float(ceiling.tpr(rate)), rate, float(ceiling.tpr(truly)))


def _row(trial: Trial, figure: Figure) -> list[str]:
    numbers = [f"{figure.ceiling:.3f}", f"{figure.control.value:.3f}", f"{figure.baseline:.3f}"]
    return [trial.name, figure.name, str(figure.measured), *numbers]
