"""`promptward audit` as its user runs it: every layer on a small simulation, one page and one JSON file."""

import json
from pathlib import Path
from typing import Any

import pytest

import promptward
from audits.attacks import suite
from audits.attacks.scenes import Sizes
from audits.inclusion import inclusion
from audits.replay import replay
from audits.residual import residual
from audits.subject import Subject
from shared.card import Task
from shared.scoring import build
from tests.audits.conftest import simulated


@pytest.mark.slow
def test_every_layer_is_in_the_report(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    simulated(run)
    capsys.readouterr()
    code = promptward.main(["audit", str(run), "--json"])
    facts: dict[str, Any] = json.loads(capsys.readouterr().out)
    sections = {title: audit for title, audit in facts["audits"].items() if title != "agreement"}
    layers = {verdict["layer"] for section in sections.values() for verdict in section["verdicts"]}
    assert layers == {"L0", "L1", "L2", "L3", "L4", "L5"}
    failed = [v for section in sections.values() for v in section["verdicts"] if v["holds"] is False]
    assert code == (1 if failed else 0)
    assert not failed, failed
    marks = [mark for section in sections.values() for mark in section["marks"]]
    assert {"Who took part, whole run, the run's own patients", "Who was drawn, one update"} <= {mark["name"] for mark in marks}
    assert all(0 <= mark["low"] <= mark["measured"] <= mark["high"] <= 1 for mark in marks)
    page = (run / "audit.html").read_text()
    for words in ("how often the attacker is right", "A low measured epsilon proves nothing", "Epsilon after so many rounds"):
        assert words in page
    assert "http" not in page.replace("http://www.w3.org", "").replace("http://purl.org", "").replace(
        "http://creativecommons.org", ""
    )


def test_a_model_that_is_not_here_leaves_the_installed_code_out(
    run: Path,
    backbone_folder: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    simulated(run)
    card = run / "task.toml"
    moved = card.read_text().replace(str(backbone_folder), "/nowhere")
    monkeypatch.setattr("audits.audit_command.build", _missing(moved))
    assert promptward.main(["audit", str(run)]) == 0
    said = capsys.readouterr().out
    assert "the model cannot be loaded" in said
    assert "/nowhere" in said


def _missing(text: str) -> Any:
    return lambda _card: build(Task.parse(text, "task.toml").card)


def test_a_hospital_of_images_is_put_to_the_test_with_images_of_noise() -> None:
    task = Task.load("chest-xray")
    scorer, prompt = build(task.card)
    subject = Subject(task, scorer, (prompt,))
    small = Sizes(candidates=24, draws=4, control_draws=2, roamers=12, rounds=2, cohort=4, shadows=4, shadow_patients=8)
    attacks = [section for part in suite.parts(subject, None, False, small) for section in part()]
    sections = [replay(subject), residual(subject), inclusion(subject), *attacks]
    assert all(section.passed for section in sections)
    assert len(sections) == 7  # of one update only who was drawn: an image has no fields
