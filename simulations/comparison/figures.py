"""How sure a score is, and a difference of two: over seeds by Student's t, over test patients by a bootstrap that methods share.

Two sources of chance are told apart, because they ask for different mends: draws and noise of the training (more seeds) and the
test patients (more patients). The 95 % interval of a mean over seeds adds both half-widths in squares. Where several differences
are judged, each gets the interval of a smaller error, so that all intervals hold together (Bonferroni; Dunn 1961).
Letters in shape comments: S seeds, M test records, L labels, R resamples.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from simulations.comparison.method import Probabilities

Doubles = NDArray[np.float64]
RESAMPLES = 400
TAIL = 0.025  # on either side of a 95 % interval


@dataclass(frozen=True)
class Score:
    """A score of one method: its value for each seed (S,), and the mean over seeds on each resample of the test patients (R,)."""

    seeds: Doubles
    resampled: Doubles

    @property
    def mean(self) -> float:
        """The mean over seeds."""
        return float(self.seeds.mean())

    @property
    def std(self) -> float | None:
        """The standard deviation over seeds; None for one."""
        return float(self.seeds.std(ddof=1)) if len(self.seeds) > 1 else None

    def over_seeds(self, together: int = 1) -> float:
        """Return half of the interval that seeds leave, see `interval`; 0 where there is one seed, which tells nothing of it."""
        from scipy.stats import t  # noqa: PLC0415 (a second to import)

        count = len(self.seeds)
        return float(t.isf(TAIL / together, count - 1)) * (self.std or 0.0) / math.sqrt(count) if count > 1 else 0.0

    def over_patients(self, together: int = 1) -> float:
        """Return half of the interval that the number of test patients leaves, see `interval`."""
        return -NormalDist().inv_cdf(TAIL / together) * float(self.resampled.std(ddof=1))

    def interval(self, together: int = 1) -> tuple[float, float]:
        """Return the interval of both: one of so many that all hold together in 95 of 100 comparisons (Bonferroni)."""
        half = math.hypot(self.over_seeds(together), self.over_patients(together))
        return self.mean - half, self.mean + half

    def minus(self, other: "Score") -> "Score":
        """Return the difference, paired by seed and by test patient; a score of one value is the same for every seed."""
        return Score(self.seeds - other.seeds, self.resampled - other.resampled)


@dataclass(frozen=True)
class HeldOut:
    """Labels (M,) and sites (M,) of all test records, and the resamples (R, M), the same for every method.

    A resample draws test records with replacement among those of the same site and label.
    """

    labels: NDArray[np.int64]
    sites: NDArray[np.int64]
    resamples: NDArray[np.int64]

    @classmethod
    def of(cls, labels: NDArray[np.int64], sites: NDArray[np.int64]) -> "HeldOut":
        """Draw the resamples from a public seed."""
        public = np.random.default_rng(0)
        drawn = np.empty((RESAMPLES, len(labels)), dtype=np.int64)
        for cell in {*zip(sites.tolist(), labels.tolist(), strict=True)}:
            mine = np.flatnonzero((sites == cell[0]) & (labels == cell[1]))
            drawn[:, mine] = mine[public.integers(len(mine), size=(RESAMPLES, len(mine)))]
        return cls(labels, sites, drawn)

    def pooled_auc(self, runs: Sequence[Probabilities]) -> Score:
        """Return the area under the ROC curve over all sites; with several labels the mean of one against the rest."""
        stacked = np.stack(runs)  # (S, M, L)
        columns = (1,) if stacked.shape[2] == 2 else range(stacked.shape[2])
        seeds = np.mean([_area(stacked[:, :, c], self.labels == c) for c in columns], 0)  # (S,)
        again = [np.mean([_area(stacked[:, i, c], self.labels == c) for c in columns]) for i in self.resamples]
        return Score(seeds, np.array(again))

    def mean_of_sites(self, runs: Sequence[Probabilities]) -> Score:
        """Return the mean over sites of the accuracy at each."""
        present = np.unique(self.sites)
        weight = np.sum([(self.sites == site) / (self.sites == site).sum() for site in present], 0) / len(present)  # (M,)
        return self._weighted(runs, weight)

    def accuracy(self, runs: Sequence[Probabilities]) -> Score:
        """Return the accuracy over all test records."""
        return self._weighted(runs, np.full(len(self.labels), 1 / len(self.labels)))

    def _weighted(self, runs: Sequence[Probabilities], weight: Doubles) -> Score:
        right = np.stack(runs).argmax(2) == self.labels  # (S, M)
        return Score(right @ weight, right.mean(0)[self.resamples] @ weight)  # a resample keeps each place's site


def _area(scores: NDArray[np.float32], positive: NDArray[np.bool_]) -> Doubles:
    """Return the AUC of each row of scores (S, M): the Mann-Whitney statistic, ties counting one half."""
    from scipy.stats import rankdata  # noqa: PLC0415 (a second to import)

    n, m = int(positive.sum()), int((~positive).sum())
    ranks = rankdata(scores, axis=-1)  # (S, M)
    areas: Doubles = (ranks[:, positive].sum(1) - n * (n + 1) / 2) / (n * m)
    return areas
