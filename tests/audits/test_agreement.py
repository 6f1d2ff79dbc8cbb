"""The books of a federation agree; whatever is changed in one of them is found, and named."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flwr.app import Message

import promptward
from audits.finding import CHECKS
from client.chain import GENESIS, Chain, link, read_chain
from client.round import Pool
from client.transcript import Transcript
from shared.card import Task
from shared.flower import give_id, identify
from shared.prompt import Array
from shared.scoring import Scorer
from shared.wire import Request, pack_reply, pack_request
from tests.books import Files, play, record_reply


@pytest.fixture
def files(played: Files, tmp_path: Path) -> Files:
    """A copy to change."""
    for name in ("run", "sites"):
        shutil.copytree(played.run.parent / name, tmp_path / name)
    return Files(tmp_path / "run", tmp_path / "sites")


def audited(files: Files, *more: str) -> int:
    return promptward.main(["audit", str(files.run), "--site", str(files.site("North")), str(files.site("South")), *more])


def findings(files: Files) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads((files.run / "audit.json").read_text())["audits"]["agreement"]["findings"]
    return found


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


def test_an_honest_federation_agrees(files: Files, capsys: pytest.CaptureFixture[str]) -> None:
    assert audited(files, "--json") == 0
    found = json.loads(capsys.readouterr().out)
    agreement = found["audits"]["agreement"]
    assert found["passed"]
    assert agreement["summary"] == "Everything agrees: 12 payloads of 12 site rounds were compared."
    assert {mark for check in agreement["checks"].values() for mark in check["sites"].values()} == {"agrees"}
    for site in agreement["sites"]:
        assert site["epsilon_published"] == site["epsilon_of_what_arrived"] == site["epsilon_charged"]
        assert all(row["charged"] == row["sent"] == row["held"] for row in site["rounds"])
    page = (files.run / "audit.html").read_text()
    assert "Everything agrees" in page
    assert "http" not in page.replace("http-equiv", "")


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


@pytest.mark.parametrize("what", TAMPERED)
def test_tampering_is_found_and_named(files: Files, what: str, capsys: pytest.CaptureFixture[str]) -> None:
    check, tamper, said = TAMPERED[what]
    tamper(files)
    assert audited(files) == 1
    found = [finding for finding in findings(files) if finding["check"] == check and said in finding["says"]]
    assert found, findings(files)
    named = {finding["site"] for finding in findings(files)}
    assert named <= {"South", "West", None} or what in OF_ALL  # nobody else is accused
    assert said in capsys.readouterr().out
    assert said.replace("'", "&#39;") in (files.run / "audit.html").read_text()


def test_every_check_is_convicted() -> None:
    assert {check for check, _, _ in TAMPERED.values()} == set(CHECKS)


def test_a_site_that_was_left_out_agrees_with_what_it_charged(
    task: Task, scorer: Scorer, prompt: Array, patients: Pool, tmp_path: Path
) -> None:
    loose = Task.parse(task.text.replace("rounds = 6", "rounds = 6\nquorum = 1"), "loose.toml")
    files = play(loose, scorer, prompt, patients, tmp_path, epsilon=0.75)
    assert audited(files) == 0
    rows = json.loads((files.run / "audit.json").read_text())["audits"]["agreement"]["sites"][1]["rounds"]
    said = [row["says"] for row in rows]
    assert said[0] == "counted"
    assert said[-1].startswith("did not take part: it answered with error code 4242")


def test_charges_of_other_tasks_and_of_published_counts_are_no_disagreement(files: Files) -> None:
    def more(lines: list[dict[str, Any]]) -> None:
        for number, kind in enumerate(("metric", "metric", "training")):
            other = {"task": "f" * 64, "run": "other"} if kind == "training" else {"run": "", "round": 0}
            lines.append(
                {"time": lines[-1]["time"], "body": lines[0]["body"] | other | {"kind": kind, "payload": f"{number:064d}"}}
            )

    rewritten(files.site("South") / "ledger.jsonl", more)
    assert audited(files) == 0


def test_who_showed_nothing_is_named(files: Files) -> None:
    assert promptward.main(["audit", str(files.run), "--site", str(files.site("North"))]) == 0
    agreement = json.loads((files.run / "audit.json").read_text())["audits"]["agreement"]
    assert agreement["not_shown"] == ["South"]
    assert "Not looked at, because no files were shown: South." in agreement["summary"]
    assert agreement["checks"]["payload"]["sites"] == {"North": "agrees", "South": "–"}


def test_a_ledger_alone_says_less(files: Files) -> None:
    assert promptward.main(["audit", str(files.run), "--ledger", str(files.site("South") / "ledger.jsonl")]) == 0
    checks = json.loads((files.run / "audit.json").read_text())["audits"]["agreement"]["checks"]
    assert checks["time"]["sites"]["South"] == "–"
    assert checks["payload"]["sites"]["South"] == "agrees"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["nowhere"], "there is no such folder"),
        (["run"], "no hospital's files were given"),
        (["run", "--site", "nowhere"], "there is no transcript"),
        (["run", "--site", "run/task.toml"], "a transcript's name ends in .transcript.jsonl"),
        (["run", "--ledger", "nowhere.jsonl"], "there is no such ledger"),
        (["run", "--site", "sites/North", "sites/again"], "the files of North were given twice"),
        (["run", "--ledger", "sites/nobody/ledger.jsonl"], "holds no payload of this ledger"),
        (["broken", "--site", "sites/North"], "no whole file of a round"),
        (["unfinished", "--site", "sites/North"], "result.json: cannot be read"),
    ],
)
def test_wrong_input_is_said_in_a_sentence(
    files: Files, words: list[str], said: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(files.run.parent)
    shutil.copytree("sites/North", "sites/again")
    Path("sites/nobody").mkdir()
    Path("sites/nobody/ledger.jsonl").touch()
    for name in ("broken", "unfinished"):
        shutil.copytree("run", name)
    Path("broken/transcript/round-00002.npz").write_bytes(b"PK")
    Path("unfinished/result.json").unlink()
    assert promptward.main(["audit", *words]) == 2
    told = capsys.readouterr().err
    assert said in told
    assert told.count("\n") == 1
