"""A coordinator's ServerApp that is not ours: Flower starts it by its command's name, and it sends what it likes.

What came back for each message is written to the file that HOSTILE_OUT names.
"""

import argparse
import json
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from flwr.app import Array as FlowerArray
from flwr.app import ArrayRecord, ConfigRecord, Message, MetricRecord, RecordDict
from flwr.common.serde import run_from_proto
from flwr.proto.runtime_pb2 import PullTaskInputRequest
from flwr.supercore.task_identity import TaskIdentity
from flwr.superlink.grid import HttpGrid

from shared.wire import Request, pack_request

SHAPE = (4, 16)
LONG, BRIEF = 40.0, 4.0  # seconds to wait for a reply; briefly where the gateway has to keep everything from passing
EDGE = ("query", "evaluate", "another training action", "prompt of a million numbers")


def asked(digest: str, round_: int = 1, run: str = "run1", prompt: Any = None, last: str = "") -> RecordDict:
    return pack_request(Request(digest, run, round_, np.zeros(SHAPE, np.float32) if prompt is None else prompt, last))


def more(content: RecordDict, name: str, record: Any) -> RecordDict:
    content[name] = record
    return content


def with_fact(digest: str, **facts: Any) -> RecordDict:
    content = asked(digest)
    content["round"] = ConfigRecord({**content.config_records["round"], **facts})
    return content


def two_prompts(digest: str) -> RecordDict:
    content, prompt = asked(digest), FlowerArray(np.zeros(SHAPE, np.float32))
    content["prompt"] = ArrayRecord({"prompt": prompt, "more": prompt})
    return content


def messages(digest: str) -> Mapping[str, tuple[RecordDict, str]]:
    """What is sent to a hospital, one after the other: name -> content and type."""
    nan, wide = np.full(SHAPE, np.nan, np.float32), np.zeros((4, 17), np.float32)
    return {
        "query": (asked(digest), "query"),
        "evaluate": (asked(digest), "evaluate"),
        "another training action": (asked(digest), "train.export"),
        "another task": (asked("f" * 64), "train"),
        "round 0": (asked(digest, 0), "train"),
        "round after the plan": (asked(digest, 7), "train"),
        "prompt of NaN": (asked(digest, prompt=nan), "train"),
        "prompt of another shape": (asked(digest, prompt=wide), "train"),
        "prompt of float64": (asked(digest, prompt=np.zeros(SHAPE)), "train"),
        "prompt of a million numbers": (asked(digest, prompt=np.zeros((1000, 1000), np.float32)), "train"),
        "run with a path in its name": (asked(digest, run="../../etc"), "train"),
        "a setting beside the facts": (with_fact(digest, noise_multiplier=0.0), "train"),
        "metrics beside the prompt": (more(asked(digest), "metrics", MetricRecord({"x": 1})), "train"),
        "a second prompt": (two_prompts(digest), "train"),
        "no prompt": (RecordDict({"round": asked(digest)["round"]}), "train"),
        "nothing": (RecordDict(), "train"),
        "a payload that was never sent": (asked(digest, last="e" * 64), "train"),
        "honest": (asked(digest), "train"),
        "the same round with another prompt": (asked(digest, prompt=np.ones(SHAPE, np.float32)), "train"),
        "honest again": (asked(digest), "train"),
    }


def described(reply: Message | None) -> dict[str, Any]:
    """What a coordinator sees of a reply."""
    if reply is None:
        return {"kind": "nothing"}
    if reply.has_error():
        return {"kind": "error", "code": reply.error.code, "reason": reply.error.reason, "of_site": reply.metadata.src_node_id > 1}
    update = reply.content.array_records["update"]["update"].numpy()
    return {"kind": "reply", "records": list(reply.content), "shape": update.shape, "sum": int(update.sum())}


def answer_to(grid: HttpGrid, message: Message, patience: float) -> Message | None:
    [name] = grid.push_messages([message])
    give_up = time.monotonic() + patience
    while time.monotonic() < give_up:
        for reply in grid.pull_messages([name]):
            return reply
        time.sleep(0.1)
    return None


def main() -> None:
    parser = argparse.ArgumentParser()
    for option in ("--runtime-api-address", "--token", "--root-certificates", "--parent-pid"):
        parser.add_argument(option)
    given, _ = parser.parse_known_args()
    certificate = Path(given.root_certificates).read_bytes()
    grid = HttpGrid(given.runtime_api_address, False, certificate, token=given.token)
    task = grid._runtime_client.PullTaskInput(PullTaskInputRequest())
    TaskIdentity.task_id, TaskIdentity.run_id, TaskIdentity.node_id = task.task_id, task.run.run_id, task.context.node_id
    grid.set_run(run_from_proto(task.run))
    plan = json.loads(Path(os.environ["HOSTILE_PLAN"]).read_text())
    out = {}
    for name, (content, kind) in messages(plan["digest"]).items():
        if name in plan["send"]:
            patience = BRIEF if name in EDGE or plan["brief"] else LONG
            out[name] = described(answer_to(grid, Message(content, plan["node"], kind), patience))
    for round_ in plan["rounds"]:
        patience = LONG if round_ == plan["rounds"][-1] else BRIEF
        out[f"round {round_}"] = described(answer_to(grid, Message(asked(plan["digest"], round_), plan["node"], "train"), patience))
    Path(plan["out"]).write_text(json.dumps(out))


if __name__ == "__main__":
    main()
