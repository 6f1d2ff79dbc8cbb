"""The wire contract: what a request and a reply hold, and nothing else.

Request (coordinator -> hospital): one array `prompt` and the facts that name the round.
Reply (hospital -> coordinator): one array `update` of the prompt's shape: int32 grid units, or float32 on the float path.
Neither counts, metrics, timings nor texts.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from flwr.app import Array as FlowerArray
from flwr.app import ArrayRecord, ConfigRecord, ConfigRecordValues, RecordDict
from numpy.typing import NDArray

from shared.arrays import sha256
from shared.errors import RefusedError

if TYPE_CHECKING:  # the gateway reads replies without loading torch
    from shared.prompt import Array

__all__ = [
    "FAILED",
    "PROMPT",
    "ROUND",
    "UPDATE",
    "Request",
    "pack_reply",
    "pack_request",
    "sha256",
    "unpack_reply",
    "unpack_request",
]

PROMPT = "prompt"
UPDATE = "update"
ROUND = "round"
FAILED = 4242  # the one code for everything that goes wrong at a site: what went wrong would tell about its patients


@dataclass(frozen=True)
class Request:
    """One round's request: the task, the run, the round (from 1) and the prompt to start from.

    `last` is the SHA-256 of the site's payload that the coordinator received last in this run, empty before the first: a site
    whose ledger was replaced by an older copy finds out that it paid for less than it sent.
    """

    task_digest: str
    run: str
    round: int
    prompt: "Array"
    last: str = ""


def pack_request(request: Request) -> RecordDict:
    """Put a request into Flower's records."""
    facts: dict[str, ConfigRecordValues] = {
        "task": request.task_digest,
        "run": request.run,
        "round": request.round,
        "last": request.last,
    }
    return RecordDict({PROMPT: ArrayRecord({PROMPT: FlowerArray(request.prompt)}), ROUND: ConfigRecord(facts)})


def unpack_request(content: RecordDict) -> Request:
    """Read a request; raise `RefusedError` for anything that is not exactly one."""
    try:
        facts = content.config_records[ROUND]
        prompt = content.array_records[PROMPT][PROMPT].numpy()
        request = Request(str(facts["task"]), str(facts["run"]), int(facts["round"]), prompt, str(facts["last"]))  # type: ignore[arg-type]
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise RefusedError(f"the request is not one of ours ({error!r})") from None
    if len(content) != 2 or len(facts) != 4 or len(content.array_records[PROMPT]) != 1:
        raise RefusedError("the request holds more than a prompt, a task, a run and a round")
    return request


def pack_reply(update: NDArray[Any]) -> RecordDict:
    """Put the one declared array into Flower's records, rebuilt from its bytes."""
    return RecordDict({UPDATE: ArrayRecord({UPDATE: FlowerArray(np.array(update, order="C"))})})


def unpack_reply(content: RecordDict, dtype: np.dtype[Any]) -> NDArray[Any]:
    """Read a reply; raise `ValueError` with the reason for anything that is not exactly the one array of this dtype."""
    if list(content) != [UPDATE] or UPDATE not in content.array_records:
        raise ValueError(f"it holds {sorted(content)} instead of one record '{UPDATE}'")
    arrays = content.array_records[UPDATE]
    if list(arrays) != [UPDATE]:
        raise ValueError(f"it holds arrays {sorted(arrays)} instead of one array '{UPDATE}'")
    update = arrays[UPDATE].numpy()
    if update.dtype != dtype:
        raise ValueError(f"its dtype is {update.dtype} instead of {dtype}")
    return update
