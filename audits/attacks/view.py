"""What an attacker sees, and what whoever knows a patient's record can compute.

Seen are the broadcast prompt and the update that leaves, made by the step that is put to the test (`Subject.step`) with the
system's randomness. Computed are the clipped gradients of known records, from public facts alone.
Letters in shape comments: K patients, T rounds, d = (P + L) * D coordinates.
"""

from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from audits.subject import Subject
from client.round import LocalPlan, Pool, patient_gradients
from shared.privacy.clip import drop_non_finite
from shared.privacy.mechanism import Mechanism, decode
from shared.privacy.source import SecureSource
from shared.prompt import Array

Numbers = NDArray[np.float64]
ROUNDING = 1e-6  # of the clip norm: what float32 leaves of an update without noise


def clipped_gradients(subject: Subject, patients: Pool, prompt: Array) -> Numbers:
    """Return each patient's clipped gradient at a prompt, (K, d)."""
    mine = patient_gradients(patients, np.arange(patients.patients), torch.from_numpy(np.array(prompt)), subject.scorer)
    flat = drop_non_finite(mine).flatten(1).double().numpy()  # (K, d)
    norms = np.linalg.norm(flat, axis=1, keepdims=True)  # (K, 1)
    return flat * np.minimum(1.0, subject.mechanism.clip_norm / np.maximum(norms, 1e-300))  # type: ignore[no-any-return]


def noise_of(subject: Subject, noisy: bool, steps: int = 1) -> float:
    """Return the noise's standard deviation in each coordinate of an update of so many releases, in gradients."""
    clip = subject.mechanism.clip_norm
    return (subject.mechanism.noise_std if noisy else ROUNDING * clip) * float(np.sqrt(steps))


def one_release(subject: Subject, patients: Pool, prompt: Array, noisy: bool) -> Numbers:
    """Return one release (d,) in which exactly these patients are drawn."""
    plan = replace(subject.plan, steps=1)
    plan = replace(plan, mechanism=replace(plan.mechanism, sample_rate=1.0))
    return _answer(subject, patients, prompt, plan, noisy)


def answered(subject: Subject, patients: Pool, prompt: Array, noisy: bool) -> Numbers:
    """Return a round's update (d,) of a site with these patients, who are drawn as the card says."""
    return _answer(subject, patients, prompt, subject.plan, noisy)


def some(patients: Pool, chosen: NDArray[Any]) -> Pool:
    """Return the chosen patients, by index or by mask (K,), as a site of their own."""
    return Pool(patients.hidden, patients.labels, tuple(patients.records[i] for i in np.arange(patients.patients)[chosen]))


def spread(prompts: tuple[Array, ...], most: int) -> tuple[Array, ...]:
    """Return at most `most` of the prompts, evenly spread from first to last."""
    if len(prompts) <= most:
        return prompts
    return tuple(prompts[i] for i in np.linspace(0, len(prompts) - 1, most).round().astype(int))


def _answer(subject: Subject, patients: Pool, prompt: Array, plan: LocalPlan, noisy: bool) -> Numbers:
    mechanism = plan.mechanism if noisy else without_noise(plan.mechanism)
    update = subject.step(patients, prompt, replace(plan, mechanism=mechanism), subject.scorer, SecureSource(), "attack")
    return decode(update, mechanism).ravel()


def without_noise(mechanism: Mechanism) -> Mechanism:
    """Return the control: the same draw and clipping, and no noise."""
    return replace(mechanism, noise_multiplier=0.0, exact=False)
