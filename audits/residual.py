"""Layer L2, the noise: shadow rounds on made-up patients whose draws are known and whose noise is the real thing.

The auditor recomputes the clean sum s of the same draw by a readable twin, in float64; what is left of the update u, the residual
``r = (u - s) / C``, should be k local steps' Gaussian noise of variance ``k sigma^2`` in every one of d coordinates. So

    sigma_upper(alpha) = sqrt( |r|^2 / (k chi2.ppf(alpha, d)) ),   epsilon_lower = PLD(rate, sigma_upper, all releases of the plan)

holds at confidence 1 - alpha (privacy.md §4.9). Only shadow rounds are looked at: the residual norm of a production round would
tell datasets apart.
"""

import secrets
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import product

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import stats

from audits.recorded import DRAW, NOISE, Purpose, Recorded, first, watched
from audits.section import Section, Table, Verdict, section_of
from audits.statistics import LEVEL, examine_noise, shared_stream
from audits.subject import SITE, Subject, made_up_pool
from client.round import LocalPlan, Pool, patient_gradients
from shared.privacy.accounting import epsilon
from shared.privacy.clip import STEPS
from shared.privacy.mechanism import Mechanism, Update
from shared.privacy.planned import epsilon_of_plan, releases_of
from shared.privacy.sampling import poisson
from shared.prompt import PromptShape
from shared.wire import sha256

TITLE = "Is the noise there, all of it, and new every time?"
RUN, OTHER = "shadow", "Other"
NUMBERS = 7680  # of the wide shadow prompt: with so many, one round proves .98 of the epsilon (privacy.md §4.9)
FEWEST = 1000  # of every shadow prompt; a smaller card's is widened
LEAST_SIGMA = 0.05  # PLD of less noise takes minutes, and says nothing more
DIGITS = 64  # the noise of whole grid steps is as likely to leave any remainder, when its scale is much larger

Residual = NDArray[np.float64]  # (P+L, D) in clip norms


@dataclass(frozen=True)
class Shadow:
    """One shadow round's update and residual (P+L, D); the residual is NaN where the step gave no update of the right shape."""

    purpose: Purpose
    update: Update
    residual: Residual


def residual(subject: Subject, proven: bool = True) -> Section:
    """Test the noise of the subject's step: its scale, law, place and independence.

    `proven` also bounds the plan's epsilon from below by one round, as evidence; no verdict needs it.
    """
    seed = secrets.randbelow(2**31)
    wide, narrow = widened(subject, NUMBERS), widened(subject, FEWEST)
    plan = replace(subject.plan, learning_rate=0.0)  # all steps at the broadcast prompt, whose clean sums are known
    patients = made_up_pool(subject, _enough(subject.mechanism.sample_rate), seed)
    one = shadow(wide, patients, plan, (RUN, SITE, 1), seed)
    rounds = [shadow(narrow, patients, plan, (RUN, site, round_), seed) for site, round_ in product((SITE, OTHER), (2, 3))]
    steps = local_steps(narrow, first(patients, 6), seed)
    bound = epsilon_bound(subject, one.residual, proven)
    verdicts = [
        _bound(bound, one),
        _scale(subject, [one, *rounds]),
        _law(subject, [one, *rounds]),
        _independent(rounds),
        _local(subject, steps),
    ]
    return section_of(TITLE, verdicts, tables=(_table(subject, [one, *rounds]),), facts={"seed": seed, **vars(bound)})


