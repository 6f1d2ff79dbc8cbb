"""The coordinator's algorithm as two pure functions: `init` and `apply`.

A round's updates, sums of noised gradients, are added in float64 and divided by a public constant; the quotient feeds an
optimizer step (Reddi et al. 2021, Adaptive Federated Optimization). The published prompt is the mean of the late rounds'
prompts (Polyak and Juditsky 1992). All of this only post-processes what the sites released, so it costs no privacy.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from shared.prompt import Array

Double = NDArray[np.float64]
BETA_1, BETA_2, TINY = 0.9, 0.999, 1e-8  # Adam's usual constants (Kingma and Ba 2015)


@dataclass(frozen=True)
class Rule:
    """The public numbers of the server's step.

    Attributes:
        optimizer: `sgd`, `adam` or `yogi`.
        learning_rate: step size.
        momentum: of `sgd`.
        denominator: public constant that divides the sum of all sites' updates.
        average_from: first round whose prompt enters the published mean.
    """

    optimizer: str
    learning_rate: float
    momentum: float
    denominator: float
    average_from: int


@dataclass(frozen=True)
class ServerState:
    """Everything that the next round depends on; a checkpoint is exactly this.

    `prompt`, `first`, `second` and `late_sum` are float64 of the prompt's shape (P+L, D).
    """

    round: int
    prompt: Double
    first: Double
    second: Double
    late_sum: Double
    late_count: int

    @property
    def broadcast(self) -> Array:
        """The prompt that the next round starts from, float32."""
        return self.prompt.astype(np.float32)

    @property
    def published(self) -> Array:
        """The mean of the late rounds' prompts, or the last prompt before there are any, float32."""
        return (self.late_sum / self.late_count).astype(np.float32) if self.late_count else self.broadcast


def init(prompt: Array) -> ServerState:
    """Return the state before round 1."""
    zero = np.zeros(prompt.shape)
    return ServerState(0, prompt.astype(np.float64), zero, zero, zero, 0)


def apply(state: ServerState, updates: Sequence[Double], rule: Rule) -> ServerState:
    """Return the state after one more round, whose sites sent these sums of gradients, or whose robust aggregate is this one.

    The denominator does not change when a site is missing: it is a constant, and who is there is not the prompt's business.
    """
    total = np.zeros(state.prompt.shape)
    for update in updates:
        total += update
    stepped = _step(replace(state, round=state.round + 1), total / rule.denominator, rule)
    if stepped.round < rule.average_from:
        return stepped
    return replace(stepped, late_sum=stepped.late_sum + stepped.prompt, late_count=stepped.late_count + 1)


def _step(state: ServerState, gradient: Double, rule: Rule) -> ServerState:
    if rule.optimizer == "sgd":
        first = rule.momentum * state.first + gradient
        return replace(state, first=first, prompt=state.prompt - rule.learning_rate * first)
    first = BETA_1 * state.first + (1 - BETA_1) * gradient
    if rule.optimizer == "yogi":  # Zaheer et al. 2018: the second moment moves by a step that does not depend on its size
        second = state.second - (1 - BETA_2) * np.sign(state.second - gradient**2) * gradient**2
    else:
        second = BETA_2 * state.second + (1 - BETA_2) * gradient**2
    step = (first / (1 - BETA_1**state.round)) / (np.sqrt(second / (1 - BETA_2**state.round)) + TINY)
    return replace(state, first=first, second=second, prompt=state.prompt - rule.learning_rate * step)
