"""One temperature for a prompt, fitted on the hospital's own test patients, so that its probabilities mean what they say there.

The temperature is computed from patients without noise. It stays in a file of its owner's beside the ledger, and nothing that
leaves the hospital depends on it.
"""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from scipy.optimize import minimize_scalar
from torch import Tensor
from torch.nn import functional

from client.cohorts import cohort_of
from client.records import read_rows
from client.site import SiteFile
from shared.errors import InputError
from shared.files import read_private
from shared.reading import Reader, Reading, logits_of

FEWEST = 20  # test patients below which one number fits the accident, not the prompt
COLDEST, HOTTEST = 0.05, 20.0


@dataclass(frozen=True)
class Calibration:
    """What was fitted; private to the hospital.

    Attributes:
        temperature: the scores are divided by it (Guo et al. 2017, section 4.2).
        records: test records that it was fitted on.
        loss_before: their mean negative log-likelihood at temperature 1.
        loss_after: and at this temperature.
    """

    temperature: float
    records: int
    loss_before: float
    loss_after: float


def fit(logits: Tensor, labels: Tensor) -> Calibration:
    """Return the temperature that makes the labels (N,) likeliest under ``softmax(logits / temperature)``, logits (N, L)."""

    def loss(log_temperature: float) -> float:
        return float(functional.cross_entropy(logits.double() / np.exp(log_temperature), labels))

    found = minimize_scalar(loss, bounds=(np.log(COLDEST), np.log(HOTTEST)), method="bounded")
    return Calibration(float(np.exp(found.x)), len(labels), loss(0.0), float(found.fun))


def calibrate(site: SiteFile, reader: Reader) -> Calibration:
    """Fit a prompt's temperature on the site's test patients and keep it at the site.

    Raises `InputError` when the site keeps no test patients, too few, or of one label only.
    """
    where, card = site.data.path, reader.task.card
    if site.data.split is None:
        raise InputError(f"{where}: no patients are kept for tests; name the column that says train or test in [data] split.")
    tested = cohort_of(site.data, read_rows(where), card, "test")
    if tested.size < FEWEST or len(set(tested.labels)) < 2:
        raise InputError(f"{where}: a temperature needs {FEWEST} test patients or more, of two labels at least; keep more.")
    logits = logits_of([reader], [Reading(record, 0) for record in tested.records])
    found = fit(torch.stack(logits), torch.tensor(tested.labels))
    _keep(_path(site), reader.digest, found)
    return found


def temperature_of(site: SiteFile, reader: Reader) -> float | None:
    """Return the temperature that the site keeps for this prompt; None where it was not calibrated here."""
    kept = _read(_path(site)).get(reader.digest)
    return None if kept is None else float(kept["temperature"])


def _path(site: SiteFile) -> Path:
    return site.ledger.path.with_suffix(".temperatures.json")


def _read(path: Path) -> dict[str, dict[str, float]]:
    if not path.exists():
        return {}
    try:
        return dict(json.loads(read_private(path)))
    except ValueError:
        raise InputError(f"{path}: this is not the JSON that was written; remove it and calibrate again.") from None


def _keep(path: Path, prompt: str, found: Calibration) -> None:
    new = path.with_suffix(".new")
    new.unlink(missing_ok=True)
    new.touch(mode=0o600)  # private from the first byte
    new.write_text(json.dumps(_read(path) | {prompt: asdict(found)}, indent=2) + "\n")
    new.replace(path)
