"""The cases of neighbour replay: made-up patients whose last one is special, with known gradients or on the card's model."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from audits.recorded import known, known_pool, last
from audits.subject import Subject, made_up_cohort
from client.records import Cohort
from client.round import Pool, pool
from shared.scoring import Scorer

MANY = 300
NO_NUMBER = (float("nan"), float("inf"), -float("inf"))


@dataclass(frozen=True)
class Case:
    """A pool, to be replayed with and without its last patient.

    Attributes:
        name: what is special about that patient.
        pool: with the patient.
        scorer: known gradients, or the card's model.
        rate: of the draw.
        rounds: which rounds are replayed.
    """

    name: str
    pool: Pool
    scorer: Scorer
    rate: float = 1.0
    rounds: tuple[int, ...] = (1,)


def cases(subject: Subject, seed: int) -> Iterator[Case]:
    """Yield all cases: with known gradients, then with the card's model."""
    yield from _known_cases(subject, seed)
    yield from _model_cases(subject, seed)


def _known_cases(subject: Subject, seed: int) -> Iterator[Case]:
    clip, shape = subject.mechanism.clip_norm, subject.scorer.shape.shape
    public = torch.Generator().manual_seed(seed)  # made-up gradients, no noise
    some = _unit(torch.randn(13, *shape, generator=public))  # (13, P+L, D), dense
    lengths = torch.linspace(0.05, 3, 12).view(-1, 1, 1)
    others = clip * lengths * some[:12]
    spread = torch.full(shape, clip)  # every row is as long as the clip norm, or longer
    lasts = {
        "long": 3 * clip * some[12],
        "short": 0.1 * clip * some[12],
        "all rows at once": spread,
        "a twin of another": others[-1],
        "against all others": -1e6 * others.sum(0),
        "huge": torch.full(shape, 1e30),
        **{f"all {bad}": torch.full(shape, bad) for bad in NO_NUMBER},
        **{f"one {bad}": _with(others[0], bad) for bad in NO_NUMBER},
    }
    for name, gradient in lasts.items():
        yield Case(name, known_pool(list(range(13))), known(subject.scorer, torch.cat([others, gradient[None]])))
    records = torch.cat([others[:3], (2 * clip * some[12]).expand(5, *shape)])
    yield Case("five equal records", known_pool([0, 1, 2, 3, 3, 3, 3, 3]), known(subject.scorer, records))
    yield from coins(subject)


def coins(subject: Subject) -> Iterator[Case]:
    """Yield cases at the card's own rate: 0, 1, 2, … others, several rounds, so that the patient is in and out."""
    rate, shape = subject.mechanism.sample_rate, subject.scorer.shape.shape
    count = shape[0] * shape[1]
    for patients in (*range(1, 8), 12, MANY):
        index = torch.arange(patients) % count
        gradients = torch.zeros(patients, count)
        gradients[torch.arange(patients), index] = 0.9 * subject.mechanism.clip_norm
        scorer = known(subject.scorer, gradients.view(patients, *shape))
        name = f"added to {patients - 1} at the card's rate"
        yield Case(name, known_pool(list(range(patients))), scorer, rate, tuple(range(1, 5)))


def _model_cases(subject: Subject, seed: int) -> Iterator[Case]:
    records = max(2, subject.task.card.privacy.max_records)
    cohort = made_up_cohort(subject, 3, seed, records)
    own = pool(cohort, subject.scorer)
    sick = replace(own, hidden=replace(own.hidden, states=own.hidden.states.clone()))
    sick.hidden.states[-1] = float("nan")
    yield Case("alone, on the card's model", last(own), subject.scorer)
    yield Case("several records, on the card's model", own, subject.scorer)
    if cohort.texts:  # images have one size
        long = pool(_longer(cohort, _room(subject, int(own.hidden.mask[-1].sum()))), subject.scorer)
        yield Case("a record up to ten times as long", long, subject.scorer)
    yield Case("states that are not finite", sick, subject.scorer)


def _longer(cohort: Cohort, times: int) -> Cohort:
    return replace(cohort, texts=(*cohort.texts[:-1], " ".join([cohort.texts[-1]] * times)))


def _room(subject: Subject, tokens: int) -> int:
    """Return how many times, ten at most, a record of so many tokens fits into the backbone, prompt rows included."""
    positions = int(subject.scorer.backbone.model.config.max_position_embeddings) - subject.scorer.positions - 2
    return max(1, min(10, positions // tokens))


def _unit(gradients: Tensor) -> Tensor:
    lengths: Tensor = torch.linalg.vector_norm(gradients.flatten(1), dim=1)  # (N,)
    return gradients / lengths.view(-1, 1, 1)  # (N, P+L, D)


def _with(gradient: Tensor, number: float) -> Tensor:
    changed = gradient.clone()
    changed[-1, -1] = number
    return changed
