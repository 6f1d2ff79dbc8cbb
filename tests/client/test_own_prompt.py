"""`promptward prompts personal` at a hospital: from its files to a prompt folder that predicts and is not handed on by accident."""

import json
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

import promptward
from client.opening import open_hospital, shelf_of
from client.personal import points, rule_of
from client.site import load_site
from shared.card import Task
from shared.peft_format import load_prompt
from shared.privacy.planned import mechanism_of
from shared.prompt import Array
from shared.wire import Request, unpack_reply


@pytest.fixture
def home(tmp_path: Path, task: Task, prompt: Array, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A hospital that answered three rounds of a run on a card with [plan.personal], from files alone."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PROMPTWARD_LIBRARY", str(tmp_path / "library"))
    Path("card.toml").write_text(task.text + "\n[plan.personal]\nlearning_rate = 0.2\npull = 2.0\n")
    card = Task.load("card.toml")
    rows = [f"p{n},{25 + n},{60 + n},{'pos' if n > 20 else 'neg'}" for n in range(45)]
    Path("rows.csv").write_text("who,age,pulse,dx\n" + "\n".join(rows) + "\n")
    Path("site.toml").write_text(
        'schema = 1\nsite = "North"\n[data]\npath = "rows.csv"\nlabel = "dx"\nlabels = { neg = "well", pos = "sick" }\n'
        f'patient = "who"\n[ledger]\npath = "north.jsonl"\n[policy]\nepsilon = 2.0\ndelta = 1e-4\ntasks = ["{card.digest}"]\n'
    )
    updates = {}
    with closing(open_hospital(load_site(Path("site.toml")), card)) as hospital:
        for round_ in (1, 2, 3):
            reply = hospital.respond(Request(card.digest, "run1", round_, prompt))
            assert list(reply) == ["update"]
            updates[round_] = unpack_reply(reply, np.dtype(np.int32))
    rule = rule_of(card.card, hospital.proposal.plan.mechanism)
    assert rule is not None
    np.save("expected.npy", points(rule, [prompt] * 4, updates)[3])  # where a fourth round would start: w_k after three
    return tmp_path


def said(capsys: pytest.CaptureFixture[str], *words: str, code: int = 0) -> str:
    capsys.readouterr()
    assert promptward.main([*words]) == code
    out = capsys.readouterr()
    return out.err if code else out.out


def test_a_site_writes_its_own_prompt_and_uses_it(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = json.loads(said(capsys, "prompts", "personal", "site.toml", "card.toml", "own", "--json"))
    assert (found["run"], found["rounds"]) == ("run1", 3)
    written, facts = load_prompt(Path("own"))
    np.testing.assert_allclose(written, np.load("expected.npy"), atol=1e-6)
    assert facts["personal"]["say"].startswith("personal to North, not to be shared")
    north, south = facts["sites"]
    assert 0 < north["epsilon"] < south["epsilon"]  # three rounds on the ledger; the whole plan for whom it does not know
    assert (north["planned"], south["planned"]) == (False, True)
    assert Path("own").stat().st_mode & 0o077 == 0
    Path("new.csv").write_text("age,pulse\n30,60\n70,110\n")
    assert len(json.loads(said(capsys, "predict", "own", "new.csv", "--json"))["predictions"]) == 2
    assert "personal to North" in said(capsys, "prompts", "show", "own")


def test_it_is_handed_on_only_where_the_site_says_so(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    said(capsys, "prompts", "personal", "site.toml", "card.toml", "own", "--run", "run1")
    refused = said(capsys, "prompts", "export", "own", "out", code=2)
    assert "North's own prompt; handing it on costs no epsilon, but is that site's decision: add --personal" in refused
    assert not Path("out").exists()
    said(capsys, "prompts", "import", "own", "--name", "mine")  # a library of the site's own; it remembers
    said(capsys, "prompts", "export", "mine", "out", code=2)
    said(capsys, "prompts", "export", "mine", "out", "--personal")
    assert Path("out", "promptward.json").read_bytes() == Path("own", "promptward.json").read_bytes()


def test_what_is_not_there_is_said(home: Path, task: Task, capsys: pytest.CaptureFixture[str]) -> None:
    Path("plain.toml").write_text(task.text)
    words = ("prompts", "personal", "site.toml")
    assert "has no [plan.personal]" in said(capsys, *words, "plain.toml", "own", code=2)
    assert "there is run1; name one" in said(capsys, *words, "card.toml", "own", "--run", "other", code=2)
    card = Task.load("card.toml")
    shelf = shelf_of(card.card, mechanism_of(card.card), Path("north.jsonl"))
    assert shelf is not None
    for path in shelf.folder.iterdir():
        path.unlink()
    assert "own prompt after round 3, is gone; put its newest copy back" in said(capsys, *words, "card.toml", "own", code=2)
