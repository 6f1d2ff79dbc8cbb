"""The scenes in which attacks are tried, with made-up patients only: a draw, a patient alone, several sites over a run.

Who is where is decided by public coins, so that a scene can be repeated; the noise, and the draws inside a site, come from the
system's randomness and cannot. Letters in shape comments: K candidates, U releases, S sites, T rounds, d coordinates.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from audits.attacks.decoding import Background, drawn_at_rate, log_likelihood_ratios
from audits.attacks.view import Numbers, answered, clipped_gradients, noise_of, one_release, some, spread
from audits.subject import Subject, made_up, made_up_pool
from client.records import Cohort
from client.round import Pool, pool
from shared.prompt import Array

Truth = NDArray[np.bool_]


@dataclass(frozen=True)
class Sizes:
    """How much is tried.

    Attributes:
        candidates: of the gallery.
        draws: releases with noise that the gallery is compared with.
        control_draws: the same without noise.
        targets: patients of whom one label or value is guessed.
        repeats: releases of each of them.
        roamers: patients who are each at one of the sites.
        rounds: most rounds of a run that an attacker looks at.
        cohort: most members, and most others, of a site whose own patients are looked for.
        shadows: prompts that are trained.
        shadow_patients: of whom each shadow has about half.
    """

    candidates: int = 160
    draws: int = 24
    control_draws: int = 6
    targets: int = 40
    repeats: int = 3
    roamers: int = 64
    rounds: int = 40
    cohort: int = 16
    shadows: int = 16
    shadow_patients: int = 32


THOROUGH = Sizes(
    draws=240, control_draws=24, targets=200, repeats=10, roamers=400, rounds=1000, cohort=1000, shadows=64, shadow_patients=120
)


def distinct(subject: Subject, count: int, seed: int) -> Pool:
    """Return up to `count` made-up patients of whom no two have the same text; no two images of noise are alike.

    Twins cannot be told apart by anybody; nor, of two labels, can the same text with either: their gradients are parallel.
    """
    if subject.task.card.template is None:
        return made_up_pool(subject, count, seed)
    drawn = made_up(subject.task, 4 * count, seed)
    found = dict(zip(reversed(drawn.texts), reversed(drawn.labels), strict=True))
    texts = list(dict.fromkeys(drawn.texts))[:count]
    return pool_of(subject, texts, [found[text] for text in texts])


def pool_of(subject: Subject, texts: Sequence[str], labels: Sequence[int]) -> Pool:
    """Return patients with one record each, in memory."""
    return pool(Cohort(tuple(texts), tuple(labels), tuple(range(len(texts))), len(texts)), subject.scorer)


@dataclass(frozen=True)
class Draws:
    """Releases at one prompt: who was drawn (U, K), and what left (U, d); the candidates' gradients (K, d)."""

    gradients: Numbers
    drawn: Truth
    updates: Numbers
    control_drawn: Truth
    control: Numbers


def draw(subject: Subject, gallery: Pool, sizes: Sizes, seed: int) -> list[Draws]:
    """Return releases of patients drawn from a gallery at the card's rate, at up to three prompts of the run."""
    prompts = spread(subject.prompts, 3)
    public = np.random.default_rng(seed)
    return [_draw(subject, gallery, prompt, _shares(sizes, len(prompts)), public) for prompt in prompts]


def _draw(subject: Subject, gallery: Pool, prompt: Array, counts: tuple[int, int], public: np.random.Generator) -> Draws:
    coins = [public.random((count, gallery.patients)) < subject.mechanism.sample_rate for count in counts]
    seen = [
        np.array([one_release(subject, some(gallery, row), prompt, noisy) for row in rows])
        for rows, noisy in zip(coins, (True, False), strict=True)
    ]
    return Draws(clipped_gradients(subject, gallery, prompt), coins[0], seen[0], coins[1], seen[1])


def _shares(sizes: Sizes, prompts: int) -> tuple[int, int]:
    return -(-sizes.draws // prompts), -(-sizes.control_draws // prompts)


@dataclass(frozen=True)
class Roaming:
    """Candidates who are each at one of S sites over T rounds: home (K,), and each one's score of being at each site (S, K)."""

    home: NDArray[np.int64]
    scores: Numbers
    control: Numbers
    rounds: int


def roam(subject: Subject, sizes: Sizes, seed: int) -> Roaming:
    """Play the run's prompts to made-up sites, at most four, and score every candidate at every site."""
    sites = min(max(len(subject.task.card.plan.sites), 2), 4)
    candidates = distinct(subject, sizes.roamers, seed)
    home = np.random.default_rng(seed).integers(sites, size=candidates.patients)
    prompts = spread(subject.prompts, sizes.rounds)
    background = of_members(subject, np.full(candidates.patients, 1 / sites))
    at_home = [some(candidates, home == site) for site in range(sites)]
    scores, control = np.zeros((2, sites, candidates.patients))
    for number, prompt in enumerate(prompts):
        gradients = clipped_gradients(subject, candidates, prompt)  # (K, d)
        scores += _heard(subject, at_home, prompt, gradients, background, True)
        if in_control(number, len(prompts)):
            control += _heard(subject, at_home, prompt, gradients, background, False)
    return Roaming(home, scores, control, len(prompts))


def in_control(number: int, rounds: int) -> bool:
    """Return whether the control looks at this round, from 0: eight or a few more are enough, as nothing hides a patient."""
    return number % max(1, rounds // 8) == 0


def _heard(
    subject: Subject, at_home: Sequence[Pool], prompt: Array, gradients: Numbers, background: Background, noisy: bool
) -> Numbers:
    """Return the scores (S, K) of one round of all sites."""
    updates = np.array([answered(subject, patients, prompt, noisy) for patients in at_home])  # (S, d)
    return member_scores(subject, gradients, updates, background, noise_of(subject, noisy, subject.plan.steps))


def of_members(subject: Subject, belonging: Numbers) -> Background:
    """Return what an attacker believes who holds each candidate (K,) for a member with these chances."""
    steps, rate = subject.plan.steps, subject.mechanism.sample_rate
    mean = steps * rate * belonging
    return Background(mean, np.maximum(mean * (1 - rate * belonging), 1e-3))


def member_scores(subject: Subject, gradients: Numbers, updates: Numbers, background: Background, noise: float) -> Numbers:
    """Return each candidate's log-likelihood ratio of being a member, from one round's updates of U sites, (U, K)."""
    once = 1 - (1 - subject.mechanism.sample_rate) ** subject.plan.steps  # drawn in some step
    return drawn_at_rate(log_likelihood_ratios(gradients, updates, noise, background), once)


def clusters(rows: Sequence[NDArray[np.bool_]]) -> NDArray[np.int64]:
    """Return the cluster of every entry of several tables (rows, K): the entries of one row saw the same noise."""
    counts = [row.shape for row in rows]
    start = np.cumsum([0, *(count for count, _ in counts)])
    return np.concatenate([np.repeat(np.arange(n) + first, k) for (n, k), first in zip(counts, start, strict=False)])
