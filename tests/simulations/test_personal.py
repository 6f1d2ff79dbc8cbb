"""Sites' own prompts in a simulation: both engines agree, they are scored beside the shared one, and the audits still hold."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import promptward
from audits.conduct import conduct
from audits.coordinator import read_arrays
from audits.installed import _seen
from audits.patients import Known
from audits.subject import Subject
from client.ledger import read_ledger
from client.opening import shelf_of
from client.personal import points, rule_of
from shared.card import Task
from shared.peft_format import load_prompt
from shared.privacy.planned import mechanism_of
from shared.prompt import Array
from shared.scoring import Scorer
from simulations.evaluate import Scores
from simulations.personal import gain
from tests.conftest import card_text, make_cohort


@pytest.fixture
def home(tmp_path: Path, backbone_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    rows = [f"{20 + n // 2},{50 + n % 60},{'pos' if n > 60 else 'neg'},{'North' if n % 3 else 'South'}" for n in range(120)]
    (tmp_path / "rows.csv").write_text("age,pulse,dx,place\n" + "\n".join(rows) + "\n")
    (tmp_path / "study.toml").write_text(
        'schema = 1\n[data]\npath = "rows.csv"\nlabel = "dx"\nlabels = { neg = "well", pos = "sick" }\nsite = "place"\n'
    )
    own = "\n[plan.personal]\nlearning_rate = 0.2\npull = 2.0\n"
    (tmp_path / "card.toml").write_text(card_text(backbone_folder) + own)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def simulate(out: str, *more: str) -> dict[str, Any]:
    assert promptward.main(["simulate", "card.toml", "--data", "study.toml", "--out", out, *more]) == 0
    found: dict[str, Any] = json.loads(Path(out, "result.json").read_text())
    return found


def own_of(out: str, site: str) -> Array:
    return load_prompt(Path(out, "personal", site))[0]


def test_both_engines_keep_the_same_prompts_and_the_books_agree(home: Path, scorer: Scorer) -> None:
    one, other = simulate("one", "--seeds", "2"), simulate("other", "--seeds", "2", "--engine", "batched")
    for site in ("North", "South"):
        np.testing.assert_allclose(own_of("one", site), own_of("other", site), atol=2e-3)
        assert np.abs(own_of("one", site) - load_prompt(Path("one", "prompt"))[0]).max() > 0.01
        assert json.loads(Path("one", "personal", site, "promptward.json").read_text())["personal"]["site"] == site
    assert np.abs(own_of("one", "North") - own_of("one", "South")).max() > 0.01
    told = other["metrics"]["personal"]
    assert set(told["per_site"]) == {"North", "South"}
    assert len(told["gain_mean_of_sites_accuracy"]["values"]) == 2
    assert told["per_site"]["North"]["accuracy"] == pytest.approx(
        one["metrics"]["personal"]["per_site"]["North"]["accuracy"], abs=0.1
    )
    assert "Each hospital's own prompt" in Path("one", "report.html").read_text()
    assert one["sites"][0]["releases"] == 6  # no release beyond the rounds'
    assert promptward.main(["audit", "one", "--files-only"]) == 0
    assert promptward.main(["audit", "other", "--files-only"]) == 0
    prompts_follow_from_what_left("one", scorer)


def prompts_follow_from_what_left(out: str, scorer: Scorer) -> None:
    """Anyone with transcript and card computes the sites' own prompts, and the membership attack does."""
    task, arrays = Task.load(f"{out}/task.toml"), read_arrays(Path(out))["seed0"]
    rule = rule_of(task.card, mechanism_of(task.card))
    assert rule is not None
    state = None
    for round_, broadcast in enumerate(arrays.broadcasts, start=1):
        state = rule.moved(state, broadcast, arrays.updates["North"][round_], round_)
    assert state is not None
    assert state.published.tobytes() == own_of(out, "North").tobytes()
    subject = Subject(task, scorer, arrays.broadcasts)
    assert conduct(subject).passed  # a hospital that keeps a prompt of its own sends, charges and resends as any other
    known = {"North": Known(make_cohort(task, 4, 1), make_cohort(task, 4, 2))}
    seen = _seen(subject, arrays.updates, known)["North"]
    assert [p.tobytes() for p in seen.prompts] == [p.tobytes() for p in points(rule, arrays.broadcasts, arrays.updates["North"])]
    assert seen.prompts[1].tobytes() != arrays.broadcasts[1].tobytes()
    without = task.card.model_copy(update={"plan": task.card.plan.model_copy(update={"personal": None})})
    shared = replace(subject, task=Task(without, task.text, task.digest))
    assert _seen(shared, arrays.updates, known)["North"].prompts == ()


@pytest.mark.parametrize(("engine", "private"), [("in-process", True), ("batched", False)])
def test_an_interrupted_run_goes_on_to_the_same_prompts(engine: str, private: bool, home: Path) -> None:
    more = ("--engine", engine, *(() if private else ("--no-privacy",)))
    simulate("whole", *more)
    shutil.copytree("whole", "half")
    (home / "half" / "checkpoints" / "seed0" / "round-00006.npz").unlink()
    (home / "half" / "result.json").unlink()
    assert promptward.main(["simulate", "--resume", "half"]) == 0  # the sites answered round 6 already
    for site in ("North", "South"):
        assert own_of("half", site).tobytes() == own_of("whole", site).tobytes()


def test_a_site_that_is_missing_moves_when_it_pays(home: Path) -> None:
    missing = ("--sites", "6", "--partition", "iid", "--dropout", "0.3", "--stragglers", "0.2")
    one = simulate("one", *missing)
    simulate("other", *missing, "--engine", "batched")
    task = Task.load("one/task.toml")
    moves = []
    for site in task.card.plan.sites:
        np.testing.assert_allclose(own_of("one", site), own_of("other", site), atol=2e-3)
        ledger = home / "one" / "ledgers" / "seed0" / site / "ledger.jsonl"
        shelf, events = shelf_of(task.card, mechanism_of(task.card), ledger), read_ledger(ledger)
        assert shelf is not None
        state = shelf.newest(task.digest, "seed0", events)
        assert state is not None
        assert state.moves == len(events)
        moves.append(state.moves)
    assert min(moves) < 6
    assert sum(moves) > sum(site["rounds_contributed"] for site in one["sites"])  # stragglers paid for what did not count


def test_the_gain_is_paired_by_seed() -> None:
    own, shared = ([Scores(None, 0.5, mean, 0.5, {}) for mean in means] for means in ((0.8, 0.9, 0.7), (0.7, 0.8, 0.6)))
    found = gain(own, shared)
    assert found["mean"] == pytest.approx(0.1)
    assert found["ci95_over_seeds"] == pytest.approx([0.1, 0.1])  # seeds differ, the difference does not
    assert gain(own[:1], shared[:1])["ci95_over_seeds"] is None
    low, high = gain(own, list(reversed(shared)))["ci95_over_seeds"]
    assert low == pytest.approx(0.1 - 4.302653 * 0.1 / 3**0.5)  # Student, 2 degrees of freedom; differences .2, .1, 0
    assert high == pytest.approx(0.1 + 4.302653 * 0.1 / 3**0.5)