def widened(subject: Subject, numbers: int) -> Subject:
    """Return the subject with a prompt of at least so many numbers, tiled from its own rows, where the backbone has room.

    The noise's law does not depend on the prompt; more coordinates only make it better seen.
    """
    scorer, prompt, shape = subject.scorer, subject.prompts[0], subject.scorer.shape
    rows = max(shape.rows, -(-numbers // shape.dim) - shape.labels)
    positions = getattr(scorer.backbone.model.config, "max_position_embeddings", None)
    if scorer.layer == 0 and positions:  # rows take positions there
        rows = max(shape.rows, min(rows, int(positions) - subject.task.card.backbone.max_tokens - 2))
    if scorer.deep or scorer.tuning is not None or shape.rows in (0, rows):
        return subject
    tiled = np.resize(prompt[: shape.rows], (rows, shape.dim))  # (P', D)
    wide = np.concatenate([tiled, prompt[shape.rows :]]).astype(np.float32)  # (P'+L, D)
    return replace(subject, scorer=replace(scorer, shape=PromptShape(rows, shape.labels, shape.dim)), prompts=(wide,))


def shadow(subject: Subject, patients: Pool, plan: LocalPlan, purpose: Purpose, seed: int) -> Shadow:
    """Run one round with real noise on a known draw, and return what is left when the clean sums are taken away."""
    source = Recorded(seed, real=(NOISE,))
    update = subject.step(patients, subject.prompts[0], plan, subject.scorer, source, *purpose)
    if update.shape != subject.scorer.shape.shape:
        return Shadow(purpose, update, np.full(subject.scorer.shape.shape, np.nan))
    draws = [asked.purpose for asked in source.asked if asked.purpose[0] == DRAW]
    prompts = [torch.from_numpy(subject.prompts[0])] * len(draws)
    clean = sum(_clean(subject, patients, plan.mechanism, p, d, seed) for p, d in zip(prompts, draws, strict=True))
    return Shadow(purpose, update, _in_clip_norms(update, plan.mechanism) - clean)


def local_steps(subject: Subject, patients: Pool, seed: int) -> list[Residual]:
    """Return the residuals of two local steps with everybody in, one by one: the scorer saw where the first one moved to.

    The local move is ``learning_rate * noised / denominator``; here the learning rate makes it the noised sum in clip norms.
    """
    everybody = replace(subject.mechanism, sample_rate=1.0)
    clip, start = everybody.clip_norm, torch.from_numpy(subject.prompts[0])
    plan = replace(subject.plan, mechanism=everybody, steps=2, learning_rate=subject.plan.denominator / clip)
    scorer = watched(subject.scorer)
    source = Recorded(seed, real=(NOISE,))
    update = subject.step(patients, subject.prompts[0], plan, scorer, source, RUN, SITE, 0)
    total = _in_clip_norms(update, everybody)
    if len(scorer.prompts) != 2 or total.shape != subject.scorer.shape.shape:
        return []
    moved = (start - scorer.prompts[1]).double().numpy()  # the first step's noised sum
    clean = [_clean(subject, patients, everybody, prompt, (DRAW, RUN, SITE, 0, n), seed) for n, prompt in enumerate(scorer.prompts)]
    return [moved - clean[0], total - moved - clean[1]]


def _clean(subject: Subject, patients: Pool, mechanism: Mechanism, prompt: torch.Tensor, draw: Purpose, seed: int) -> Residual:
    """Return the clipped sum in clip norms, written out: every drawn patient's gradient, shortened to the clip norm."""
    drawn = poisson(patients.patients, mechanism.sample_rate, Recorded(seed).stream(*draw))
    each = patient_gradients(patients, drawn, prompt, subject.scorer).double()  # (N, P+L, D)
    lengths = each.flatten(1).norm(dim=1).clamp_min(1e-300).view(-1, 1, 1)
    found: Residual = (each * (mechanism.clip_norm / lengths).clamp_max(1.0)).sum(0).numpy() / mechanism.clip_norm
    return found


def _in_clip_norms(update: Update, mechanism: Mechanism) -> Residual:
    return update.astype(np.float64) * (mechanism.grid / mechanism.clip_norm)


def _enough(rate: float) -> int:
    """Return how many made-up patients give a draw of about five."""
    return min(200, max(6, round(5 / rate)))


@dataclass(frozen=True)
class Bound:
    """What one shadow round proves of epsilon over the whole plan.

    Attributes:
        claimed: epsilon of the card's plan.
        proven: the lower bound at 95 % confidence, which exceeds the claim in 5 % of right rounds; None: not computed.
        sigma: the card's noise multiplier.
        sigma_measured: the root mean square of the residual.
        sigma_surely: sigma's upper bound at confidence 1 - LEVEL; under `sigma`, the claim is refuted.
    """

    claimed: float
    proven: float | None
    sigma: float
    sigma_measured: float
    sigma_surely: float


def epsilon_bound(subject: Subject, found: Residual, proven: bool = True) -> Bound:
    """Bound the plan's epsilon from below by one round's residual (P+L, D) in clip norms."""
    card, mechanism = subject.task.card, subject.mechanism
    squares = float((found**2).sum()) / card.plan.local_steps
    upper, surely = (float(np.sqrt(squares / stats.chi2.ppf(alpha, found.size))) for alpha in (0.05, LEVEL))
    lower = None
    if proven and upper > LEAST_SIGMA:
        steps = STEPS if mechanism.exact else None
        lower = epsilon(mechanism.sample_rate, upper, releases_of(card), card.privacy.delta, steps)
    measured = float(np.sqrt(squares / found.size))
    return Bound(epsilon_of_plan(card), lower, mechanism.noise_multiplier, measured, surely)


def _bound(bound: Bound, one: Shadow) -> Verdict:
    says = (
        f"sigma at most {bound.sigma_surely:.4f} with confidence 1 - {LEVEL:g} by one shadow round of {one.residual.size} numbers"
    )
    if bound.proven is not None:
        says += f"; epsilon at least {bound.proven:.4f} with 95 % confidence, {bound.proven / bound.claimed:.3f} of the claim"
    return Verdict(
        "L2",
        "The noise is no smaller than epsilon was computed with",
        says,
        f"sigma {bound.sigma:.4f}, epsilon {bound.claimed:.4f}",
        bool(bound.sigma_surely >= bound.sigma),  # a NaN does not hold
        "The lower bound passes the claim in one of twenty right rounds; the claim is refuted only at the stricter level.",
    )


def _stated(subject: Subject) -> float:
    """Return the noise's scale in grid steps of one round, or in clip norms on the float path."""
    scale = subject.mechanism.noise_multiplier * float(np.sqrt(subject.plan.steps))
    return scale * STEPS if subject.mechanism.exact else scale


def _p_of_squares(squares: NDArray[np.float64], numbers: int) -> float:
    """Return the p-value of sums of so many squared standard normal numbers, the worst of them, corrected for all."""
    law = stats.chi2(numbers)
    return float(min(1.0, 2 * squares.size * min(law.cdf(squares).min(), law.sf(squares).min())))


def _scale(subject: Subject, shadows: Sequence[Shadow]) -> Verdict:
    """The scale everywhere: of the whole, of every row and of every column of the prompt."""
    unit = subject.mechanism.noise_multiplier * np.sqrt(subject.plan.steps)
    stacked = np.concatenate([s.residual for s in shadows]) / unit  # (sum of rows, D)
    squares = stacked**2
    p_values = {
        "whole": _p_of_squares(squares.sum(keepdims=True), squares.size),
        "rows": _p_of_squares(squares.sum(1), squares.shape[1]),
        "columns": _p_of_squares(squares.sum(0), squares.shape[0]),
    }
    worst = min(p_values, key=lambda name: _or_zero(p_values[name]))
    return Verdict(
        "L2",
        "The noise has the stated scale in every part of the prompt",
        f"{np.sqrt(squares.mean()):.4f} of the stated scale; least p-value {p_values[worst]:.2g} ({worst})",
        f"p-value {LEVEL:g}",
        min(map(_or_zero, p_values.values())) * len(p_values) >= LEVEL,
        "Of ten thousand right implementations one is accused.",
    )


def _law(subject: Subject, shadows: Sequence[Shadow]) -> Verdict:
    """The Gaussian law, and on the exact path the low digits of whole numbers."""
    found = np.concatenate([s.residual.ravel() for s in shadows])
    p_value = min(1.0, 2 * min(_p_of_law(subject, found), _p_of_digits(subject, found))) if np.isfinite(found).all() else 0.0
    return Verdict(
        "L2",
        "The noise is Gaussian to the last digit",
        f"p-value {p_value:.2g}",
        f"p-value {LEVEL:g}",
        p_value >= LEVEL,
        "64 cells of values and 64 of remainders are looked at, not every value.",
    )


def _p_of_law(subject: Subject, found: Residual) -> float:
    noise = np.rint(found * STEPS).astype(np.int64) if subject.mechanism.exact else found
    return examine_noise(noise, _stated(subject)).law


def _p_of_digits(subject: Subject, found: Residual) -> float:
    """Remainders are uniform up to ``exp(-2 pi^2 (scale / DIGITS)^2)``; those of multiples of a large step are not.

    Of the residual, because the clean sum's own digits would hide them; it is known up to a grid step a patient.
    """
    if not subject.mechanism.exact or _stated(subject) < 2 * DIGITS:
        return 1.0
    digits = np.rint(found * STEPS).astype(np.int64) % DIGITS
    return float(stats.chisquare(np.bincount(digits, minlength=DIGITS)).pvalue)


def _independent(rounds: Sequence[Shadow]) -> Verdict:
    names = [sha256(s.update) for s in rounds]
    p_value = _p_of_sharing([s.residual for s in rounds])
    return Verdict(
        "L2",
        "Rounds and sites have independent noise",
        f"p-value {p_value:.2g} over all pairs of {len(rounds)} rounds at two sites, at every rotation; "
        f"{len(names) - len(set(names))} payloads came twice",
        f"p-value {LEVEL:g}, no payload twice",
        p_value >= LEVEL and len(set(names)) == len(names),
        "A common part of less than a tenth of the variance is not seen.",
    )


def _local(subject: Subject, steps: Sequence[Residual]) -> Verdict:
    unit = subject.mechanism.noise_multiplier
    found = np.stack([s.ravel() for s in steps]) / unit if steps else np.full((2, 1), np.nan)  # (2, d)
    p_scale = _or_zero(_p_of_squares((found**2).sum(1), found.shape[1]))
    p_value = min(1.0, 2 * min(p_scale, _p_of_sharing(found)))
    return Verdict(
        "L2",
        "Local steps move by noised sums only, each with noise of its own",
        f"p-value {p_value:.2g} over two local steps",
        f"p-value {LEVEL:g}",
        p_value >= LEVEL,
        "Two steps are looked at, also where the card has one.",
    )


def _p_of_sharing(residuals: Sequence[Residual] | NDArray[np.float64]) -> float:
    rows = np.stack([r.ravel() for r in residuals])
    if not np.isfinite(rows).all() or (rows.std(1) == 0).any():
        return 0.0
    return shared_stream(rows)


def _or_zero(p_value: float) -> float:
    """Return the p-value; none, of an update that is no number, convicts."""
    return p_value if np.isfinite(p_value) else 0.0


def _table(subject: Subject, shadows: Sequence[Shadow]) -> Table:
    unit = subject.mechanism.noise_multiplier * np.sqrt(subject.plan.steps)
    rows = [(f"{s.purpose[1]}, round {s.purpose[2]}", str(s.residual.size), f"{(s.residual / unit).std():.4f}") for s in shadows]
    return Table("Residuals of shadow rounds on made-up patients", ("round", "numbers", "measured / stated scale"), rows)
