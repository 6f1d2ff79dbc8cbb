"""How well scores tell members from others, with intervals that do not promise more than was seen."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats
from scipy.special import betaincinv
from sklearn.metrics import roc_curve

Numbers = NDArray[np.float64]
Truth = NDArray[np.bool_]
LEVEL = 0.95


@dataclass(frozen=True)
class Estimate:
    """A measured probability with its interval."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        """Return the value with its interval, three digits each."""
        return f"{self.value:.3f} ({self.low:.3f} to {self.high:.3f})"


def share(right: int, asked: int, level: float = LEVEL) -> Estimate:
    """Return right / asked with the interval of Clopper and Pearson (1934).

    >>> str(share(5, 10))
    '0.500 (0.187 to 0.813)'
    """
    tail = (1 - level) / 2
    low = betaincinv(right, asked - right + 1, tail) if right else 0.0
    high = betaincinv(right + 1, asked - right, 1 - tail) if right < asked else 1.0
    return Estimate(right / asked, float(low), float(high))


def auc(scores: Numbers, truth: Truth, cluster: NDArray[np.int64] | None = None, level: float = LEVEL) -> Estimate:
    """Return the area under the ROC curve: the chance that a member scores above a non-member, ties counting half.

    Args:
        scores: (N,), larger for "in".
        truth: (N,), with both answers among them.
        cluster: (N,) scores of one cluster, for example of one release, may depend on each other; None: all are independent.
        level: of the interval, which is a normal one with the standard error of DeLong et al. (1988), with clusters of
            Obuchowski (1997).
    """
    clusters = np.arange(len(scores)) if cluster is None else np.unique(cluster, return_inverse=True)[1]
    inside, outside = scores[truth], scores[~truth]
    above = _shares_below(inside, outside)  # (M,) of each member: share of non-members under it
    under = 1 - _shares_below(outside, inside)  # (N - M,) of each non-member: share of members above it
    value = float(above.mean())
    count = int(clusters.max()) + 1
    pull = np.bincount(clusters[truth], (above - value) / len(inside), count)
    pull += np.bincount(clusters[~truth], (under - value) / len(outside), count)  # (clusters,) what each moves the area by
    error = float(np.sqrt(count / max(count - 1, 1) * (pull**2).sum()))
    # The smallest error that so few scores can show: perfect scores have no spread and are still only so many.
    reach = max(_critical(level, count) * error, 1 - (1 - level) ** (1 / min(len(inside), len(outside))) if error == 0 else 0)
    return Estimate(value, max(0.0, value - reach), min(1.0, value + reach))


def tpr_at(fpr: float, scores: Numbers, truth: Truth, level: float = LEVEL) -> Estimate:
    """Return the true positive rate at the threshold that at most a share `fpr` of the non-members pass (Clopper-Pearson).

    The threshold is a score of the non-members, so the members are fresh to it.
    """
    outside = np.sort(scores[~truth])[::-1]
    threshold = outside[int(fpr * len(outside))]
    inside = scores[truth]
    return share(int((inside > threshold).sum()), len(inside), level)


def balanced_accuracy(scores: Numbers, truth: Truth, threshold: float = 0.0, level: float = LEVEL) -> Estimate:
    """Return the mean of true positive and true negative rate at a threshold that was chosen beforehand.

    The interval combines those of Clopper and Pearson by the method of variance recovery (Zou and Donner 2008).
    """
    right = scores > threshold
    yes = share(int(right[truth].sum()), int(truth.sum()), level)
    no = share(int((~right[~truth]).sum()), int((~truth).sum()), level)
    value = (yes.value + no.value) / 2
    low = value - np.hypot(yes.value - yes.low, no.value - no.low) / 2
    high = value + np.hypot(yes.high - yes.value, no.high - no.value) / 2
    return Estimate(value, float(low), float(high))


def curve(scores: Numbers, truth: Truth, points: int = 200) -> tuple[Numbers, Numbers]:
    """Return false and true positive rates of the ROC curve, at most about `points` of each."""
    fpr, tpr, _ = roc_curve(truth, scores)
    keep = np.unique(np.linspace(0, len(fpr) - 1, points).astype(int))
    return fpr[keep], tpr[keep]


def _shares_below(some: Numbers, others: Numbers) -> Numbers:
    """Return, of each of `some`, the share of `others` below it, ties counting half."""
    ordered = np.sort(others)
    twice = np.searchsorted(ordered, some, "left") + np.searchsorted(ordered, some, "right")
    return twice / (2 * len(others))


def _critical(level: float, clusters: int) -> float:
    """Return Student's quantile: few clusters make an unsure error."""
    return float(stats.t.ppf((1 + level) / 2, max(clusters - 1, 1)))
