"""The egress gate: the only way out of a hospital. It rebuilds the reply from the one declared array and logs what leaves."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from flwr.app import Error, Message, RecordDict

from client.chain import Chain
from shared.errors import RefusedError
from shared.privacy.mechanism import Update
from shared.prompt import PromptShape
from shared.wire import FAILED, Request, pack_reply, sha256, unpack_reply


@dataclass(frozen=True)
class Gate:
    """Lets one array of the card's shape and the mechanism's dtype pass, and writes what passed into a hash chain."""

    shape: PromptShape
    dtype: np.dtype[Any]
    log: Chain

    def release(self, request: Request, update: Update) -> RecordDict:
        """Return the reply for this update; the log's line is on the disk before this returns.

        Raises `RefusedError` for any other shape or dtype, or a value that is not finite.
        """
        self.let_out(request.task_digest, request.run, request.round, update)
        return pack_reply(update)

    def let_out(self, task: str, run: str, round_: int, update: Update) -> None:
        """Check an update and write down that it leaves; raise `RefusedError` as `release` does."""
        if update.dtype != self.dtype or update.shape != self.shape.shape:
            raise RefusedError(f"the update is {update.dtype} {update.shape} instead of {self.dtype} {self.shape.shape}")
        if not np.isfinite(update).all():
            raise RefusedError("the update holds a value that is not finite")
        left = {"task": task, "run": run, "round": round_}
        self.log.append({**left, "sha256": sha256(update), "bytes": update.nbytes})


@dataclass(frozen=True)
class Seal:
    """The last look at a finished reply before Flower gets it, whatever made it."""

    shape: PromptShape
    dtype: np.dtype[Any]

    def checked(self, reply: Message, request: Message) -> Message:
        """Return a reply that holds the one array anew, or the fixed error code and nothing else."""
        try:
            if not reply.has_error():
                update = unpack_reply(reply.content, self.dtype)
                if update.shape == self.shape.shape and np.isfinite(update).all():
                    return Message(pack_reply(update), reply_to=request)
        except ValueError:
            pass  # it is not the one array
        return Message(Error(FAILED), reply_to=request)


def log_counts(log: Chain, task: str, asked: str, counts: Update) -> None:
    """Write that noised counts leave, the one thing beside updates that may: a person reads them from the screen."""
    log.append({"task": task, "prompt": asked, "sha256": sha256(counts), "bytes": counts.nbytes})
