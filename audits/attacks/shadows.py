"""Shadow prompts: many small trainings at once, each on its own half of some made-up patients, by the card's own law.

One batch holds the drawn patients of all shadows, each with its shadow's prompt: the prompt is per record anyway, so all
shadows cost one pass. A shadow is a federation as the card's roster has it: every site adds the full noise, so a sum holds as
many noises as there are sites; at which of them a patient is makes no difference to it. The optimizer is the card's, with its
mean of late rounds.
Letters in shape comments: S shadows, N patients, R drawn records of all shadows, P prompt rows, L labels, D hidden size.
"""

import secrets
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from audits.attacks.view import without_noise
from audits.subject import Subject
from client.round import Pool
from shared.plan import PlanTable
from shared.privacy.mechanism import Mechanism, release
from shared.privacy.noise import MOST_TABLED
from shared.privacy.sampling import Indices, poisson
from shared.privacy.source import KeyStream, SecureStream, Stream
from shared.scoring import Scorer

BETAS, TINY = (0.9, 0.999), 1e-8  # Adam's usual constants, as at the coordinator
BATCH = 256


@dataclass(frozen=True)
class Shadows:
    """What S trainings released: prompts (S, P+L, D), and who was in each (S, N)."""

    prompts: Tensor
    inside: NDArray[np.bool_]


def train(subject: Subject, patients: Pool, inside: NDArray[np.bool_], rounds: int, noisy: bool) -> Shadows:
    """Train one shadow a row of `inside`, from the run's first prompt.

    Args:
        subject: card, scorer and first prompt.
        patients: with one record each.
        inside: (S, N).
        rounds: releases of every site.
        noisy: with the card's noise, or with none.

    A site that took several local steps a round is played as one that sends each of them.
    """
    mechanism = subject.mechanism if noisy else without_noise(subject.mechanism)
    start = torch.from_numpy(np.array(subject.prompts[0]))
    prompts = torch.nn.Parameter(start.repeat(len(inside), 1, 1))  # (S, P+L, D)
    optimizer = _optimizer(prompts, subject.task.card.plan)
    denominator = mechanism.sample_rate * patients.patients / 2  # a public constant: half of them, at the public rate
    sites = len(subject.task.card.plan.sites)
    late = max(1, round(subject.task.card.plan.average_last * rounds))
    mean = torch.zeros_like(start).repeat(len(inside), 1, 1)
    for number in range(rounds):
        drawn = [np.flatnonzero(row)[poisson(int(row.sum()), mechanism.sample_rate, _stream(0.0))] for row in inside]
        each = _gradients(subject.scorer, patients, drawn, prompts.detach())
        prompts.grad = torch.stack([_summed(mine, mechanism, sites) for mine in each]) / denominator
        optimizer.step()
        if number >= rounds - late:
            mean += prompts.detach() / late
    return Shadows(mean, inside)


def _optimizer(prompts: torch.nn.Parameter, plan: PlanTable) -> torch.optim.Optimizer:
    if plan.optimizer == "sgd":
        return torch.optim.SGD([prompts], lr=plan.learning_rate, momentum=plan.momentum)
    return torch.optim.Adam([prompts], lr=plan.learning_rate, betas=BETAS, eps=TINY)


def _summed(gradients: Tensor, mechanism: Mechanism, sites: int) -> Tensor:
    """Return the sum of all sites' releases (P+L, D): the gradients (N, P+L, D) once, the noise of every site."""
    scale = mechanism.noise_std / mechanism.grid
    nobody = gradients[:0]
    noised = [release(gradients if site == 0 else nobody, mechanism, _stream(scale)) for site in range(sites)]
    return torch.from_numpy(sum(one.value * one.grid for one in noised)).float()


def _gradients(scorer: Scorer, patients: Pool, drawn: Sequence[Indices], prompts: Tensor) -> Sequence[Tensor]:
    """Return the gradients of each shadow's drawn patients at that shadow's prompt, S of (N, P+L, D)."""
    sizes = [len(d) for d in drawn]
    index = torch.cat(list(patients.records))[torch.from_numpy(np.concatenate(drawn))]  # (R,)
    whose = torch.repeat_interleave(torch.arange(len(drawn)), torch.tensor(sizes))  # (R,)
    found = [torch.zeros(0, *prompts.shape[1:])]
    for piece in torch.split(torch.arange(len(index)), BATCH) if len(index) else ():
        own = prompts[whose[piece]].clone().requires_grad_()  # (b, P+L, D)
        logits = scorer.logits(patients.hidden[index[piece]], own)  # (b, L)
        loss = functional.cross_entropy(logits, patients.labels[index[piece]], reduction="sum")
        found.append(torch.autograd.grad(loss, own)[0])
    return torch.split(torch.cat(found), sizes)


def _stream(scale: float) -> Stream:
    """Return a stream under a new key of the system; the table of `privacy.noise`, where it can be made, is fifty times faster."""
    key = secrets.token_bytes(32)
    return KeyStream(key) if scale <= MOST_TABLED else SecureStream(key)
