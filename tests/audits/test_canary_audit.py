"""The canary audit as a whole: right steps pass, wrong ones are convicted, and a real run's site is opened and checked."""

import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from audits.alarm import ALPHA, EProcess, follow
from audits.canary_audit import audit_folder, audit_site, shadow
from audits.canary_site import shadow_run, updates_of, watched
from audits.subject import Subject
from client.round import answer
from promptward import main
from shared.canaries import Canaries, card_lines, drawn_canaries, new_canaries
from shared.card import Task
from shared.errors import InputError
from shared.files import write_json
from shared.prompt import Array
from shared.scoring import Scorer
from tests.shared.test_canaries import audited

Step = Callable[..., Any]
Capture = pytest.CaptureFixture[str]


@pytest.fixture(scope="module")
def subject(task: Task, scorer: Scorer, prompt: Array) -> Subject:
    """The tiny task with less noise and 30 rounds, so that 60 canaries see enough."""
    text = task.text.replace("noise_multiplier = 3.0", "noise_multiplier = 1.0").replace("rounds = 6", "rounds = 30")
    return Subject(Task.parse(text, "tiny.toml"), scorer, (prompt,))


def quieter(ratio: float) -> Step:
    def step(pool: Any, prompt: Any, plan: Any, *rest: Any) -> Any:
        one = plan.mechanism
        return answer(pool, prompt, replace(plan, mechanism=replace(one, noise_multiplier=one.noise_multiplier * ratio)), *rest)

    return step


def unclipped(pool: Any, prompt: Any, plan: Any, *rest: Any) -> Any:
    """Clips at four clip norms, with the noise of one."""
    one = plan.mechanism
    wide = replace(one, clip_norm=4 * one.clip_norm, noise_multiplier=one.noise_multiplier / 4)
    return 4 * answer(pool, prompt, replace(plan, mechanism=wide), *rest)


def test_a_right_step_passes_and_every_bound_says_what_it_means(subject: Subject) -> None:
    section = shadow(subject, data=24)
    assert section.passed, section.findings
    assert section.facts
    rows = {row["name"]: row for row in section.facts["estimators"]}
    assert len(rows) == 6
    whole = rows["per step, Gaussian noise"]
    assert 0.2 < whole["bound"] / whole["claim"] < 1.4  # randomness is the system's: one run in twenty is above 1
    assert all(row["claim"] > 0 for row in rows.values())
    assert len(section.facts["log_e"]) == 30
    [mark] = section.marks
    assert mark.ceiling
    assert mark.baseline == 0.5
    assert mark.low - 0.05 <= mark.ceiling
    assert mark.control
    assert mark.control > 0.9  # who sees the sums without noise knows nearly every canary
    [curve] = section.curves
    assert curve.ceiling[0] >= 0
    assert all(a <= b + 1e-9 for a, b in zip(curve.ceiling, curve.ceiling[1:], strict=False))
    assert section.facts["energy"]["in_prompt"] == 0
    assert section.facts["energy"]["in_own_update"] == pytest.approx(64 * 0.5 / (2 * 64))
    json.dumps(section.facts)


def nothing(pool: Any, *rest: Any) -> Any:
    """Sends noise alone."""
    return answer(replace(pool, records=()), *rest)


@pytest.mark.parametrize(
    ("step", "said"),
    [
        (quieter(0.5), "A step shows"),
        (quieter(0.75), "Round by round"),
        (unclipped, "A step shows"),
        (nothing, "The canaries were in"),
    ],
    ids=["half the noise", "x0.75", "no clip", "noise alone"],
)
def test_wrong_steps_are_convicted(subject: Subject, step: Step, said: str) -> None:
    section = shadow(replace(subject, step=step), data=0)
    assert not section.passed
    assert any(finding.startswith(said) for finding in section.findings), section.findings


def test_several_local_steps_keep_their_claim(subject: Subject) -> None:
    text = subject.task.text.replace("rounds = 30", "rounds = 10\nlocal_steps = 3")
    section = shadow(replace(subject, task=Task.parse(text, "tiny.toml")), data=0)
    assert section.passed, section.findings
    assert section.facts
    bound = section.facts["estimators"][1]
    assert 0 < bound["bound"] / bound["claim"] < 1.4  # randomness is the system's: one run in twenty is above 1


