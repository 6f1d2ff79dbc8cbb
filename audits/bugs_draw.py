"""Bugs of the draw and of what is sent, each one part of `audits.bugs_step.Parts`. Never for patients."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch

from audits.bugs_step import CAP, RIGHT, Parts, Value, clipped, draw
from audits.recorded import DRAW, Purpose
from audits.subject import Step
from client.round import LocalPlan, Pool
from shared.privacy.mechanism import Mechanism
from shared.privacy.sampling import Indices, poisson
from shared.privacy.source import SimulationSource, Source, uniform


def _coins(pool: Pool, source: Source, at: Purpose) -> Value:
    return uniform(source.stream(DRAW, *at), pool.patients)


def shuffled() -> Step:
    """A draw of fixed size in a secret order."""

    def fixed(pool: Pool, plan: LocalPlan, source: Source, at: Purpose) -> Indices:
        return _coins(pool, source, at).argsort()[: round(pool.patients * plan.mechanism.sample_rate)]

    return Parts(draw=fixed)


def in_order() -> Step:
    """One batch of the table after the other, in an order that everybody knows."""

    def batch(pool: Pool, plan: LocalPlan, source: Source, at: Purpose) -> Indices:
        source.stream(DRAW, *at)
        size = round(pool.patients * plan.mechanism.sample_rate)
        return np.unique((int(at[2]) * size + np.arange(size)) % max(1, pool.patients))

    return Parts(draw=batch)


def capped() -> Step:
    """A batch that holds no more than so many."""
    return Parts(draw=lambda pool, plan, source, at: draw(pool, plan, source, at)[:CAP])


def with_replacement() -> Step:
    """A patient may be drawn twice in one draw."""

    def twice(pool: Pool, plan: LocalPlan, source: Source, at: Purpose) -> Indices:
        size = round(pool.patients * plan.mechanism.sample_rate)
        return (uniform(source.stream(DRAW, *at), size) * pool.patients).astype(np.int64)

    return Parts(draw=twice)


def at_rate(rate: Callable[[Pool, float], float]) -> Step:
    """Coins of another rate than the one that is accounted."""

    def other(pool: Pool, plan: LocalPlan, source: Source, at: Purpose) -> Indices:
        return poisson(pool.patients, min(1.0, rate(pool, plan.mechanism.sample_rate)), source.stream(DRAW, *at))

    return Parts(draw=other)


def weighted() -> Step:
    """Patients of one label are drawn more often, at about the right mean rate."""

    def balanced(pool: Pool, plan: LocalPlan, source: Source, at: Purpose) -> Indices:
        labels = np.array([int(pool.labels[records[0]]) for records in pool.records], dtype=np.int64)
        return np.flatnonzero(_coins(pool, source, at) < plan.mechanism.sample_rate * np.where(labels == 0, 0.6, 1.4))

    return Parts(draw=balanced)


def public_draw() -> Step:
    """Every round's coins come from one public seed."""
    fixed = SimulationSource(42)
    return Parts(draw=lambda pool, plan, _source, _at: draw(pool, plan, fixed, ()))


def skips_nobody() -> Step:
    """An empty draw releases nothing, not even noise."""

    def skipping(each: torch.Tensor, mechanism: Mechanism, source: Source, at: Purpose) -> Value:
        return RIGHT(each, mechanism, source, at) if len(each) else clipped(each, mechanism)

    return Parts(released=skipping)


def divided(by: Callable[[Pool, int], float]) -> Step:
    """The noised sum divided by a private number."""
    return Parts(send=lambda total, pool, drawn: total / max(1.0, by(pool, drawn)))


def longer() -> Step:
    """As many more rows as patients were drawn."""
    return Parts(send=lambda total, _pool, drawn: np.concatenate([total, np.zeros((drawn, total.shape[1]))]))


def tuned() -> Step:
    """A clip norm that follows the patients' own gradients, their median length."""

    def private(each: torch.Tensor, mechanism: Mechanism, source: Source, at: Purpose) -> Value:
        lengths = torch.nan_to_num(each).flatten(1).norm(dim=1)
        own = float(lengths.median().clamp(1e-3, 1e3)) if len(each) else mechanism.clip_norm
        return RIGHT(each, replace(mechanism, clip_norm=own), source, at)

    return Parts(released=private)
