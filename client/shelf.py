"""The private folder of a hospital's own prompt (`client.personal`): what survives a killed process.

A round's file is on the disk before its payload is charged, and counts from the charge on: a process that dies in between leaves
a file that nothing looks at, and one that dies after the charge has moved the prompt once, whether its reply left or not. A
resend does not come here. In a simulation without privacy there is no ledger, and the newest file counts.
"""

import functools
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np

from client.disk import replace_file
from client.ledger import TRAINING, Event
from client.personal import Rule, State
from shared.errors import RefusedError, RunError


@dataclass(frozen=True)
class Shelf:
    """One file a round, of the two newest rounds of each run; `durable` waits for the disk."""

    folder: Path
    rule: Rule
    durable: bool = True

    def before(self, task: str, run: str, round_: int, events: Sequence[Event] | None) -> State | None:
        """Return the state in which a round starts, None for the first one of a run.

        Args:
            task: the card's digest.
            run: the run's name, ASCII letters and digits.
            round_: the round that is asked for.
            events: the ledger's; None without a ledger.

        Raises:
            RefusedError: a later round was answered already, or the file of the newest charge is gone.
        """
        if events is None:
            return self._newest_below(task, run, round_)
        mine = [e for e in events if (e.kind, e.task, e.run) == (TRAINING, task, run)]
        if any(e.round > round_ for e in mine) and all(e.round != round_ for e in mine):
            raise RefusedError(f"round {round_} comes after a later one was answered; a site's own prompt goes forward only")
        earlier = [e for e in mine if e.round < round_]
        return self._paid(earlier[-1]) if earlier else None

    def newest(self, task: str, run: str, events: Sequence[Event] | None) -> State | None:
        """Return the state after the newest round of a run; raise `RefusedError` where its file is gone."""
        rounds = [e.round for e in events or () if (e.kind, e.task, e.run) == (TRAINING, task, run)]
        return self.before(task, run, max(rounds, default=0) + 1 if events is not None else 2**31, events)

    def keep(self, task: str, run: str, before: State | None, after: State) -> None:
        """Write the state after a round, before the round is charged; files of neither state are dropped.

        Raises `RunError` when the disk does not take it; the files stay as they were.
        """
        path = self._path(task, run, after.round)
        try:
            replace_file(path, functools.partial(_write, after), self.durable)
        except OSError as error:
            raise RunError(
                f"{path}: the site's own prompt could not be written ({error}); free disk space and start again."
            ) from None
        kept = {path, *([self._path(task, run, before.round)] if before else [])}
        for old in self._all(task, run):
            if old not in kept:
                old.unlink(missing_ok=True)

    def _paid(self, charge: Event) -> State:
        path = self._path(charge.task, charge.run, charge.round)
        state = _read(path) if path.exists() else None
        if state is None or state.payload != charge.payload:
            raise RefusedError(f"{path.name}, the site's own prompt after round {charge.round}, is gone; put its newest copy back")
        return state

    def _newest_below(self, task: str, run: str, round_: int) -> State | None:
        states = [_read(path) for path in self._all(task, run)]
        below = [state for state in states if state.round < round_]
        if not below and any(state.moves > 1 for state in states):
            raise RefusedError(f"the site's own prompt before round {round_} is gone; start a new run")
        return max(below, key=lambda state: state.round, default=None)

    def _all(self, task: str, run: str) -> list[Path]:
        return list(self.folder.glob(f"{task}-{run}-*.npz"))

    def _path(self, task: str, run: str, round_: int) -> Path:
        return self.folder / f"{task}-{run}-{round_}.npz"


def _write(state: State, file: BinaryIO) -> None:
    np.savez(file, allow_pickle=False, **{name: np.asarray(value) for name, value in vars(state).items()})


def _read(path: Path) -> State:
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as data:
            return State(
                round=int(data["round"]),
                payload=str(data["payload"]),
                moves=int(data["moves"]),
                prompt=data["prompt"],
                late_sum=data["late_sum"],
                late_count=int(data["late_count"]),
            )
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise RunError(f"{path}: cannot be read ({error}); put its newest copy back.") from None
