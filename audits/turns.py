"""Layers L1 and L2 of a card with bands: the turns of `client.round.answer_in_turn`, on made-up patients with known gradients.

What leaves in a turn is put together again into the noised sum that it was made of (`shared.privacy.banded.restored`), on which
the theorem speaks: one patient is in the sums of its own blocks only, by a vector no longer than the clip norm; every sum has
noise of its own; and in a turn the patients of one group are drawn, independently, at the card's rate.

Letters in shape comments: T turns, N patients, K numbers of the prompt.
"""

import math
import secrets
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray

from audits.recorded import DRAW, NOISE, Recorded, known, known_pool
from audits.section import Section, Verdict, section_of
from audits.statistics import LEVEL, examine_draws, examine_noise, shared_stream
from audits.subject import SITE, Subject
from client.round import Pool
from shared.privacy.banded import fresh, restored
from shared.privacy.clip import STEPS
from shared.privacy.mechanism import Mechanism
from shared.scoring import Scorer

TITLE = "Do rounds share noise as the card says, and nothing else?"
RUN = "turns"
OTHERS = 9  # patients beside the one that comes and goes
TINY = 1e-3  # noise multiplier of the test of draws
COINS = 1200  # drawn patients of a group that the test of draws needs

Numbers = NDArray[np.float64]


def turns(subject: Subject) -> Section:
    """Put the subject's turns to the test, with patients made up anew every time."""
    seed, bands = secrets.randbelow(2**31), subject.mechanism.bands
    moved = [_moved(subject, group, seed) for group in range(bands)]
    verdicts = [_bounded(subject, moved), *_noise(subject, seed), _draws(subject)]
    return section_of(TITLE, verdicts, facts={"seed": seed, "bands": bands})


def _taken(subject: Subject, patients: Pool, scorer: Scorer, mechanism: Mechanism, source: Recorded, count: int) -> Numbers:
    """Return what leaves in so many turns of a run, in grid steps (T, K)."""
    plan, prompt = replace(subject.plan, mechanism=mechanism), subject.prompts[0]
    carry, left = fresh(mechanism.bands, prompt.size), []
    for turn in range(count):
        update, carry = subject.turn(patients, prompt, plan, scorer, source, carry, RUN, SITE, turn + 1)
        left.append(update.ravel().astype(np.float64))
    return np.stack(left)


def _whole(left: Numbers, bands: int) -> Numbers:
    """Return the noised sums (T, K) that releases (T, K) were made of, up to a grid step or two."""
    return np.stack([restored(list(left[turn::-1][:bands]), bands) for turn in range(len(left))])


def _keyed(patients: int, keys: list[int]) -> Pool:
    return replace(known_pool(list(range(patients))), keys=np.array(keys, dtype=np.uint64))


def _moved(subject: Subject, group: int, seed: int) -> Numbers:
    """Return by how many clip norms one patient of a group moves each turn's sum (T, K), everybody being in at rate 1."""
    bands, shape = subject.mechanism.bands, subject.scorer.shape.shape
    surely, count = replace(subject.mechanism, sample_rate=1 / bands), 3 * bands + 1
    public = np.random.default_rng([seed, group])
    gradients = torch.from_numpy(public.standard_normal((OTHERS + 1, *shape))).float()
    keys = [group, *(int(key) for key in public.integers(2**32, size=OTHERS))]
    runs = []
    for first in (0, 1):  # with the patient, who comes first of all, and without: nobody else's turn may change
        scorer = known(subject.scorer, gradients[first:] * 9 * subject.mechanism.clip_norm)
        patients = _keyed(OTHERS + 1 - first, keys[first:])
        runs.append(_whole(_taken(subject, patients, scorer, surely, Recorded(seed), count), bands))
    return (runs[0] - runs[1]) / STEPS


def _bounded(subject: Subject, moved: list[Numbers]) -> Verdict:
    bands = subject.mechanism.bands
    blocks = [float(np.linalg.norm(of[at : at + bands])) for group, of in enumerate(moved) for at in range(group, len(of), bands)]
    before = max((float(np.linalg.norm(of[:group])) for group, of in enumerate(moved) if group), default=0.0)
    rounding = 4 * math.sqrt(bands * moved[0].shape[1]) / STEPS  # two roundings a turn, with and without
    return Verdict(
        "L1",
        "One patient moves a block of turns by at most the clip norm, and none before its group's turn",
        f"at most {max(blocks):.4f} clip norms in {len(blocks)} blocks, {before:.2g} before",
        f"{1 + rounding:.4f} and {rounding:.2g}",
        max(blocks) <= 1 + rounding and before <= rounding,
        "The gradients are made up; what leaves is rounded to the grid.",
    )


def _noise(subject: Subject, seed: int) -> list[Verdict]:
    """Look at the noise of a run without patients: all that leaves."""
    mechanism, count = subject.mechanism, 3 * subject.mechanism.bands + 1
    nobody, scorer = _keyed(0, []), known(subject.scorer, torch.zeros(0, *subject.scorer.shape.shape))
    left = _taken(subject, nobody, scorer, mechanism, Recorded(seed, real=(NOISE,)), count)  # (T, K)
    whole, scale = _whole(left, mechanism.bands), mechanism.noise_multiplier * STEPS
    p_noise = examine_noise(np.rint(whole).astype(np.int64), scale).p_value
    p_shared = shared_stream(whole) if (whole.std(1) > 0).all() else 0.0
    return [
        Verdict(
            "L2",
            "Put together again, every turn has noise of the stated scale and law",
            f"{whole.std() / scale:.4f} of the stated scale; p-value {p_noise:.2g} over {count} turns",
            f"p-value {LEVEL:g}",
            p_noise >= LEVEL,
            "Of ten thousand right implementations one is accused.",
        ),
        Verdict(
            "L2",
            "Put together again, no two turns have noise in common",
            f"p-value {p_shared:.2g} over all pairs of {count} turns, at every rotation",
            f"p-value {LEVEL:g}",
            p_shared >= LEVEL,
            "A common part of less than a tenth of the variance is not seen.",
        ),
    ]


def _draws(subject: Subject) -> Verdict:
    """Read who was in off what leaves, when every patient has a direction of its own and the noise is tiny."""
    mechanism, shape = subject.mechanism, subject.scorer.shape.shape
    bands, rate = mechanism.bands, mechanism.draw_rate
    patients = min(math.prod(shape), 100 * bands)
    rounds = max(10, math.ceil(COINS * bands / rate / patients))
    scorer = known(subject.scorer, (torch.eye(patients, math.prod(shape)) * 2 * mechanism.clip_norm).view(patients, *shape))
    tiny = replace(mechanism, noise_multiplier=TINY)
    left = _taken(subject, _keyed(patients, list(range(patients))), scorer, tiny, Recorded(0, real=(DRAW,)), rounds * bands)
    drawn = left[:, :patients] / STEPS > 0.5  # (T, N)
    mine = (np.arange(patients) % bands) == (np.arange(len(drawn)) % bands)[:, None]
    strays = int((drawn & ~mine).sum())
    if rate == 1:
        p_value = float((drawn | ~mine).all())
    else:
        p_value = min(1.0, bands * min(examine_draws(drawn[group::bands, group::bands], rate).p_value for group in range(bands)))
    return Verdict(
        "L2",
        "In a turn only its group is drawn, independently and at the card's rate",
        f"{strays} drawn in others' turns, p-value {p_value:.2g} over {rounds} turns of each group",
        f"0, p-value {LEVEL:g}",
        strays == 0 and p_value >= LEVEL,
        "Rate and sampler are the real ones, the noise is not.",
    )
