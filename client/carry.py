"""The private folder of what a site takes from one round of a banded run to the next (`shared.privacy.banded`): it survives a kill.

A round's file is on the disk before its payload is charged, and counts from the charge on, as a site's own prompt does: a process
that dies in between leaves a file that nothing looks at. The files are as secret as the patients' table, because they hold sums
without noise. The last round of a plan leaves none of these sums.
"""

import functools
import zipfile
from collections.abc import Sequence, Set
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO

import numpy as np

from client.disk import replace_file
from client.ledger import TRAINING, Event
from shared.card import TaskCard
from shared.errors import RefusedError, RunError
from shared.privacy.banded import Carry, fresh


@dataclass(frozen=True)
class Carries:
    """One file a round, of the two newest rounds of each run.

    Attributes:
        folder: beside the ledger.
        bands: b.
        rounds: of the plan.
        durable: wait for the disk.
    """

    folder: Path
    bands: int
    rounds: int
    durable: bool = True

    def before(self, event: Event, events: Sequence[Event], numbers: int) -> Carry:
        """Return what the round of a charge begins with, K = `numbers`.

        `events` are the ledger's. In a simulation that goes on, the round itself may be among them, which is charged once.
        Raises `RefusedError` where the file of the newest earlier charge is gone.
        """
        mine, task, run = _charged(events, event), event.task, event.run
        if not mine:
            return fresh(self.bands, numbers)
        path = self._path(task, run, mine[-1].round)
        payload, carry = _read(path) if path.exists() else ("", None)
        if carry is None or payload != mine[-1].payload or carry.turn != len(mine) or carry.owed.shape != (self.bands - 1, numbers):
            raise RefusedError(f"{path.name}, what round {mine[-1].round} left to later ones, is gone; put its newest copy back")
        return carry

    def keep(self, event: Event, carry: Carry, events: Sequence[Event]) -> None:
        """Write what a round leaves, before `event` charges it; files but this one and the newest charged one's are dropped.

        Raises `RunError` when the disk does not take it; the files stay as they were.
        """
        task, run = event.task, event.run
        if event.round == self.rounds:
            carry = replace(carry, owed=np.zeros_like(carry.owed))
        path = self._path(task, run, event.round)
        try:
            replace_file(path, functools.partial(_write, event.payload, carry), self.durable)
        except OSError as error:
            raise RunError(
                f"{path}: what later rounds need could not be written ({error}); free disk space and start again."
            ) from None
        self._drop_but(event, {path, *(self._path(task, run, e.round) for e in _charged(events, event)[-1:])})

    def settled(self, event: Event) -> None:
        """Drop what the last round of a plan needed, once it is charged: its sums have no noise on them."""
        if event.round == self.rounds:
            self._drop_but(event, {self._path(event.task, event.run, event.round)})

    def _drop_but(self, event: Event, kept: Set[Path]) -> None:
        for old in self.folder.glob(f"{event.task}-{event.run}-*.npz"):
            if old not in kept:
                old.unlink(missing_ok=True)

    def _path(self, task: str, run: str, round_: int) -> Path:
        return self.folder / f"{task}-{run}-{round_}.npz"


def carries_of(card: TaskCard, ledger: Path, durable: bool = True) -> Carries | None:
    """Return where the site with this ledger keeps what its rounds leave to later ones; None where the card has no bands."""
    bands = card.privacy.bands
    return Carries(ledger.with_suffix(".carry"), bands, card.plan.rounds, durable) if bands > 1 else None


def _charged(events: Sequence[Event], event: Event) -> list[Event]:
    """Return the charges of the same run's other rounds."""
    of = (TRAINING, event.task, event.run)
    return [e for e in events if (e.kind, e.task, e.run) == of and e.round != event.round]


def _write(payload: str, carry: Carry, file: BinaryIO) -> None:
    np.savez(file, allow_pickle=False, payload=np.asarray(payload), turn=np.asarray(carry.turn), owed=carry.owed, sent=carry.sent)


def _read(path: Path) -> tuple[str, Carry]:
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as data:
            return str(data["payload"]), Carry(int(data["turn"]), data["owed"], data["sent"])
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise RunError(f"{path}: cannot be read ({error}); put its newest copy back.") from None
