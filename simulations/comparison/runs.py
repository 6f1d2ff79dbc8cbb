"""One training of one method: local, federated or pooled, with a seed; what was predicted is kept, so that a comparison goes on."""

import io
import json
import time
import zipfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from shared.privacy.source import SimulationSource
from simulations.comparison.method import Method, Probabilities
from simulations.comparison.split import Split
from simulations.comparison.training import Plan, train

Setting = Literal["local", "federated", "pooled"]
SETTINGS: tuple[Setting, ...] = ("local", "federated", "pooled")


@dataclass(frozen=True)
class Run:
    """What a training predicted for all test records, (M, L), and the seconds that it took, of all sites together."""

    probabilities: Probabilities
    seconds: float


def trained(method: Method, split: Split, setting: Setting, plans: Mapping[Setting, Plan], seed: int) -> Run:
    """Train and predict.

    | setting | who adds noise | predicts for |
    |---|---|---|
    | local | each hospital, for a model of its own | its own test patients |
    | federated | each hospital, all for one model | everybody |
    | pooled | one party that holds all patients | everybody |

    In all three the draws at a hospital's patients have the same rate and one release the same clip norm and noise multiplier, so
    that every patient spends the same epsilon.
    """
    started, source, plan = time.perf_counter(), SimulationSource(seed), plans[setting]
    everybody = {name: split.patients(number) for number, name in enumerate(split.sites)}
    if setting != "local":
        sites = everybody if setting == "federated" else {"everybody": np.arange(len(split.records))}
        theta = train(method, split.records, sites, plan, source, setting)
        return Run(method.probabilities(torch.from_numpy(theta)), time.perf_counter() - started)
    found = np.zeros((len(split.test_labels), len(split.task.card.labels)), dtype=np.float32)
    for number, name in enumerate(split.sites):
        own = split.test_site == number
        if own.any():
            theta = train(method, split.records, {name: everybody[name]}, plan, source, setting)
            found[own] = method.probabilities(torch.from_numpy(theta))[own]
    return Run(found, time.perf_counter() - started)


@dataclass(frozen=True)
class Shelf:
    """Finished trainings on disk, each with everything that it depended on; another plan or split is another training."""

    folder: Path
    facts: Mapping[str, Any]

    def find(self, name: str, setting: Setting, seed: int, plan: Plan) -> Run | None:
        """Return a finished training of exactly this plan, or None."""
        try:
            with np.load(io.BytesIO(self._path(name, setting, seed).read_bytes())) as kept:
                same = str(kept["key"]) == self._key(plan)
                return Run(kept["probabilities"], float(kept["seconds"])) if same else None
        except (OSError, KeyError, ValueError, zipfile.BadZipFile):  # not there, or half written when it was stopped
            return None

    def keep(self, name: str, setting: Setting, seed: int, plan: Plan, run: Run) -> None:
        """Write a finished training."""
        self.folder.mkdir(parents=True, exist_ok=True)
        np.savez(self._path(name, setting, seed), key=self._key(plan), probabilities=run.probabilities, seconds=run.seconds)

    def _path(self, name: str, setting: Setting, seed: int) -> Path:
        return self.folder / f"{name}-{setting}-{seed}.npz"

    def _key(self, plan: Plan) -> str:
        return json.dumps([dict(self.facts), asdict(plan)], sort_keys=True)
