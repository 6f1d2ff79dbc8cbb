"""The outbox: the last payloads of a run, kept so that a resend is the same bytes and costs nothing."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from client.disk import replace_file
from shared.errors import RunError
from shared.privacy.mechanism import Update


@dataclass(frozen=True)
class Outbox:
    """A folder beside the ledger. It holds noised updates only, which may leave or have left already.

    `durable` waits for the disk, so that a payload is there whenever its charge is.
    """

    folder: Path
    durable: bool = True

    def keep(self, run: str, round_: int, update: Update) -> None:
        """Keep a payload before it is charged; the payload of the round before last is dropped.

        Raises `RunError` when the disk does not take it; the kept payloads stay as they were.
        """
        path = self._path(run, round_)
        try:
            replace_file(path, lambda file: np.save(file, update), self.durable)
        except OSError as error:
            raise RunError(f"{path}: the payload could not be written ({error}); free disk space and start again.") from None
        self._path(run, round_ - 2).unlink(missing_ok=True)

    def find(self, run: str, round_: int) -> Update | None:
        """Return the kept payload, or None."""
        path = self._path(run, round_)
        return np.load(path, allow_pickle=False) if path.exists() else None

    def _path(self, run: str, round_: int) -> Path:
        return self.folder / f"{run}-{round_}.npy"
