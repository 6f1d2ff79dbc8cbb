"""Membership by a whole run's transcript: was this patient among those from whom a site trained?

Round by round the attacker computes the candidate's gradient at the broadcast prompt and reads the site's update for it
(`decoding`); a member is drawn with the public rate, so the rounds' likelihood ratios are added up as
``log(1 - q + q exp(LLR_t))``: the score of the best attacker of orthogonal canaries (privacy.md §4.3), with the other candidates
as background. The ceiling is that of all releases that were looked at.

It runs on made-up sites that answer the run's own prompts, and, where somebody may look at real patients, on what a site of the
run truly sent. The other members of that site whom the attacker does not know are background, of the same law as those known.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from audits.attacks.ceiling import ceiling_of
from audits.attacks.decoding import Background
from audits.attacks.judge import Scored, Trial, section, tell_apart
from audits.attacks.scenes import Roaming, Sizes, Truth, in_control, member_scores, of_members
from audits.attacks.view import Numbers, answered, clipped_gradients, noise_of, some
from audits.section import Section
from audits.subject import Subject
from client.round import Pool
from shared.prompt import Array

TITLE = "Can a whole run tell who took part?"
CLAIM = "All updates of a site together do not tell who trained there better than epsilon allows"
ENOUGH, ENOUGH_OF_SOME = 0.9, 0.7  # the control's least AUC: all members known; only some known, the others unknown noise
CAVEATS = (
    "Where a hospital's members were chosen by a split of fixed size, being one and not being one differ by two patients (another "
    "took the place), and the ceiling, which is for one patient more or less, could be passed by a hair without a fault.",
)


@dataclass(frozen=True)
class Seen:
    """A site of the run and patients of whom the truth is known.

    Attributes:
        updates: what the site sent in each round, decoded, (T, P+L, D); T prompts are the subject's.
        members: its training patients.
        nonmembers: patients of the same population that it did not train from.
        prompts: where its gradients were taken in each round, T of (P+L, D), if not at the broadcast
            prompts: a site's own, as anyone can compute them (`client.personal.points`).
    """

    updates: Numbers
    members: Pool
    nonmembers: Pool
    prompts: tuple[Array, ...] = ()


def attack(subject: Subject, scene: Roaming, cohorts: Mapping[str, Seen] | None, sizes: Sizes, seed: int) -> Section:
    """Look for members of made-up sites, and of the run's own where their patients are given."""
    trials = [_shadow(subject, scene)]
    both = {name: seen for name, seen in (cohorts or {}).items() if seen.members.patients and seen.nonmembers.patients}
    if both:
        trials.append(_own(subject, both, sizes, seed))
    facts = {"rounds": scene.rounds, "sites_looked_at": sorted(both)}
    return section(TITLE, trials, facts, caveats=CAVEATS if both else ())


def _shadow(subject: Subject, scene: Roaming) -> Trial:
    truth = np.arange(len(scene.scores))[:, None] == scene.home  # (S, K)
    return tell_apart(
        "Who took part, whole run, made-up sites",
        CLAIM,
        _scored(scene.scores, truth),
        _scored(scene.control, truth),
        ceiling_of([subject.mechanism.spends] * (scene.rounds * subject.plan.steps)),
        ENOUGH,
        "made-up patients at made-up sites that answer the run's prompts; the attacker knows every candidate's record",
    )


def _own(subject: Subject, cohorts: Mapping[str, Seen], sizes: Sizes, seed: int) -> Trial:
    public = np.random.default_rng(seed)
    looked_at = _looked_at(subject, sizes)
    sites = [_site(subject, seen, looked_at, sizes.cohort, public) for seen in cohorts.values()]
    scores, control, truth = (np.concatenate(parts) for parts in zip(*sites, strict=True))
    return tell_apart(
        "Who took part, whole run, the run's own patients",
        CLAIM,
        Scored(scores, truth.astype(bool)),
        Scored(control, truth.astype(bool)),
        ceiling_of([subject.mechanism.spends] * (len(looked_at) * subject.plan.steps)),
        ENOUGH_OF_SOME,
        "the figures are made from real patients: they stay with whoever may see those; one run of noise",
    )


def _looked_at(subject: Subject, sizes: Sizes) -> list[int]:
    """Return the rounds, from 0, that the attacker looks at."""
    last = len(subject.prompts) - 1
    return np.unique(np.linspace(0, last, min(last + 1, sizes.rounds)).round().astype(int)).tolist()  # type: ignore[no-any-return]


def _site(
    subject: Subject, seen: Seen, looked_at: list[int], most: int, public: np.random.Generator
) -> tuple[Numbers, Numbers, Numbers]:
    """Return scores (K,), the control's scores (K,) and the truth (K,), 1 for members, of one site's candidates."""
    members, others = (_sample(patients, most, public) for patients in (seen.members, seen.nonmembers))
    truth = np.repeat([1.0, 0.0], [members.patients, others.patients])
    background = of_members(subject, np.full(len(truth), truth.mean()))
    unknown = seen.members.patients / members.patients - 1  # members whom the attacker does not know, for each that is known
    scores, control = np.zeros((2, len(truth)))
    for place, number in enumerate(looked_at):
        prompt = (seen.prompts or subject.prompts)[number]
        gradients = np.concatenate([clipped_gradients(subject, part, prompt) for part in (members, others)])  # (K, d)
        scores += _heard(subject, gradients, seen.updates[number].ravel(), background, unknown, True)
        if in_control(place, len(looked_at)):
            clean = answered(subject, seen.members, prompt, False)
            control += _heard(subject, gradients, clean, background, unknown, False)
    return scores, control, truth


def _heard(subject: Subject, gradients: Numbers, update: Numbers, background: Background, unknown: float, noisy: bool) -> Numbers:
    """Return the candidates' scores (K,) of one round's update (d,), in which the unknown members are noise of a known mean."""
    beside = unknown * background.mean @ gradients  # (d,)
    hidden = unknown * float(background.variance @ (gradients**2).sum(1)) / gradients.shape[1]  # its variance a coordinate
    noise = float(np.hypot(noise_of(subject, noisy, subject.plan.steps), np.sqrt(hidden)))
    return np.asarray(member_scores(subject, gradients, (update - beside)[None], background, noise)[0])


def _sample(pool: Pool, most: int, public: np.random.Generator) -> Pool:
    if pool.patients <= most:
        return pool
    return some(pool, np.sort(public.choice(pool.patients, most, replace=False)))


def _scored(scores: Numbers, truth: Truth) -> Scored:
    return Scored(scores.ravel(), truth.ravel())