def test_the_e_process_rarely_rings_on_right_noise_and_at_once_on_wrong() -> None:
    random, size, rounds = np.random.default_rng(3), 500, 20
    rung = 0
    for _ in range(300):
        process, highest = EProcess.start(), 0.0
        clean = (random.random(size) < 0.1).astype(float)
        for _round in range(rounds):
            process = process.then(clean + random.normal(0, 2.0, size), clean, 2.0)
            highest = max(highest, process.log_e)
        rung += highest >= math.log(20)
    assert rung <= 25  # 300 runs at 1 / alpha = 20: 15 expected at most, 25 has probability under 1 %
    for noise, reach in ((0.75, 1.0), (1.0, 4.0)):
        process = EProcess.start()
        for _round in range(3):
            process = process.then(reach * clean + random.normal(0, 2.0 * noise, size), clean, 2.0)
        assert process.log_e > -math.log(ALPHA)
    process = EProcess.start().then(clean + random.normal(0, 2.4, size), clean, 2.0)
    assert process.log_e < 0  # more noise than claimed is no alarm


def run_folder(folder: Path, subject: Subject, step: Step = answer) -> tuple[Path, Task, Canaries]:
    """Write what `serve` leaves of an audit site, by the site's own step."""
    file = folder / "watch.canaries"
    canaries = new_canaries(subject.task.card, "Watch", (4, 16), 64, 5, file)
    task = audited(subject.task, card_lines(canaries))
    updates = shadow_run(replace(subject, task=task, step=step), watched(task, canaries, "run1"))
    (folder / "transcript").mkdir()
    (folder / "task.toml").write_text(task.text)
    write_json(folder / "run.json", {"run": "run1"})
    write_json(folder / "state.json", {"ended": True})
    for number, update in updates.items():
        if number != 7:  # the site was away
            np.savez(folder / "transcript" / f"round-{number:05d}.npz", **{"update/Watch": update})
        else:
            np.savez(folder / "transcript" / f"round-{number:05d}.npz", broadcast=subject.prompts[0])
    return file, task, canaries


def test_a_real_runs_site_is_opened_and_checked(subject: Subject, tmp_path: Path) -> None:
    file, task, canaries = run_folder(tmp_path, subject)
    [section] = audit_folder(task, tmp_path, ("run1",), file)
    assert section.passed, section.findings
    assert section.facts
    assert section.facts["commitment"] == canaries.commitment
    assert section.facts["opening"]["secret"] == canaries.table.secret
    assert 7 not in section.facts["rounds"]
    updates = updates_of(tmp_path, "run1", "Watch")
    with pytest.raises(InputError, match="commitment"):
        audit_site(task, drawn_canaries(task.card, "Watch", (4, 16), 60, 3), "run1", updates)
    assert not audit_site(task, canaries, "another run", updates).passed  # draws follow from the run's name too
    [nothing] = audit_site(task, canaries, "run1", {}).verdicts
    assert nothing.holds is None


def test_following_a_run_says_a_line_a_round_and_rings(subject: Subject, tmp_path: Path, capsys: Capture) -> None:
    (tmp_path / "right").mkdir()
    (tmp_path / "wrong").mkdir()
    file, *_ = run_folder(tmp_path / "right", subject)
    said: list[str] = []
    assert follow(tmp_path / "right", file, said.append, look=0.0) == 0
    assert len(said) == 31
    assert "sent nothing that counts" in said[6]
    assert "proves nothing" in said[-1]
    file, *_ = run_folder(tmp_path / "wrong", subject, quieter(0.75))
    assert main(["audit", str(tmp_path / "wrong"), "--follow", "--canaries", str(file)]) == 1
    last = capsys.readouterr().out.splitlines()[-1]
    assert "ALARM" in last
    assert "does not fit the claimed noise multiplier 1" in last
    assert main(["audit", str(tmp_path / "wrong"), "--follow"]) == 2


def test_the_command_makes_and_shows_a_file_without_its_secret(task: Task, tmp_path: Path, capsys: Capture) -> None:
    (tmp_path / "task.toml").write_text(task.text)
    file = tmp_path / "watch.canaries"
    made = f"canaries new {tmp_path / 'task.toml'} --site Watch --count 64 --segments 3 --out {file}".split()
    assert main(made) == 0
    told = capsys.readouterr().out
    lines = told[told.index("[audit]") :]
    assert audited(task, lines).card.audit
    assert main(["canaries", "show", str(file), "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["commitment"] in lines
    secret = file.read_text().split('secret = "')[1][:64]
    assert secret not in told + json.dumps(shown)
    assert main(made) == 2
