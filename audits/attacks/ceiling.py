"""What no attacker passes, from the releases alone: the trade-off curve of the privacy loss distribution, and what follows.

Let P be the law of all that an attacker sees with the patient, Q without. Adjacency is add-or-remove-one, so (eps, delta(eps))
holds between P and Q in both directions, and a test that says "in" with probability `fpr` under Q says it under P with at most

    g(fpr) = min over eps >= 0 of min( e^eps fpr + delta(eps),  1 - e^-eps (1 - fpr - delta(eps)) ).

g is concave, a minimum of lines. Every figure here is computed from g and errs upward only: delta is an upper bound, the minimum
is over finitely many eps, and the area is taken by the midpoint rule, which lies above a concave function's integral.
"""

import functools
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from shared.privacy.accounting import Release, epsilon_of, profile

Numbers = NDArray[np.float64]
POINTS = 400  # epsilons at which the curve is held
LARGEST = 500.0  # of epsilon, which no double's exponential overflows at
SMALLEST = 1e-7  # the largest epsilon is the one at this delta; false positive rates under it are not asked about


@dataclass(frozen=True)
class Ceiling:
    """The privacy curve of some releases: `deltas` at `epsilons`, both of shape (POINTS,)."""

    epsilons: Numbers
    deltas: Numbers

    def tpr(self, fpr: float | Numbers) -> Numbers:
        """Return g(fpr): the largest true positive rate of any test with this false positive rate, of `fpr`'s shape."""
        x = np.asarray(fpr, dtype=np.float64)[..., None]  # (..., 1) against (POINTS,)
        one_way = np.exp(self.epsilons) * x + self.deltas
        other_way = 1 - np.exp(-self.epsilons) * (1 - x - self.deltas)
        return np.clip(np.minimum(one_way, other_way).min(-1), 0.0, 1.0)  # type: ignore[no-any-return]

    @property
    def balanced_accuracy(self) -> float:
        """The best attacker's share of right answers when "in" and "out" are equally likely: (1 + delta(0)) / 2."""
        return float(1 + self.deltas[0]) / 2

    @property
    def auc(self) -> float:
        """The integral of g: no scores have a larger area under their ROC curve, averaged over patients too (g is concave)."""
        edges = np.concatenate([[0.0], np.geomspace(1e-9, 1.0, 4000)])
        return float(np.diff(edges) @ self.tpr((edges[1:] + edges[:-1]) / 2))

    def guess(self, candidates: int) -> float:
        """Return the largest chance to name which of k equally likely values a patient has: g(1 / k).

        The patient is present with value v under P_v and absent under Q; k values may differ from each other by twice the clip
        norm, so adjacency between two values is *replace*, and still one add-or-remove curve is enough. Let A_v be the event
        that v is guessed. The A_v are disjoint, so Q(A_1) + ... + Q(A_k) = 1, and every P_v against Q obeys g. Hence

            success = mean of P_v(A_v) <= mean of g(Q(A_v)) <= g(1 / k)

        by Jensen's inequality. For two values with opposite gradients under Gaussian noise it is attained: g(1/2) = Phi(mu),
        the accuracy between two means 2 mu apart. For more values it is an upper bound that may not be reached.
        """
        return float(self.tpr(1 / candidates))


def ceiling_of(releases: Iterable[Release]) -> Ceiling:
    """Return the ceiling of everything that depends on these releases; raises `InputError` for what cannot be accounted."""
    return _ceiling(tuple(sorted(releases, key=repr)))


@functools.lru_cache(maxsize=16)
def _ceiling(releases: tuple[Release, ...]) -> Ceiling:
    if not releases:
        return Ceiling(np.zeros(1), np.zeros(1))
    epsilons = np.linspace(0.0, min(epsilon_of(releases, SMALLEST), LARGEST), POINTS)
    return Ceiling(epsilons, np.array(profile(releases, epsilons.tolist())))


def drawn(release: Release) -> Release:
    """Return one release as seen by who asks whether a patient was *drawn* in it: the draw hides nothing of that.

    >>> drawn(Release(0.3, 2.37)).sample_rate
    1.0
    """
    return Release(1.0, release.noise_multiplier, release.steps)
