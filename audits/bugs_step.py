"""Bugs of the private step, each one change of `client.round.answer`, for `audits.self_test` to put in. Never for patients.

The step is taken apart into draw, gradients, release, local move and what is sent; with the right parts it gives the bytes of
`answer` (a test holds it to that), so that a bug is what its one part does.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from audits.recorded import DRAW, NOISE, Purpose
from audits.subject import Step
from client.round import LocalPlan, Pool, patient_gradients
from shared.privacy.clip import STEPS, clipped_sum
from shared.privacy.mechanism import Mechanism, Update, encode, release
from shared.privacy.sampling import Indices, poisson
from shared.privacy.source import SimulationSource, Source, uniform
from shared.prompt import Array
from shared.scoring import Scorer

Value = NDArray[Any]  # a sum in grid units (P+L, D)
CAP = 16  # patients in a capped batch
COARSE = torch.bfloat16

Draw = Callable[[Pool, LocalPlan, Source, Purpose], Indices]
Gradients = Callable[[Pool, Indices, Tensor, Scorer], Tensor]
Released = Callable[[Tensor, Mechanism, Source, Purpose], Value]
Noise = Callable[[tuple[int, ...], Mechanism, Source, Purpose], Value]
Move = Callable[[Tensor, Value, Tensor, LocalPlan], Tensor]
Send = Callable[[Value, Pool, int], Value]


def draw(pool: Pool, plan: LocalPlan, source: Source, at: Purpose) -> Indices:
    """Draw rightly; `at` is run, site, round and local step."""
    return poisson(pool.patients, plan.mechanism.sample_rate, source.stream(DRAW, *at))


def clipped(gradients: Tensor, mechanism: Mechanism) -> Value:
    """Return the rightly clipped sum of (N, P+L, D) in grid units."""
    found = clipped_sum(gradients, mechanism.clip_norm)
    return found.value if mechanism.exact else found.value * found.grid


def noise(shape: tuple[int, ...], mechanism: Mechanism, source: Source, at: Purpose) -> Value:
    """Return the right noise in grid units."""
    return release(torch.zeros(0, *shape), mechanism, source.stream(NOISE, *at)).value


def noised(clip: Callable[[Tensor, Mechanism], Value] = clipped, noise: Noise = noise) -> Released:
    """Return a release of a clipped sum with noise."""
    return lambda each, mechanism, source, at: clip(each, mechanism) + noise(tuple(each.shape[1:]), mechanism, source, at)


def move(here: Tensor, released: Value, _each: Tensor, plan: LocalPlan) -> Tensor:
    """Move rightly: by what was released."""
    return here - torch.from_numpy(released * (plan.learning_rate * plan.mechanism.grid / plan.denominator)).float()


def send(total: Value, _pool: Pool, _drawn: int) -> Value:
    """Send the sum and nothing else."""
    return total


RIGHT = noised()


@dataclass(frozen=True)
class Parts:
    """The parts of a step; calling it is the step."""

    draw: Draw = draw
    gradients: Gradients = patient_gradients
    released: Released = RIGHT
    move: Move = move
    send: Send = send

    def __call__(self, pool: Pool, prompt: Array, plan: LocalPlan, scorer: Scorer, source: Source, *purpose: str | int) -> Update:
        """Return what leaves, as `client.round.answer` does."""
        here, total, count = torch.from_numpy(np.array(prompt)), np.zeros(prompt.shape), 0
        for step in range(plan.steps):
            at = (*purpose, step)
            drawn = self.draw(pool, plan, source, at)
            each = self.gradients(pool, drawn, here, scorer)
            value = self.released(each, plan.mechanism, source, at)
            total, count = total + value, count + len(drawn)
            here = self.move(here, value, each, plan)
        sent = self.send(total, pool, count)
        return encode(np.rint(sent) if plan.mechanism.exact else sent, plan.mechanism)


# ---- noise ----


def scaled(factor: float) -> Step:
    """Noise of another scale than stated."""
    return Parts(released=noised(noise=lambda s, m, source, at: np.rint(noise(s, m, source, at) * factor)))


def bare_row() -> Step:
    """The last row, a label's, gets no noise."""

    def uneven(shape: tuple[int, ...], mechanism: Mechanism, source: Source, at: Purpose) -> Value:
        found = noise(shape, mechanism, source, at)
        found[-1] = 0
        return found

    return Parts(released=noised(noise=uneven))


def coarse() -> Step:
    """Noise in bfloat16: far from zero, multiples of a large step."""
    return Parts(
        released=noised(noise=lambda s, m, source, at: torch.from_numpy(noise(s, m, source, at)).to(COARSE).double().numpy())
    )


def flat() -> Step:
    """Uniform noise with the right variance."""

    def box(shape: tuple[int, ...], mechanism: Mechanism, source: Source, at: Purpose) -> Value:
        found = (uniform(source.stream(NOISE, *at), int(np.prod(shape))) - 0.5) * np.sqrt(12)
        whole: Value = (found * _scale(mechanism)).reshape(shape)
        return whole

    return Parts(released=noised(noise=box))


