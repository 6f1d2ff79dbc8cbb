"""What an auditor puts in place of a hospital's randomness and model: streams that are written down, gradients that are known.

Made-up patients only: a recorded stream is reproducible and protects nobody.
"""

import secrets
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from client.round import Pool
from shared.backbone import Hidden
from shared.privacy.source import KeyStream, SecureSource, SimulationSource, Stream, Words
from shared.scoring import Scorer

DRAW, NOISE = "draw", "noise"  # the first words of the two purposes for which `client.round.answer` asks for a stream

Purpose = tuple[str | int, ...]


@dataclass(frozen=True)
class Asked:
    """One stream that was asked for: its purpose, and how many words each call took of it."""

    purpose: Purpose
    words: list[int] = field(default_factory=list)


@dataclass(frozen=True)
class Counted:
    """A stream that writes down how many words are taken."""

    inner: Stream
    asked: Asked

    def words(self, count: int) -> Words:
        """Return the next words."""
        self.asked.words.append(count)
        return self.inner.words(count)


@dataclass(frozen=True)
class Recorded(SimulationSource):
    """A seeded source that writes down every stream that is asked for.

    Attributes:
        real: first words of purposes whose streams are the operating system's, as at a hospital; nobody can replay those.
        asked: what was asked for, in order.
    """

    name: str = "recorded for an audit"
    real: tuple[str, ...] = ()
    asked: list[Asked] = field(default_factory=list)

    def stream(self, *purpose: str | int) -> Stream:
        """Return the stream of this purpose."""
        asked = Asked(purpose)
        self.asked.append(asked)
        if purpose[0] in self.real:
            return SecureSource().stream(*purpose)
        return Counted(super().stream(*purpose), asked)


@dataclass(frozen=True)
class Quick(SimulationSource):
    """New keys of the operating system, as at a hospital, and noise from the simulations' table: the exact sampler is slow."""

    seed: int = 0
    name: str = "quick"

    def stream(self, *purpose: str | int) -> Stream:
        """Return a stream that nobody can reproduce."""
        return KeyStream(secrets.token_bytes(32))


@dataclass(frozen=True)
class Known(Scorer):
    """A scorer that knows the gradient of every record, whatever the prompt: no model is asked and nothing is rounded.

    `gradients` is (R, P+L, D); the record's number stands in its hidden state.
    """

    gradients: Tensor = field(default_factory=lambda: torch.zeros(0))

    def record_gradients(self, hidden: Hidden, labels: Tensor, prompt: Tensor, batch: int = 128) -> Tensor:
        """Return the known gradients of these records (B, P+L, D)."""
        return self.gradients[hidden.states[:, 0, 0].long()]


@dataclass(frozen=True)
class Watched(Scorer):
    """A scorer that keeps every prompt (P+L, D) at which it was asked for gradients."""

    prompts: list[Tensor] = field(default_factory=list)

    def record_gradients(self, hidden: Hidden, labels: Tensor, prompt: Tensor, batch: int = 128) -> Tensor:
        """Return the gradients of these records (B, P+L, D)."""
        self.prompts.append(prompt.detach().clone())
        return super().record_gradients(hidden, labels, prompt, batch)


def known(scorer: Scorer, gradients: Tensor) -> Known:
    """Return a scorer of the same shape with these gradients (R, P+L, D)."""
    return Known(**_fields(scorer), gradients=gradients)


def watched(scorer: Scorer) -> Watched:
    """Return the same scorer, watched."""
    return Watched(**_fields(scorer))


def _fields(scorer: Scorer) -> dict[str, Any]:
    return {name: getattr(scorer, name) for name in Scorer.__dataclass_fields__}


def known_pool(owners: list[int]) -> Pool:
    """Return patients for a `Known` scorer; record r belongs to patient ``owners[r]``, and labels 0 and 1 take turns."""
    numbers = torch.arange(len(owners))
    hidden = Hidden(numbers.float().view(-1, 1, 1), torch.ones(len(owners), 1, dtype=torch.long))
    of = torch.tensor(owners, dtype=torch.long)
    patients = max(owners, default=-1) + 1
    return Pool(hidden, torch.tensor([owner % 2 for owner in owners], dtype=torch.long), _records(of, patients))


def first(pool: Pool, patients: int) -> Pool:
    """Return the first patients of a pool whose records stand in the order of their patients, and nothing of the others."""
    kept = pool.records[:patients]
    count = sum(len(records) for records in kept)
    hidden = Hidden(pool.hidden.states[:count], pool.hidden.mask[:count])
    return Pool(hidden, pool.labels[:count], kept)


def last(pool: Pool) -> Pool:
    """Return the last patient of such a pool alone."""
    count = len(pool.records[-1])
    hidden = Hidden(pool.hidden.states[-count:], pool.hidden.mask[-count:])
    return Pool(hidden, pool.labels[-count:], (torch.arange(count),))


def _records(owners: Tensor, patients: int) -> tuple[Tensor, ...]:
    return tuple(torch.nonzero(owners == patient).flatten() for patient in range(patients))
