"""The mystery site: a hospital whose patients are canaries, answered for by the same private step, ledger and gate as any other.

Each canary among its patients has a gradient in a direction of its own, `LENGTH` times as long as the clip norm, so that the
step's own clipping makes it one clip norm. No model and no patient is there. Who is drawn follows from the canary file, so that
the auditor can recompute it; the noise is the system's, which nobody can. Coins stay here: `client.round.answer` sees a pool
that holds the canaries that are in, and nothing of those that are not.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from client.round import LocalPlan, Pool, answer
from shared.backbone import Hidden
from shared.canaries import Canaries
from shared.privacy.mechanism import Update
from shared.privacy.sampling import poisson
from shared.privacy.source import SecureSource, Source, Stream
from shared.prompt import Array, PromptShape

LENGTH = 4.0  # of a canary's gradient before clipping, in clip norms


@dataclass(frozen=True)
class CanaryScorer:
    """Stands where a hospital has model and prompt: gradients are looked up, whatever the prompt is."""

    shape: PromptShape
    length: float

    def record_gradients(self, hidden: Hidden, labels: Tensor, prompt: Tensor) -> Tensor:
        """Return each canary's gradient (B, P+L, D); a label (B,) is the coordinate, from 1, with the direction's sign."""
        flat = torch.zeros(len(labels), prompt.numel())  # (B, d)
        flat[torch.arange(len(labels)), labels.abs() - 1] = self.length * labels.sign().float()
        return flat.view(-1, *prompt.shape)


@dataclass(frozen=True)
class MysterySource:
    """Draws from the canary file, everything else from the system: nothing in a file can foretell noise."""

    canaries: Canaries
    system: Source = field(default_factory=SecureSource)

    def stream(self, *purpose: str | int) -> Stream:
        """Return the stream of this purpose."""
        return self.canaries.stream(*purpose) if purpose[0] == "draw" else self.system.stream(*purpose)


def canary_scorer(canaries: Canaries, clip_norm: float) -> CanaryScorer:
    """Return what stands in for the model."""
    return CanaryScorer(PromptShape(canaries.table.rows, 0, canaries.table.dim), LENGTH * clip_norm)


def canary_pool(canaries: Canaries, round_: int, rounds: int) -> Pool:
    """Return the canaries that are among the site's patients in a round, as a pool of one record each."""
    inside = canaries.inside(round_, rounds)
    labels = torch.from_numpy((canaries.coordinates[inside] + 1) * canaries.signs[inside])  # (N,)
    nothing = Hidden(torch.zeros(len(inside), 1, 1), torch.ones(len(inside), 1, dtype=torch.bool))
    return Pool(nothing, labels, tuple(torch.tensor([i]) for i in range(len(inside))))


def canary_step(canaries: Canaries, rounds: int, step: Callable[..., Update] = answer) -> Callable[..., Update]:
    """Return the private step of a mystery site: `step` on the pool of the round's segment.

    Args:
        canaries: of the site.
        rounds: of the plan.
        step: `client.round.answer`, or one that is put to the test.
    """

    def answered(_pool: Pool, prompt: Array, plan: LocalPlan, scorer: CanaryScorer, source: Source, *purpose: str | int) -> Update:
        return step(canary_pool(canaries, int(purpose[-1]), rounds), prompt, plan, scorer, source, *purpose)

    return answered


def times_drawn(canaries: Canaries, plan: LocalPlan, rounds: int, *purpose: str | int) -> NDArray[np.int64]:
    """Return how many of a round's steps each canary was in, (count,): what the site did, recomputed from the file.

    Args:
        canaries: of the site.
        plan: gives rate and steps.
        rounds: of the plan.
        purpose: as of `client.round.answer`, ``(run, site, round)``.
    """
    inside = canaries.inside(int(purpose[-1]), rounds)
    times = np.zeros(canaries.count, dtype=np.int64)
    for step in range(plan.steps):
        drawn = poisson(len(inside), plan.mechanism.sample_rate, canaries.stream("draw", *purpose, step))
        times[inside[drawn]] += 1
    return times
