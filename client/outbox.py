"""The outbox: the last payloads of a run, kept so that a resend is the same bytes and costs nothing."""

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from shared.privacy.mechanism import Update


@dataclass(frozen=True)
class Outbox:
    """A folder beside the ledger. It holds noised updates only, which may leave or have left already.

    `durable` waits for the disk, so that a payload is there whenever its charge is.
    """

    folder: Path
    durable: bool = True

    def keep(self, run: str, round_: int, update: Update) -> None:
        """Keep a payload before it is charged; the payload of the round before last is dropped."""
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self._path(run, round_)
        new = path.with_suffix(".new")
        with new.open("wb") as file:
            np.save(file, update)
            file.flush()
            if self.durable:
                os.fsync(file.fileno())
        new.chmod(0o600)
        new.replace(path)
        self._path(run, round_ - 2).unlink(missing_ok=True)

    def find(self, run: str, round_: int) -> Update | None:
        """Return the kept payload, or None."""
        path = self._path(run, round_)
        return np.load(path, allow_pickle=False) if path.exists() else None

    def _path(self, run: str, round_: int) -> Path:
        return self.folder / f"{run}-{round_}.npy"
