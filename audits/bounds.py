"""Lower bounds on epsilon from what an auditor saw, as pure functions; each holds with a stated confidence.

Every estimator takes the level `alpha`: the chance that a mechanism that keeps its claim is found above it. Thresholds and
numbers of guesses are fixed before the data are looked at (from the claim, see `audits.one_run.preregister`) or on other data.
Letters: FPR is the rate of canaries called "in" that were out, FNR that of canaries called "out" that were in.
"""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from shared.privacy.accounting import MOST_NOISE, Release, epsilon_of

Numbers = NDArray[Any]


def clopper_pearson(errors: int, trials: int, alpha: float) -> float:
    """Return the upper confidence bound of a rate at level 1 - alpha (Clopper and Pearson 1934).

    >>> round(clopper_pearson(0, 100, 0.05), 5)  # 1 - 0.05 ** (1 / 100)
    0.02951
    """
    return 1.0 if errors >= trials else float(stats.beta.ppf(1 - alpha, errors + 1, trials - errors))


@dataclass(frozen=True)
class Errors:
    """What a fixed threshold got wrong: of `inside` canaries that were in and `outside` that were out."""

    missed: int
    inside: int
    accused: int
    outside: int

    def rates(self, alpha: float) -> tuple[float, float]:
        """Return upper bounds of FPR and FNR that hold together at level 1 - alpha."""
        return clopper_pearson(self.accused, self.outside, alpha / 2), clopper_pearson(self.missed, self.inside, alpha / 2)


def errors_at(threshold: float, inside: Numbers, outside: Numbers) -> Errors:
    """Return the errors of calling "in" whatever is above the threshold."""
    return Errors(int((inside <= threshold).sum()), inside.size, int((outside > threshold).sum()), outside.size)


def classical(errors: Errors, delta: float, alpha: float) -> float:
    """Return the classical lower bound on epsilon (Jagielski et al. 2020; Nasr et al. 2021), 0 or more.

    The errors are of one canary each: of repeated runs, or, in one run, of canaries that do not touch each other.
    """
    fpr, fnr = errors.rates(alpha)
    return max(0.0, _log_ratio(1 - fnr - delta, fpr), _log_ratio(1 - fpr - delta, fnr))


def step_mu(errors: Errors, alpha: float) -> float:
    """Return a lower bound on the Gaussian-DP parameter mu of one step (Nasr et al. 2023, section 4), 0 or more.

    A step that adds N(0, sigma^2) to what one patient moves by 1 has mu = 1 / sigma (Dong et al. 2022, theorem 2.7).
    """
    fpr, fnr = errors.rates(alpha)
    return max(0.0, float(stats.norm.ppf(1 - fpr) - stats.norm.ppf(fnr)))


def parametric_mu(inside: Numbers, outside: Numbers, alpha: float) -> float:
    """Return a lower bound on mu of one step whose noise is Gaussian, which needs fewer observations than `step_mu`.

    The noise's scale is at most `top` by the chi-squared law of the sum of squares around both means; the gap between the means
    is at least the seen one minus a normal quantile at that scale. Both hold together at level 1 - alpha; the gap, which is the
    harder to see, gets four fifths of alpha.
    """
    n, k = inside.size, outside.size
    if n < 2 or k < 2:
        return 0.0
    squares = float(((inside - inside.mean()) ** 2).sum() + ((outside - outside.mean()) ** 2).sum())
    top = math.sqrt(squares / float(stats.chi2.ppf(alpha / 5, n + k - 2)))
    gap = float(inside.mean() - outside.mean()) - float(stats.norm.isf(alpha * 4 / 5)) * top * math.sqrt(1 / n + 1 / k)
    return max(0.0, gap / top)


def composed(mu: float, sample_rate: float, releases: int, delta: float) -> float:
    """Return epsilon of `releases` Poisson-drawn Gaussian steps of parameter mu (PLD); 0 for a mu that shows nothing."""
    if mu * MOST_NOISE <= 1:
        return 0.0
    return epsilon_of([Release(sample_rate, 1 / mu)] * releases, delta)


def steinke_p_value(eps: float, delta: float, canaries: int, guesses: int, correct: int) -> float:
    """Return the p-value of one run in which `correct` of `guesses` coins of `canaries` were guessed, were it (eps, delta)-DP.

    Steinke, Nasr and Jagielski (2023), theorem 5.2: the number of correct guesses is dominated by a binomial one at
    e^eps / (1 + e^eps), up to delta's share.

    >>> round(steinke_p_value(0.0, 0.0, 10, 10, 10), 6)  # ten fair coins
    0.000977
    """
    if not guesses or not correct:
        return 1.0
    law = stats.binom(guesses, 1 / (1 + math.exp(-eps)))
    beta = float(law.sf(correct - 1))  # Pr[Bin >= v]
    i = np.arange(1, correct + 1)
    worst = float(((law.sf(correct - i - 1) - beta) / i).max())
    return min(1.0, beta + 2 * canaries * delta * worst)


def steinke(delta: float, canaries: int, guesses: int, correct: int, alpha: float) -> float:
    """Return the largest epsilon, to 1e-3, that `steinke_p_value` rejects at level alpha; 0 where it rejects none."""

    def rejected(eps: float) -> bool:
        return steinke_p_value(eps, delta, canaries, guesses, correct) <= alpha

    if not rejected(0.0):
        return 0.0
    low, high = 0.0, 50.0
    while high - low > 1e-3:
        middle = (low + high) / 2
        low, high = (middle, high) if rejected(middle) else (low, middle)
    return low


def _log_ratio(above: float, below: float) -> float:
    return math.log(above / below) if above > 0 and below > 0 else -math.inf
