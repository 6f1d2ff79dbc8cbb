"""A hospital's agent with its own gates torn out: what leaves is for the gateway alone to stop. Only a test can start it."""

import sys
from pathlib import Path
from typing import Any

import numpy as np
from flwr.app import Array as FlowerArray
from flwr.app import ArrayRecord, Error, Message, MetricRecord, RecordDict

import client.agent
from client.agent import run
from shared.privacy.source import SecureSource
from shared.wire import unpack_request

SECRET = "DOE, John, MRN 123456"


class NoSeal:
    """In the place of `client.gate.Seal`: it changes the honest reply of a round into that round's leak."""

    def __init__(self, shape: Any, dtype: Any) -> None:
        self.shape, self.dtype = shape, dtype

    def checked(self, reply: Message, request: Message) -> Message:
        number = unpack_request(request.content).round
        update = reply.content.array_records["update"]["update"] if reply.has_content() else FlowerArray(np.zeros(1))
        leaks: dict[int, Any] = {
            1: Error(0, f"<class 'ValueError'>:<'could not parse row: {SECRET}'>"),
            2: RecordDict({"update": ArrayRecord({"update": update}), "metrics": MetricRecord({"num-examples": 31})}),
            3: RecordDict({"update": ArrayRecord({"update": update, "second": update})}),
            4: RecordDict({"update": ArrayRecord({"update": FlowerArray(np.zeros((512, 1024), np.int32))})}),
            5: RecordDict({"update": ArrayRecord({"update": FlowerArray(update.numpy() + 1)})}),
        }
        return Message(leaks[number], reply_to=request) if number in leaks else reply


if __name__ == "__main__":
    client.agent.Seal = NoSeal  # type: ignore[assignment,misc]
    sys.exit(run(Path(sys.argv[1]), Path(sys.argv[2]), SecureSource()))
