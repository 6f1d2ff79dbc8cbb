"""Canaries made of data: made-up patients with the least likely label, as realistic as a canary can be, and as weak.

Their gradients are not orthogonal: each stands in the way of the others (Keinan et al. 2025), so their bound is far below the
claim. They go through the model, which gradient canaries do not.
"""

from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray

from audits.canary_evidence import LEVEL, STRICT, Row
from audits.canary_site import Watched
from audits.guesses import guess, preregister, scores
from audits.one_run import Claim, noise_bound, poisson, rejects
from audits.subject import Subject, made_up_pool
from client.round import Pool, patient_gradients
from shared.privacy.mechanism import decode
from shared.privacy.source import SecureSource, uniform

MOST_ROUNDS = 8  # model work grows with them


def data_canaries(subject: Subject, place: Watched, patients: int) -> Row:
    """Return the f-DP bound of a shadow run whose pool are made-up patients, each in by a coin of the system's.

    A score is the alignment of a canary's clipped gradient with the updates, less what all of them do on average.
    """
    rounds = min(place.rounds, MOST_ROUNDS)
    steps = place.plan.steps
    claim = Claim(place.claim.sample_rate, place.claim.noise_multiplier, rounds * steps, place.claim.delta, steps)
    everyone = _contrary(subject, patients)
    coins = uniform(SecureSource().stream("coins"), patients) < 0.5
    there = Pool(everyone.hidden, everyone.labels, tuple(everyone.records[i] for i in np.flatnonzero(coins)))
    found = np.zeros(patients)
    for number in range(1, rounds + 1):
        prompt = subject.prompts[(number - 1) % len(subject.prompts)]
        update = subject.step(there, prompt, place.plan, subject.scorer, SecureSource(), "shadow", "data", number)
        seen = decode(update, place.mechanism).ravel() / place.mechanism.clip_norm  # (d,)
        found += _alignment(seen, _clipped(subject, everyone, prompt, place.mechanism.clip_norm), claim)
    plan = preregister(claim, patients)
    right = guess(found, coins, plan.fdp)
    return Row(
        "f-DP, one run, data canaries",
        f"{right} of {plan.fdp} guesses right, {patients} made-up patients",
        place.claim.epsilon if rounds == place.rounds else claim.epsilon,
        noise_bound(claim, patients, plan.fdp, right, LEVEL, claim),
        bool(rejects(poisson(claim), patients, plan.fdp, right, STRICT)),
    )


def _contrary(subject: Subject, patients: int) -> Pool:
    """Return made-up patients with the label that the first prompt thinks least likely."""
    seed = int(SecureSource().stream("patients").words(1)[0] >> np.uint64(33))
    found = made_up_pool(subject, patients, seed)
    least = subject.scorer.probabilities(found.hidden, torch.from_numpy(np.array(subject.prompts[0]))).argmin(1)  # (N,)
    return replace(found, labels=least)


def _clipped(subject: Subject, everyone: Pool, prompt: NDArray[np.float32], clip_norm: float) -> NDArray[np.float64]:
    """Return every canary's clipped gradient in clip norms, (N, d)."""
    index = np.arange(everyone.patients)
    flat = patient_gradients(everyone, index, torch.from_numpy(np.array(prompt)), subject.scorer).flatten(1).double().numpy()
    norms = np.linalg.norm(flat, axis=1, keepdims=True)
    clipped: NDArray[np.float64] = flat / np.maximum(norms, clip_norm)
    return clipped


def _alignment(seen: NDArray[np.float64], gradients: NDArray[np.float64], claim: Claim) -> NDArray[np.float64]:
    """Return each canary's log-likelihood ratio of one round, (N,), against the mean of what the others would send."""
    mean = claim.sample_rate * claim.per_round / 2
    length = np.maximum(np.linalg.norm(gradients, axis=1), 1e-12)  # (N,)
    rest = seen - mean * gradients.sum(0)  # (d,)
    along = (gradients @ rest) / length + mean * length  # (N,), the canary's own part put back
    noise = claim.noise_multiplier
    return np.array(
        [scores(along[i : i + 1, None] / size, replace(claim, noise_multiplier=noise / size))[0] for i, size in enumerate(length)]
    )
