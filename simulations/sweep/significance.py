"""Which settings differ from the reference, paired over seeds, after Holm's correction for many tests.

Two cells of a sweep with the same seed share split, draws' and noise's streams, so the difference is taken seed by seed and held
against 0 by Student's paired t-test. It supposes that the differences are about normal, which fewer than `FEWEST` seeds cannot
show: then nothing is called significant. If no baseline is named, the reference is the best cell, chosen by the same numbers; the
correction is then over all pairs of cells, any of which could have been chosen (Holm 1979 over a family that holds every one).
"""

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

FEWEST, LEVEL = 5, 0.05
Doubles = NDArray[np.float64]


@dataclass(frozen=True)
class Against:
    """A cell against the reference: the mean difference, its 95 % interval (of this test alone), p and Holm's p."""

    difference: float
    interval: tuple[float, float] | None
    p: float | None
    adjusted: float | None

    @property
    def significant(self) -> bool:
        """Whether the cell differs after the correction."""
        return self.adjusted is not None and self.adjusted < LEVEL


@dataclass(frozen=True)
class Outcome:
    """All tests of a sweep.

    Attributes:
        reference: the cell that others are held against.
        named: whether the file names it; otherwise it is the best.
        tests: how many tests the correction is for.
        against: by cell.
        silent: why nothing is tested; None where it is.
    """

    reference: int
    named: bool
    tests: int
    against: Mapping[int, Against]
    silent: str | None


def compared(scores: Mapping[int, Doubles], baseline: int | None) -> Outcome | None:
    """Hold every cell against the baseline, or the best where it is None.

    Args:
        scores: of each cell, one for each seed (S,), the same seeds in the same order; more is better.
        baseline: a cell of `scores`.

    Returns:
        None where there are no two cells.
    """
    if len(scores) < 2:
        return None
    reference = max(scores, key=lambda cell: scores[cell].mean()) if baseline is None else baseline
    seeds = len(scores[reference])
    others = [cell for cell in scores if cell != reference]
    pairs = list(itertools.combinations(scores, 2)) if baseline is None else [(reference, cell) for cell in others]
    silent = None if seeds >= FEWEST else _why(seeds)
    p = [paired_p(scores[one] - scores[other]) for one, other in pairs] if silent is None else []
    found = dict(zip(map(frozenset, pairs), zip(p, holm(p), strict=True), strict=False))
    against = {cell: _against(scores[cell] - scores[reference], found.get(frozenset((reference, cell)))) for cell in others}
    return Outcome(reference, baseline is not None, len(pairs), against, silent)


def paired_p(differences: Doubles) -> float:
    """Return the two-sided p-value of differences (S,) against a mean of 0; 1 where all are 0."""
    from scipy.stats import t  # noqa: PLC0415 (a second to import)

    mean, error = float(differences.mean()), float(differences.std(ddof=1)) / math.sqrt(len(differences))
    if error == 0:
        return 1.0 if mean == 0 else 0.0
    return float(2 * t.sf(abs(mean) / error, len(differences) - 1))


def holm(p: Sequence[float]) -> list[float]:
    """Return p-values adjusted so that the chance of any false rejection is at most the level (Holm 1979).

    >>> [round(each, 3) for each in holm([0.01, 0.04, 0.03])]
    [0.03, 0.06, 0.06]
    """
    order = sorted(range(len(p)), key=p.__getitem__)
    adjusted, most = [0.0] * len(p), 0.0
    for rank, index in enumerate(order):
        most = max(most, min(1.0, p[index] * (len(p) - rank)))
        adjusted[index] = most
    return adjusted


def half_width(values: Doubles) -> float | None:
    """Return half of the 95 % interval of the mean of values (S,), by Student's t; None for one value."""
    from scipy.stats import t  # noqa: PLC0415 (a second to import)

    count = len(values)
    return float(t.ppf(0.975, count - 1) * values.std(ddof=1) / math.sqrt(count)) if count > 1 else None


def _against(differences: Doubles, tested: tuple[float, float] | None) -> Against:
    half, mean = half_width(differences), float(differences.mean())
    interval = None if half is None else (mean - half, mean + half)
    p, adjusted = tested or (None, None)
    return Against(mean, interval, p, adjusted)


def _why(seeds: int) -> str:
    least = f" (the smallest p-value that no assumption is needed for is 2/2^{seeds} = {2 / 2**seeds:g})" if seeds > 1 else ""
    return (
        f"With {seeds} {'seed' if seeds == 1 else 'seeds'} nothing can be called significant{least}: set seeds to {FEWEST} or more."
    )
