"""From a mystery site's updates to lower bounds on epsilon by four estimators, and how well an attacker tells canaries."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from audits.bounds import Errors, classical, composed, errors_at, parametric_mu, steinke, steinke_p_value, step_mu
from audits.canary_site import Draws, Numbers, Watched, stacked
from audits.guesses import guess, preregister, scores
from audits.one_run import Claim, noise_bound, poisson, rejects
from shared.privacy.mechanism import Update

LEVEL = 0.05  # of the bounds that are shown
ABSENT = 1e-6  # below it, a gap so small says that the canaries were not what the file says
STRICT = 1e-4  # of all verdicts together: of ten thousand right sites one is accused
ESTIMATORS = 5
MOST_MU = 4.0  # a step's mu above it is shown as this: epsilon is in the hundreds then
FPR = np.concatenate([[0.0], np.geomspace(1e-3, 1, 40)])


@dataclass(frozen=True)
class Row:
    """One estimator's outcome.

    Attributes:
        name: of the estimator.
        seen: what it counted, in words.
        claim: epsilon that it stands against.
        bound: lower bound on that epsilon at `LEVEL`.
        refuted: whether the claim is refuted at its share of `STRICT`.
        per_step: it looks at steps and knows who was drawn.
        composed: the bound is of the whole run; otherwise of one segment.
    """

    name: str
    seen: str
    claim: float
    bound: float
    refuted: bool
    per_step: bool = False
    composed: bool = True

    @property
    def word(self) -> str:
        """The outcome in a word."""
        return "above the claim" if self.refuted else "consistent"

    @property
    def facts(self) -> dict[str, Any]:
        """For `audit.json`."""
        return asdict(self)


@dataclass(frozen=True)
class Evidence:
    """All estimators' rows, and the attacker's success at "was this canary there in this segment?".

    `gap` is how far a drawn canary moved the sum on average, in clip norms, and the p-value of one so small.
    `accuracy` is (measured, low, high) at 95 %, `ceiling` the claim's, `control` that of one who saw the sums without noise.
    `roc` is (false positive rates, true positive rates, the claim's ceiling).
    """

    rows: list[Row]
    delta: float
    accuracy: tuple[float, float, float]
    gap: tuple[float, float]
    ceiling: float
    control: float
    roc: tuple[Numbers, Numbers, Numbers]


def evidence_of(place: Watched, updates: Mapping[int, Update]) -> Evidence:
    """Return what these updates show; at least one round is there."""
    seen, times = stacked(place, updates)  # (rounds, count) both
    found, there = _segments(place, sorted(updates), seen, times)
    coins = place.canaries.coins
    hits = guess(found.ravel(), coins.ravel(), 2 * (coins.size // 2))
    interval = stats.binomtest(hits, coins.size).proportion_ci(0.95)
    return Evidence(
        rows=[*_per_step(place, seen, times), *_one_run(place.claim, place.segment_claim, found.ravel(), coins.ravel())],
        delta=place.claim.delta,
        gap=_gap(place, seen, times),
        accuracy=(hits / coins.size, float(interval.low), float(interval.high)),
        ceiling=_ceiling(place.segment_claim),
        control=float((there == coins).mean()),
        roc=_roc(found.ravel(), coins.ravel(), place.segment_claim),
    )


def _per_step(place: Watched, seen: Numbers, times: Draws) -> list[Row]:
    """Hold steps in which a canary was drawn once against those in which it was not: who was drawn is known to the auditor.

    Of several local steps in one sum the noise is that of all of them, so a step's mu is sqrt(steps) times the sum's.
    """
    claim, root = place.claim, float(np.sqrt(place.plan.steps))
    inside, outside = seen[times == 1], seen[times == 0]
    if not inside.size or not outside.size:
        return [Row("per step", "no canary was drawn", claim.epsilon, 0.0, refuted=False, per_step=True)]
    errors = errors_at(0.5, inside, outside)  # half a clip norm: fixed by the claim alone
    counted = f"{inside.size} canary-steps in, {outside.size} out"

    def row(name: str, mu: float, strict: float) -> Row:
        shown = composed(min(mu * root, MOST_MU), claim.sample_rate, claim.releases, claim.delta)
        return Row(name, counted, claim.epsilon, shown, strict * root * claim.noise_multiplier > 1, per_step=True)

    level = STRICT / ESTIMATORS
    return [
        row("per step, any noise (Nasr et al. 2023)", step_mu(errors, LEVEL), step_mu(errors, level)),
        row("per step, Gaussian noise", parametric_mu(inside, outside, LEVEL), parametric_mu(inside, outside, level)),
    ]


def _gap(place: Watched, seen: Numbers, times: Draws) -> tuple[float, float]:
    """Return the mean gap between steps with and without a canary, and the chance of one so small if each moved the sum by 1."""
    inside, outside = seen[times == 1], seen[times == 0]
    if not inside.size or not outside.size:
        return 0.0, 1.0
    gap, noise = float(inside.mean() - outside.mean()), place.mechanism.noise_multiplier * np.sqrt(place.plan.steps)
    return gap, float(stats.norm.cdf((gap - 1) / (noise * np.sqrt(1 / inside.size + 1 / outside.size))))


def _one_run(claim: Claim, segment: Claim, found: Numbers, coins: NDArray[np.bool_]) -> list[Row]:
    plan, level, many = preregister(segment, coins.size), STRICT / ESTIMATORS, coins.size
    right = guess(found, coins, plan.fdp)
    fewer = guess(found, coins, plan.steinke)
    errors: Errors = errors_at(plan.threshold, found[coins], found[~coins])
    refuted = bool(rejects(poisson(segment), many, plan.fdp, right, level))
    whole = noise_bound(segment, many, plan.fdp, right, LEVEL, claim)
    binomial = steinke(claim.delta, many, plan.steinke, fewer, LEVEL)
    accused = steinke_p_value(segment.epsilon, claim.delta, many, plan.steinke, fewer) <= level
    tells = f"{errors.inside - errors.missed} of {errors.inside} in, {errors.accused} of {errors.outside} out above the threshold"
    return [
        Row("f-DP, one run (Mahloujifar et al. 2024)", f"{right} of {plan.fdp} guesses right", claim.epsilon, whole, refuted),
        Row(
            "one run (Steinke et al. 2023), a segment",
            f"{fewer} of {plan.steinke} guesses right",
            segment.epsilon,
            binomial,
            accused,
            composed=False,
        ),
        Row(
            "two error rates (Jagielski et al. 2020), a segment",
            tells,
            segment.epsilon,
            classical(errors, claim.delta, LEVEL),
            classical(errors, claim.delta, level) > segment.epsilon,
            composed=False,
        ),
    ]


def _segments(place: Watched, numbers: list[int], seen: Numbers, times: Draws) -> tuple[Numbers, NDArray[np.bool_]]:
    """Return each segment's scores and whether a canary was drawn in it, (segments, count); left-over rounds enter nowhere."""
    shape = (place.canaries.table.segments, place.canaries.count)
    found, there = np.zeros(shape), np.zeros(shape, dtype=np.bool_)
    for segment in range(shape[0]):
        rows = [i for i, n in enumerate(numbers) if segment * place.length < n <= (segment + 1) * place.length]
        if rows:
            found[segment] = scores(seen[rows], place.claim)
            there[segment] = times[rows].any(0)
    return found, there


def _ceiling(claim: Claim) -> float:
    """Return the best balanced accuracy that the claim allows: half of one plus the largest TPR - FPR."""
    power = np.linspace(0, 1, 2001)
    return float(0.5 + (power - poisson(claim)(power)).max() / 2)


def _roc(found: Numbers, coins: NDArray[np.bool_], claim: Claim) -> tuple[Numbers, Numbers, Numbers]:
    outside, inside = np.sort(found[~coins]), np.sort(found[coins])
    cuts = np.quantile(outside, 1 - FPR)
    tpr = 1 - np.searchsorted(inside, cuts, side="right") / max(1, inside.size)
    power = np.linspace(0, 1, 4001)
    return FPR, tpr, np.interp(FPR, poisson(claim)(power), power)
