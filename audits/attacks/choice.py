"""A secret that is one of k: what no attacker passes by the ledger, and whether one did."""

from dataclasses import dataclass

from scipy import stats

LEVEL = 1e-3  # of a verdict, over all of its questions together: of a thousand right implementations it accuses one


def ceiling(chance: float, mu: float) -> float:
    """Return the largest probability that a guess of this chance is right, under mu-Gaussian differential privacy.

    Let the guess be a set of words of a size that is fixed beforehand, `chance` its share of all k equally likely words, and
    A_w the event that it holds word w. Without the patient the A_w have mean probability `chance`, whoever the patient is.
    The patient's presence lifts a probability p to at most ``1 - f(p) = Phi(Phi^-1(p) + mu)`` (Dong et al. 2022), which is
    concave in p; so the mean over w is at most this at the mean.

    >>> round(ceiling(0.5, 1.0), 3), ceiling(1.0, 1.0)
    (0.841, 1.0)
    """
    return float(stats.norm.cdf(stats.norm.ppf(chance) + mu))


@dataclass(frozen=True)
class Tally:
    """How often guesses were right: hits of so many tries, each right by the prior alone with probability `chance`."""

    hits: int
    tries: int
    chance: float

    @property
    def rate(self) -> float:
        """The share of guesses that were right."""
        return self.hits / self.tries

    @property
    def interval(self) -> tuple[float, float]:
        """The 95 % Clopper-Pearson interval of the rate."""
        found = stats.binomtest(self.hits, self.tries).proportion_ci(0.95)
        return float(found.low), float(found.high)

    def p_value_above(self, bound: float) -> float:
        """Return the probability of as many hits or more, where each is right with at most probability `bound`."""
        return float(stats.binomtest(self.hits, self.tries, min(bound, 1.0), alternative="greater").pvalue)

    def passes(self, bound: float, questions: int) -> bool:
        """Say whether guesses are right more often than `bound` allows, as one of so many questions (Bonferroni)."""
        return self.p_value_above(bound) < LEVEL / questions
