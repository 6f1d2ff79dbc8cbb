import pytest

from audits.subject import Subject
from shared.card import Task
from shared.prompt import Array
from shared.scoring import Scorer


@pytest.fixture(scope="session")
def subject(task: Task, scorer: Scorer, prompt: Array) -> Subject:
    """The installed code on the tiny card."""
    return Subject(task, scorer, (prompt,))


@pytest.fixture(scope="session")
def float_subject(task: Task, scorer: Scorer, prompt: Array) -> Subject:
    """The same on the float path."""
    text = task.text.replace("[privacy]", '[privacy]\nmechanism = "gaussian"')
    return Subject(Task.parse(text, "float.toml"), scorer, (prompt,))
