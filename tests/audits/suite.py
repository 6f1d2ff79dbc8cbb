"""The statistical suite: everything that is statistical about a site's randomness, as p-values by name."""

import numpy as np
import torch
from numpy.typing import NDArray

from audits.statistics import examine_draws, examine_noise, shared_stream
from shared.privacy.mechanism import Mechanism, release
from shared.privacy.sampling import Indices, poisson
from shared.privacy.source import SecureSource, SimulationSource

PATIENTS, RATE, ROUNDS = 50, 0.2, 1000
EXACT, FLOAT = Mechanism(RATE, 2.0, 1.5), Mechanism(RATE, 2.0, 1.5, exact=False)
SHAPE = (4, 300)
NAMES = ("North", "South")

Source = SecureSource | SimulationSource


def inclusions(draws: list[Indices], patients: int) -> NDArray[np.bool_]:
    """Return who was in which draw, (T, N)."""
    found = np.zeros((len(draws), patients), dtype=np.bool_)
    for row, drawn in zip(found, draws, strict=True):
        row[drawn] = True
    return found


def releases(mechanism: Mechanism, source: Source) -> NDArray[np.generic]:
    """Return the noise of two rounds at two sites, (4, 1200): releases of empty draws."""
    nobody = torch.zeros(0, *SHAPE)
    found = [release(nobody, mechanism, source.stream("noise", name, r)).value for name in NAMES for r in (1, 2)]
    return np.stack(found).reshape(len(found), -1)


def suite(source: Source) -> dict[str, float]:
    """Return the p-values of everything that a site states of its randomness."""
    draws = [poisson(PATIENTS, RATE, source.stream("draw", round_)) for round_ in range(ROUNDS)]
    found = {"draws": examine_draws(inclusions(draws, PATIENTS), RATE).p_value}
    for name, mechanism in (("exact", EXACT), ("float", FLOAT)):
        noise = releases(mechanism, source)
        found[f"{name} noise"] = examine_noise(noise, mechanism.noise_std / mechanism.grid).p_value
        found[f"{name} streams"] = shared_stream(noise)
    return found
