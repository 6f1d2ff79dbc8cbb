"""A simulation's run directory holds the ledgers of every seed beside the coordinator's files: they agree, or do not."""

import json
from pathlib import Path
from typing import Any

import pytest

import promptward
from tests.audits.conftest import simulated


def agreement(run: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((run / "audit.json").read_text())["audits"]["agreement"]
    return found


def test_the_books_of_every_seed_agree(run: Path) -> None:
    simulated(run, "--seeds", "2")
    assert promptward.main(["audit", str(run), "--files-only"]) == 0
    found = agreement(run)
    assert found["summary"] == "Everything agrees: 8 payloads of 8 site rounds were compared."
    assert found["checks"]["order"]["sites"] == {"North": "agrees", "South": "agrees"}
    assert found["checks"]["time"]["sites"] == {"North": "–", "South": "–"}  # no transcript of a wire
    [ledger] = run.glob("ledgers/seed1/South/ledger.jsonl")
    ledger.write_text("".join(ledger.read_text().splitlines(keepends=True)[:1]))
    assert promptward.main(["audit", str(run), "--files-only"]) == 1
    assert {(finding["site"], finding["run"]) for finding in agreement(run)["findings"] if finding["round"]} == {("South", "seed1")}


def test_without_privacy_there_is_nothing_to_audit(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    simulated(run, "--no-privacy")
    assert promptward.main(["audit", str(run), "--files-only"]) == 2
    assert "this run had privacy off" in capsys.readouterr().err
