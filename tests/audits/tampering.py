"""Ways to change a federation's books, the chains made whole again: what a careful forger would do."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from flwr.app import Message

from client.chain import GENESIS, Chain, link, read_chain
from client.transcript import Transcript
from shared.flower import give_id, identify
from shared.wire import Request, pack_reply, pack_request
from tests.books import Files, record_reply


def rewritten(path: Path, change: Callable[[list[dict[str, Any]]], None]) -> None:
    """Change a chained file and make its chain whole again: what a careful forger would do."""
    lines = [json.loads(raw) for raw in path.read_text().splitlines()]
    change(lines)
    head, out = GENESIS, []
    for number, line in enumerate(lines, start=1):
        head = link(head, number, line["time"], line["body"])
        out.append(json.dumps({"number": number, "time": line["time"], "body": line["body"], "chain": head}))
    path.write_text("".join(raw + "\n" for raw in out))
    read_chain(path)


def edited(path: Path, change: Callable[[dict[str, Any]], None]) -> None:
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def arrays(path: Path, change: Callable[[dict[str, np.ndarray]], None]) -> None:
    with np.load(path) as data:
        content = dict(data)
    change(content)
    np.savez(path, allow_pickle=False, **content)


def flip_payload(files: Files) -> None:
    def change(content: dict[str, np.ndarray]) -> None:
        content["update/South"][0, 0] += 1

    arrays(files.run / "transcript" / "round-00003.npz", change)


def other_prompt(files: Files) -> None:
    def change(content: dict[str, np.ndarray]) -> None:
        content["broadcast"][0, 0] += 1

    arrays(files.run / "transcript" / "round-00003.npz", change)


def other_received(files: Files) -> None:
    def change(content: dict[str, np.ndarray]) -> None:
        content["received"] = np.array([f"{'0' * 64} North", f"{'0' * 64} South"])

    arrays(files.run / "checkpoints" / "round-00003.npz", change)


def drop_update(files: Files) -> None:
    arrays(files.run / "transcript" / "round-00003.npz", lambda content: content.pop("update/South"))


def stranger(files: Files) -> None:
    def change(content: dict[str, np.ndarray]) -> None:
        content["update/West"] = content["update/South"]

    arrays(files.run / "transcript" / "round-00003.npz", change)


def ledger(change: Callable[[list[dict[str, Any]]], None]) -> Callable[[Files], None]:
    return lambda files: rewritten(files.site("South") / "ledger.jsonl", change)


def transcript(change: Callable[[list[dict[str, Any]]], None]) -> Callable[[Files], None]:
    return lambda files: rewritten(files.site("South") / "ledger.transcript.jsonl", change)


def body(number: int, **changes: Any) -> Callable[[list[dict[str, Any]]], None]:
    def change(lines: list[dict[str, Any]]) -> None:
        lines[number]["body"] |= changes

    return change


def later(lines: list[dict[str, Any]]) -> None:
    for line in lines[2:]:
        line["time"] += 1000


def twice(lines: list[dict[str, Any]]) -> None:
    lines.append({"time": lines[-1]["time"], "body": lines[2]["body"] | {"payload": "f" * 64}})


def noise_again(lines: list[dict[str, Any]]) -> None:
    lines[3]["body"]["payload"] = lines[2]["body"]["payload"]


def forget_round(lines: list[dict[str, Any]]) -> None:
    """Drop the last reply with all its parts from a transcript."""
    first = max(number for number, line in enumerate(lines) if line["body"]["call"] == "PushMessages")
    del lines[first:]


def foreign_call(lines: list[dict[str, Any]]) -> None:
    lines.append({"time": lines[-1]["time"], "body": {"call": "StartRun", "content": "AAAA"}})


def other_name(lines: list[dict[str, Any]]) -> None:
    next(line for line in lines if line["body"].get("payload"))["body"]["payload"] = "e" * 64


def claimed(lines: list[dict[str, Any]]) -> None:
    lines.append({"time": lines[-1]["time"], "body": {"call": "PushObject", "delivered": "d" * 64}})


def more_leaves(files: Files, update: np.ndarray, seconds: float) -> None:
    identify(1)
    message = Message(pack_request(Request("a" * 64, "run1", 1, np.zeros((4, 16), np.float32))), 2, "train")
    give_id(message, "c" * 64)
    reply = Message(pack_reply(update), reply_to=message)
    give_id(reply, reply.object_id)
    record_reply(Transcript(Chain(files.site("South") / "ledger.transcript.jsonl")), reply, 2, seconds)


def uncharged(files: Files) -> None:
    more_leaves(files, np.ones((4, 16), np.int32), 0.0)


def second_array(files: Files) -> None:
    more_leaves(files, np.ones((4, 17), np.int32), 0.0)


def with_time(files: Files) -> None:
    with np.load(files.run / "transcript" / "round-00002.npz") as data:
        more_leaves(files, data["update/South"], 2.5)


def result(change: Callable[[dict[str, Any]], None]) -> Callable[[Files], None]:
    return lambda files: edited(files.run / "result.json", change)


def said_metrics(files: Files) -> None:
    path = files.run / "metrics.jsonl"
    lines = [json.loads(raw) for raw in path.read_text().splitlines()]
    lines[2] |= {"contributed": ["North"], "left_out": {"South": "it did not reply"}}
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))


def break_line(files: Files) -> None:
    path = files.site("South") / "ledger.jsonl"
    path.write_text(path.read_text().replace('"noise_multiplier": 3.0', '"noise_multiplier": 9.0', 1))


def drop_line(files: Files) -> None:
    path = files.site("South") / "ledger.transcript.jsonl"
    path.write_text("".join(path.read_text().splitlines(keepends=True)[1:]))


TAMPERED: dict[str, tuple[str, Callable[[Files], None], str]] = {
    "another payload at the coordinator": ("payload", flip_payload, "other bytes than the ledger charged"),
    "another prompt at the coordinator": ("asked", other_prompt, "another prompt"),
    "another payload in a checkpoint": ("coordinator", other_received, "names another payload"),
    "an update taken away at the coordinator": ("coordinator", drop_update, "no update of it is in the transcript"),
    "a site that is not on the roster": ("coordinator", stranger, "who is not on the roster"),
    "a round taken away at the coordinator": (
        "coordinator",
        lambda files: (files.run / "transcript" / "round-00003.npz").unlink(),
        "has no file of round 3",
    ),
    "a checkpoint taken away": (
        "coordinator",
        lambda files: (files.run / "checkpoints" / "round-00003.npz").unlink(),
        "no checkpoint",
    ),
    "metrics that say that a site did not contribute": ("coordinator", said_metrics, "did not contribute"),
    "another epsilon": ("epsilon", result(lambda r: r["sites"][1].update(epsilon=0.1)), "result.json says 0.1"),
    "another delta": ("epsilon", result(lambda r: r["sites"][1].update(delta=0.1)), "result.json's delta"),
    "another task": ("coordinator", result(lambda r: r.update(task_digest="0" * 64)), "another task digest"),
    "other rounds": ("coordinator", result(lambda r: r["sites"][1].update(rounds_contributed=2)), "2 rounds contributed"),
    "a site dropped from the result": ("coordinator", result(lambda r: r["sites"].pop()), "does not name this site"),
    "a ledger's line changed": ("chain", break_line, "the chain breaks at line 1"),
    "a transcript's line dropped": ("chain", drop_line, "the chain breaks at line 1"),
    "a charge taken away": ("uncharged", ledger(lambda lines: lines.pop(2)), "no charge of this round"),
    "a charge after its delivery": ("order", ledger(later), "older than the charge"),
    "a round charged twice": ("twice", ledger(twice), "charged this round 2 times"),
    "noise used twice": ("twice", ledger(noise_again), "its noise was used again"),
    "less noise charged": ("terms", ledger(body(2, noise_multiplier=9.0)), "noise_multiplier 9.0, the card says 3.0"),
    "another payload charged": ("uncharged", ledger(body(2, payload="e" * 64)), "is on no line of the ledger"),
    "a reply missing in the transcript": ("payload", transcript(forget_round), "in no reply of the hospital's transcript"),
    "a call that is not a hospital's": ("form", transcript(foreign_call), "StartRun is not among those that may leave"),
    "a payload called by another name": ("payload", transcript(other_name), "names another payload than its bytes are"),
    "a delivery that was none": ("payload", transcript(claimed), "its bytes are nowhere in it"),
    "an array that was not charged": ("uncharged", uncharged, "is on no line of the ledger"),
    "an array of another shape": ("form", second_array, "the reply's array is (4, 17)"),
    "a compute time": ("time", with_time, "told 2.5 s of compute time"),
}


OF_ALL = {"another prompt at the coordinator", "another payload in a checkpoint", "a round taken away at the coordinator"}
