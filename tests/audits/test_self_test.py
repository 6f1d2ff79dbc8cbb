"""Every bug is found by a layer that docs/audits.md names for it, and right code is accused by none."""

import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import promptward
from audits.bugs import BUGS, STEP_BUGS, Bug
from audits.bugs_step import Parts
from audits.self_test import LAYERS, accuse, examine, self_test
from audits.subject import Subject
from client.round import Pool, answer
from shared.card import Task
from shared.privacy.source import SimulationSource

ROOT = Path(__file__).parents[2]
FOUND = "found"


def documented() -> dict[str, list[str]]:
    """Return bug -> layers that find it, from the table of docs/audits.md."""
    rows = re.findall(r"^\| \d+ \| [AB] \| ([^|]+) \| (.+) \|$", (ROOT / "docs/audits.md").read_text(), re.MULTILINE)
    return {
        what: [layer.name for layer, mark in zip(LAYERS, marks.split(" | "), strict=False) if mark == FOUND] for what, marks in rows
    }


def test_the_page_names_every_bug_and_at_least_one_layer_for_each() -> None:
    page = documented()
    assert list(page) == [bug.what for bug in BUGS]
    assert len(page) >= 24
    assert all(page.values())


@pytest.mark.parametrize("bug", BUGS, ids=lambda bug: bug.what)
def test_a_bug_is_found_by_a_layer_that_the_page_names(subject: Subject, bug: Bug) -> None:
    named = documented()[bug.what]
    assert any(examine(subject, bug, [layer]).found for layer in LAYERS if layer.name in named)


@pytest.mark.parametrize("steps", [1, 3])
def test_the_parts_of_a_step_are_the_step(subject: Subject, patients: Pool, steps: int) -> None:
    """So a bug is what its one part does."""
    plan = replace(subject.plan, steps=steps)
    args = (patients, subject.prompts[0], plan, subject.scorer, SimulationSource(1), "run", "North", 1)
    assert np.array_equal(Parts()(*args), answer(*args))


def test_right_code_is_accused_by_no_layer(subject: Subject, float_subject: Subject) -> None:
    for right in (subject, float_subject, with_steps(subject, 2)):
        found = accuse(right)
        assert found.refuted == {layer.name: [] for layer in LAYERS}
        assert 0.9 < found.ratio < 1.1


def with_steps(subject: Subject, steps: int) -> Subject:
    text = subject.task.text.replace("rounds = 6", f"rounds = 6\nlocal_steps = {steps}")
    return replace(subject, task=Task.parse(text, "steps.toml"))


@pytest.mark.parametrize("bug", [b for b in STEP_BUGS if "bfloat16" not in b.what][4:15:5], ids=lambda bug: bug.what)
def test_bugs_are_found_on_the_float_path_too(float_subject: Subject, bug: Bug) -> None:
    named = documented()[bug.what]
    assert any(examine(float_subject, bug, [layer]).found for layer in LAYERS if layer.name in named)


@pytest.mark.slow
def test_ten_clean_runs_raise_no_alarm(subject: Subject) -> None:
    """Some twenty claims at a level of 1e-4 each: one alarm in fifty times ten runs."""
    assert [accuse(subject).refuted for _ in range(10)] == [{layer.name: [] for layer in LAYERS}] * 10


def command(subject: Subject, folder: Path, *more: str) -> int:
    card = folder / "tiny.toml"
    card.write_text(subject.task.text)
    return promptward.main(["audit", "--self-test", "--task", str(card), "--processes", "1", *more])


def test_the_command_prints_the_matrix(
    subject: Subject, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("audits.self_test.BUGS", BUGS[-3:])  # the whole matrix takes a minute
    assert command(subject, tmp_path, "--out", str(tmp_path / "out")) == 0
    told = capsys.readouterr().out
    assert "3 of 3 bugs were found" in told
    assert "0 of 1 runs on a right hospital raised a false alarm" in told
    facts = json.loads((tmp_path / "out" / "self-test.json").read_text())
    assert facts["passed"]
    assert [bug["what"] for bug in facts["bugs"]] == [bug.what for bug in BUGS[-3:]]


def test_a_bug_that_nobody_finds_fails_the_command(
    subject: Subject, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("audits.self_test.BUGS", (Bug(0, "B", "a bug that is none", step=Parts),))
    assert command(subject, tmp_path, "--json") == 1
    facts = json.loads(capsys.readouterr().out)
    assert facts["missed"] == ["a bug that is none"]
    assert facts["clean"]["accused"] == 0


def test_a_right_hospital_that_is_accused_fails_the_command(
    subject: Subject, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("audits.self_test.BUGS", ())
    halved = next(bug for bug in BUGS if bug.what == "the noise is halved").put(subject)
    monkeypatch.setattr("audits.self_test.subject_of", lambda _task: halved)
    assert command(subject, tmp_path) == 1
    assert "False alarm: L2 noise" in capsys.readouterr().out


@pytest.mark.slow
def test_several_processes_say_the_same(subject: Subject) -> None:
    found = self_test(subject.task, runs=1, processes=2, bugs=[0, len(BUGS) - 1])
    assert [row.what for row in found.rows] == [BUGS[0].what, BUGS[-1].what]
    assert found.passed


@pytest.mark.parametrize(
    ("words", "said"), [([], "no run was named"), (["--self-test", "--runs", "0"], "give a number of 1 or more")]
)
def test_wrong_input_is_said_in_a_sentence(words: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert promptward.main(["audit", *words]) == 2
    assert said in capsys.readouterr().err
