"""The books of a federation agree; whatever is changed in one of them is found, and named."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

import promptward
from audits.finding import CHECKS
from client.round import Pool
from shared.card import Task
from shared.prompt import Array
from shared.scoring import Scorer
from tests.audits.tampering import OF_ALL, TAMPERED, rewritten
from tests.books import Files, play

FILES = "--files-only"  # the installed code is put to the test elsewhere


@pytest.fixture
def files(played: Files, tmp_path: Path) -> Files:
    """A copy to change."""
    for name in ("run", "sites"):
        shutil.copytree(played.run.parent / name, tmp_path / name)
    return Files(tmp_path / "run", tmp_path / "sites")


def audited(files: Files, *more: str) -> int:
    return promptward.main(["audit", str(files.run), "--site", str(files.site("North")), str(files.site("South")), FILES, *more])


def findings(files: Files) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads((files.run / "audit.json").read_text())["audits"]["agreement"]["findings"]
    return found


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
    assert "by the call that carried it" in page
    assert "<td>PushObject</td>" in page
    assert "http" not in page.replace("http-equiv", "")


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
    assert promptward.main(["audit", str(files.run), "--site", str(files.site("North")), FILES]) == 0
    agreement = json.loads((files.run / "audit.json").read_text())["audits"]["agreement"]
    assert agreement["not_shown"] == ["South"]
    assert "Not looked at, because no files were shown: South." in agreement["summary"]
    assert agreement["checks"]["payload"]["sites"] == {"North": "agrees", "South": "–"}


def test_a_ledger_alone_says_less(files: Files) -> None:
    assert promptward.main(["audit", str(files.run), "--ledger", str(files.site("South") / "ledger.jsonl"), FILES]) == 0
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
    assert promptward.main(["audit", *words, FILES]) == 2
    told = capsys.readouterr().err
    assert said in told
    assert told.count("\n") == 1
