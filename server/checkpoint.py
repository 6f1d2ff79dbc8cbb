"""What the coordinator leaves on disk every round: the state to go on from, and the transcript for the auditor."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from server.aggregate import ServerState
from server.strategy import RoundSeen, Run, Start
from shared.errors import InputError

BROADCAST = "broadcast"


@dataclass(frozen=True)
class RunFolder:
    """Where one run's checkpoints and transcript stand."""

    checkpoints: Path
    transcript: Path

    def save(self, run: Run, seen: RoundSeen) -> None:
        """Write transcript, then checkpoint: a round that a checkpoint knows has its transcript."""
        number = seen.state.round
        sent = {f"update/{name}": update for name, update in seen.updates.items()}
        _write(self.transcript / f"round-{number:05d}.npz", {BROADCAST: seen.broadcast} | sent)
        names = np.array(_identity(run))
        received = np.array([f"{digest} {name}" for name, digest in seen.received.items()])
        _write(self.checkpoints / f"round-{number:05d}.npz", {"run": names, "received": received} | _arrays(seen.state))

    def latest(self, run: Run) -> Start | None:
        """Return where to go on from by the last whole checkpoint, or None for a run that has none.

        Raises `InputError` when the checkpoint is of another task or run.
        """
        saved = sorted(self.checkpoints.glob("round-*.npz"))
        if not saved:
            return None
        with np.load(saved[-1], allow_pickle=False) as data:
            if data["run"].tolist() != _identity(run):
                raise InputError(f"{saved[-1]}: this checkpoint is of another task or run; name another folder with --out.")
            received = dict(reversed(line.split(" ", 1)) for line in data["received"].tolist())
            state = ServerState(
                round=int(data["round"]),
                prompt=data["prompt"],
                first=data["first"],
                second=data["second"],
                late_sum=data["late_sum"],
                late_count=int(data["late_count"]),
            )
            return Start(state, received)


def _identity(run: Run) -> list[str]:
    return [run.task.digest, run.name, str(run.mechanism)]


def _arrays(state: ServerState) -> dict[str, NDArray[Any]]:
    return {name: np.asarray(value) for name, value in vars(state).items()}


def _write(path: Path, arrays: Mapping[str, NDArray[Any]]) -> None:
    """Write all or nothing: a reader never sees half a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_suffix(".new")
    with new.open("wb") as file:
        np.savez(file, allow_pickle=False, **arrays)
        file.flush()
        os.fsync(file.fileno())
    new.replace(path)
