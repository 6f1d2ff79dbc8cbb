"""Private training of any method, by the same patient-level mechanism: drawn, clipped as one tensor, summed, noised, stepped.

It is the law of `client.round` and `server.aggregate` for a flat tensor of any length: a patient's gradients over ALL trained
tensors together lie in one ball. Gradients are clipped and added up micro-batch by micro-batch, and the noise is added once.
Letters in shape comments: R records, N drawn patients, n of a micro-batch, K trained numbers.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from client.round import patient_means
from server.aggregate import Double, Rule, apply, init
from shared.privacy.clip import STEPS, clipped_rows, drop_non_finite
from shared.privacy.float_path import gaussian
from shared.privacy.guarantee import ClippedSum
from shared.privacy.integers import COORDINATES
from shared.privacy.mechanism import Mechanism
from shared.privacy.noise import add_noise
from shared.privacy.sampling import poisson
from shared.privacy.source import Source, Stream
from shared.prompt import Array
from simulations.comparison.method import Method

TINY = 1e-6  # keeps the clip factor of a zero gradient finite, and the clipped norm below the clip norm in floating point
FAST_BATCH = 64  # records whose hidden states of every layer are held at once
Patients = tuple[Tensor, ...]  # the training records of each patient


@dataclass(frozen=True)
class Plan:
    """The public numbers of one training.

    Attributes:
        mechanism: of every site's release.
        rule: the server's step.
        rounds: noised sums that a site releases.
    """

    mechanism: Mechanism
    rule: Rule
    rounds: int


def fitting(mechanism: Mechanism, numbers: int) -> Mechanism:
    """Return the mechanism for so many coordinates: more than epsilon is proven for on integers go by the float path."""
    return replace(mechanism, exact=False) if numbers > COORDINATES else mechanism


def train(
    method: Method, records: Patients, sites: Mapping[str, NDArray[np.int64]], plan: Plan, source: Source, *purpose: str | int
) -> Array:
    """Return the trained theta (K,).

    Args:
        method: see there.
        records: the training records of each patient of the split.
        sites: the patients of each party that adds noise of its own: all hospitals (federated), one (local), or one
            party that holds everybody's (pooled).
        plan: public numbers.
        source: of draws and noise.
        purpose: names this training.
    """
    state = init(method.start)
    for number in range(1, plan.rounds + 1):
        theta = torch.from_numpy(state.broadcast)  # (K,)
        updates = [
            noised_sum(
                method,
                records,
                mine[poisson(len(mine), plan.mechanism.sample_rate, source.stream("draw", *purpose, site, number))],
                theta,
                plan.mechanism,
                source.stream("noise", *purpose, site, number),
            )
            for site, mine in sites.items()
        ]
        state = apply(state, updates, plan.rule)
    return state.published


def noised_sum(
    method: Method, records: Patients, drawn: NDArray[np.int64], theta: Tensor, mechanism: Mechanism, stream: Stream
) -> Double:
    """Return the noised sum of drawn patients' clipped gradients, (K,): `shared.privacy.mechanism.release` on all at once.

    On the float path clipping is Opacus' formula and the noise is Gaussian in double precision.
    """
    if mechanism.exact:
        whole = np.zeros(theta.shape, dtype=np.int64)
        for gradients in patient_gradients(method, records, drawn, theta):
            whole += clipped_rows(gradients, mechanism.clip_norm).sum(0)
        clipped = ClippedSum(whole, STEPS, mechanism.grid)
        return add_noise(clipped, mechanism.noise_multiplier, stream).value * mechanism.grid
    noised = gaussian(tuple(theta.shape), mechanism.noise_std, stream)  # (K,)
    noised += clipped_sum(method, records, drawn, theta, mechanism.clip_norm)
    return noised.numpy()


def clipped_sum(method: Method, records: Patients, drawn: NDArray[np.int64], theta: Tensor, clip_norm: float) -> Tensor:
    """Return the sum of drawn patients' clipped gradients in floating point, (K,): by the method's fast way where it has one."""
    total = torch.zeros(theta.shape)  # a float32 sum of a few hundred vectors, far under the noise
    if method.add_clipped is not None:
        for mine in together(records, drawn, FAST_BATCH):
            method.add_clipped(total, mine, theta, clip_norm)
        return total
    for gradients in patient_gradients(method, records, drawn, theta):
        finite = drop_non_finite(gradients)  # (n, K)
        norms = torch.linalg.vector_norm(finite, dim=1, dtype=torch.float64)  # (n,): in float32, millions of squares lose .1 %
        total += clip_factors(norms, clip_norm).float() @ finite
    return total


def clip_factors(norms: Tensor, clip_norm: float) -> Tensor:
    """Return what gradients of these norms (N,) are multiplied with, (N,): Opacus' formula, and 0 for a norm that is not finite."""
    return torch.where(norms.isfinite(), (clip_norm / (norms + TINY)).clamp(max=1.0), 0.0)


def patient_gradients(method: Method, records: Patients, drawn: NDArray[np.int64], theta: Tensor) -> Iterator[Tensor]:
    """Give the drawn patients' gradients, means over their records, (n, K) a micro-batch; a patient is never cut."""
    for mine in together(records, drawn, method.batch):
        each = method.record_gradients(torch.cat(mine), theta)  # (R, K)
        yield each if len(each) == len(mine) else patient_means(each, mine)  # (n, K)


def together(records: Patients, drawn: NDArray[np.int64], batch: int) -> Iterator[list[Tensor]]:
    """Give the drawn patients' records in micro-batches of about `batch` records; a patient is never cut."""
    counts = np.array([len(records[patient]) for patient in drawn], dtype=np.int64)
    piece = (np.cumsum(counts) - counts) // batch
    for number in np.unique(piece):
        yield [records[patient] for patient in drawn[piece == number]]
