from pathlib import Path

import pytest

import promptward
from audits.subject import Subject
from shared.card import Task
from shared.prompt import Array
from shared.scoring import Scorer
from tests.conftest import card_text


@pytest.fixture(scope="session")
def subject(task: Task, scorer: Scorer, prompt: Array) -> Subject:
    """The installed code on the tiny card."""
    return Subject(task, scorer, (prompt,))


@pytest.fixture(scope="session")
def float_subject(task: Task, scorer: Scorer, prompt: Array) -> Subject:
    """The same on the float path."""
    text = task.text.replace("[privacy]", '[privacy]\nmechanism = "gaussian"')
    return Subject(Task.parse(text, "float.toml"), scorer, (prompt,))


@pytest.fixture
def run(tmp_path: Path, backbone_folder: Path) -> Path:
    rows = [f"{20 + n},{50 + n},{'pos' if n > 30 else 'neg'},{'North' if n % 2 else 'South'}" for n in range(60)]
    (tmp_path / "rows.csv").write_text("age,pulse,dx,place\n" + "\n".join(rows) + "\n")
    (tmp_path / "study.toml").write_text(
        'schema = 1\n[data]\npath = "rows.csv"\nlabel = "dx"\nlabels = { neg = "well", pos = "sick" }\nsite = "place"\n'
    )
    (tmp_path / "card.toml").write_text(card_text(backbone_folder).replace("rounds = 6", "rounds = 2"))
    return tmp_path / "run"


def simulated(run: Path, *more: str) -> None:
    words = ["simulate", str(run.parent / "card.toml"), "--data", str(run.parent / "study.toml"), "--out", str(run), *more]
    assert promptward.main(words) == 0
