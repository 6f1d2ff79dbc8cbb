"""A live alarm on a mystery site: does what it sends fit the claim, round after round, with one error rate for all time?

At such a site the sum before noise is known: its canaries and who was drawn follow from the canary file. The e-process is
``E_t = mean over alternatives of prod_{s <= t} f_alt(x_s) / f_claim(x_s)``: while the claim holds, or the noise is larger, its
expectation is at most 1, so that it passes 1 / alpha at *any* time with probability at most alpha (Ville 1939; Ramdas et al. 2023).
There are no patients at a mystery site, so the residuals tell nobody anything; of a hospital none is ever computed.
"""

import json
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import logsumexp

from audits.canary_site import Watched, update_in, watched
from shared.canaries import Canaries, read_canaries, require_bound
from shared.card import Task
from shared.errors import InputError
from shared.privacy.mechanism import Mechanism, Update, decode

ALPHA = 1e-3
RATIOS = (0.5, 0.7, 0.8, 0.9, 0.95, 0.98)  # noise, of what is claimed
REACHES = (1.0, 1.5, 4.0)  # how far one patient moves the sum, in clip norms; 1 is the claim, 4 a step that does not clip
ALTERNATIVES = np.array([(ratio, reach) for ratio in (*RATIOS, 1.0) for reach in REACHES if (ratio, reach) != (1.0, 1.0)])
LOOK = 1.0  # seconds between two looks at the run directory

Numbers = NDArray[np.float64]


@dataclass(frozen=True)
class EProcess:
    """Log of each alternative's product so far; `start()` begins one."""

    logs: Numbers

    @classmethod
    def start(cls) -> "EProcess":
        """Return the process before the first round, E = 1."""
        return cls(np.zeros(len(ALTERNATIVES)))

    @property
    def log_e(self) -> float:
        """Natural logarithm of E."""
        return float(logsumexp(self.logs) - math.log(len(self.logs)))

    def then(self, seen: Numbers, clean: Numbers, deviation: float) -> "EProcess":
        """Return the process after one more round.

        Args:
            seen: the round's sum in clip norms, (d,).
            clean: the sum before noise, (d,).
            deviation: the claimed standard deviation of a number's noise, in clip norms.
        """
        ratio, reach = ALTERNATIVES.T
        claimed = ((seen - clean) ** 2).sum()
        squares = (seen @ seen) - 2 * reach * (seen @ clean) + reach**2 * (clean @ clean)  # |seen - reach * clean|^2
        return EProcess(self.logs - seen.size * np.log(ratio) + (claimed - squares / ratio**2) / (2 * deviation**2))


def next_step(before: EProcess, update: Update, clean: Numbers, mechanism: Mechanism, steps: int) -> EProcess:
    """Return the process after a mystery site's update (P+L, D), whose sum before noise in clip norms was `clean` (d,)."""
    seen = decode(update, mechanism).ravel() / mechanism.clip_norm
    return before.then(seen, clean, mechanism.noise_multiplier * math.sqrt(steps))


def follow(folder: Path, file: Path, say: Callable[[str], None], alpha: float = ALPHA, look: float = LOOK) -> int:
    """Watch a run directory of `promptward serve` until the run ends; return 1 at an alarm, 0 at the end.

    One line a round is said. A run that has ended already is read through at once.
    Raises `InputError` where the folder, the card or the canary file do not belong together.
    """
    task, canaries = Task.load(str(folder / "task.toml")), read_canaries(file)
    require_bound(canaries, task.card, str(file))
    place = watched(task, canaries, str(_json(folder / "run.json").get("run")))
    process = EProcess.start()
    for number, update in _rounds(folder, canaries, look):
        if update is None:
            say(f"round {number}: {canaries.table.site} sent nothing that counts; E stays {_power(process.log_e)}")
            continue
        process = next_step(process, update, place.clean(number), place.mechanism, place.plan.steps)
        if process.log_e >= -math.log(alpha):
            say(f"round {number}: E = {_power(process.log_e)} ALARM: {alarmed(process, place, alpha)}")
            return 1
        say(f"round {number}: E = {_power(process.log_e)}")
    say(f"The run has ended; no alarm (E never reached {1 / alpha:g}). That proves nothing about other hospitals.")
    return 0


def alarmed(process: EProcess, place: Watched, alpha: float) -> str:
    """Return what an alarm means, in words."""
    ratio, reach = ALTERNATIVES[int(process.logs.argmax())]
    return (
        f"what {place.canaries.table.site} sends does not fit the claimed noise multiplier {place.mechanism.noise_multiplier:g}; "
        f"nearest is noise of {ratio:g} times that with a patient's reach of {reach:g} clip norms. A right site raises this with "
        f"probability at most {alpha:g} in a whole run. Stop the run and find out why."
    )


def _rounds(folder: Path, canaries: Canaries, look: float) -> Iterator[tuple[int, Update | None]]:
    """Give the rounds of a run as they come, with the audit site's update; end when the ServerApp has ended."""
    number = 1
    while True:
        path = folder / "transcript" / f"round-{number:05d}.npz"
        ended = _json(folder / "state.json").get("ended") if (folder / "state.json").exists() else False
        if path.exists():
            yield number, update_in(path, canaries.table.site)
            number += 1
        elif ended:
            return
        else:
            time.sleep(look)


def _json(path: Path) -> dict[str, Any]:
    try:
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        raise InputError(f"{path}: cannot be read; name the run directory of `promptward serve`.") from None
    return found


def _power(log_e: float) -> str:
    """Return E for people.

    >>> _power(0.0), _power(230.2585)
    ('1', '1e+100')
    """
    tens = log_e / math.log(10)
    return f"{10**tens:.3g}" if abs(tens) < 6 else f"1e{tens:+.0f}"