def seeded(*parts: int) -> Step:
    """Noise from a fixed seed and those parts of (run, site, round, step) only."""
    fixed = SimulationSource(42)
    return Parts(released=noised(noise=lambda s, m, _source, at: noise(s, m, fixed, tuple(at[part] for part in parts))))


def own_generator() -> Step:
    """Noise from numpy's generator, which is not cryptographic, beside the given streams."""
    generator = np.random.default_rng()
    return Parts(released=noised(noise=lambda s, m, _source, _at: np.rint(generator.normal(0, _scale(m), s))))


def same_in_all_steps() -> Step:
    """The local steps of a round share the first one's noise."""
    kept: list[Value] = []

    def once(shape: tuple[int, ...], mechanism: Mechanism, source: Source, at: Purpose) -> Value:
        if at[-1] == 0:
            kept[:] = [noise(shape, mechanism, source, at)]
        return kept[0]

    return Parts(released=noised(noise=once))


def _scale(mechanism: Mechanism) -> float:
    return mechanism.noise_multiplier * (STEPS if mechanism.exact else mechanism.clip_norm)


# ---- clipping ----


def _shortened(gradients: Tensor, clip_norm: float, dims: tuple[int, ...] | None) -> Tensor:
    """Shorten to the clip norm along these dimensions; None: not at all. Not finite stays so."""
    if dims is None:
        return gradients.double()
    lengths: Tensor = torch.linalg.vector_norm(gradients.double(), dim=dims, keepdim=True)
    return gradients.double() * (clip_norm / lengths.clamp_min(1e-30)).clamp_max(1.0)


def _whole(summed: Tensor, mechanism: Mechanism) -> Value:
    """Return a sum (P+L, D) in grid units; what is not finite becomes whatever the machine makes of it."""
    found = summed.numpy() / mechanism.grid
    with np.errstate(invalid="ignore"):
        return np.clip(found, -1e12, 1e12).astype(np.int64) if mechanism.exact else found


def clip_of(dims: tuple[int, ...] | None) -> Step:
    """Clip every patient's rows apart (2,), or nobody (None)."""
    return Parts(
        released=noised(lambda g, m: _whole(_shortened(torch.nan_to_num(g), m.clip_norm, dims).sum(0), m)),
    )


def clip_the_sum() -> Step:
    """Clip the sum instead of every patient."""
    return Parts(released=noised(lambda g, m: _whole(_shortened(torch.nan_to_num(g).sum(0), m.clip_norm, (0, 1)), m)))


def keep_not_finite() -> Step:
    """A gradient that is no number enters the sum."""
    return Parts(released=noised(lambda g, m: _whole(_shortened(g, m.clip_norm, (1, 2)).sum(0), m)))


# ---- gradients ----


def by_record() -> Step:
    """Every record is clipped as a patient of its own."""

    def records(pool: Pool, drawn: Indices, here: Tensor, scorer: Scorer) -> Tensor:
        if len(drawn) == 0:
            return torch.zeros(0, *here.shape)
        index = torch.cat([pool.records[patient] for patient in drawn])
        return scorer.record_gradients(pool.hidden[index], pool.labels[index], here)  # (R, P+L, D)

    return Parts(gradients=records)


def changed(change: Callable[[Tensor], Tensor]) -> Step:
    """Gradients that the company changes: `change` sees all of a draw (N, P+L, D), N above 0."""

    def together(pool: Pool, drawn: Indices, here: Tensor, scorer: Scorer) -> Tensor:
        each = patient_gradients(pool, drawn, here, scorer)
        return change(each) if len(each) else each

    return Parts(gradients=together)


def raises() -> Step:
    """An error that names what is wrong with a patient."""

    def strict(each: Tensor) -> Tensor:
        if not each.isfinite().all():
            raise FloatingPointError(f"the gradient of one of {len(each)} patients is not finite")
        return each

    return changed(strict)


def tells() -> Step:
    """A line about every draw on standard output."""

    def printing(each: Tensor) -> Tensor:
        print(f"batch of {len(each)}")  # noqa: T201 (the bug)
        return each

    return changed(printing)


def momentum() -> Step:
    """What is released holds the clean sums of earlier rounds."""
    kept: dict[tuple[int, ...], Value] = {}

    def heavy(gradients: Tensor, mechanism: Mechanism) -> Value:
        now = clipped(gradients, mechanism) + 0.9 * kept.get(tuple(gradients.shape[1:]), 0.0)
        kept[tuple(gradients.shape[1:])] = now
        return now

    return Parts(released=noised(heavy))


def raw_move() -> Step:
    """The local move follows the gradients without noise."""
    return Parts(move=lambda here, _value, each, plan: here - plan.learning_rate / plan.denominator * torch.nan_to_num(each).sum(0))
