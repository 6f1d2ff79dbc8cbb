"""A card that starts from a trained prompt starts from exactly the pinned one, or not at all."""

import tomllib
from pathlib import Path

import numpy as np
import pytest
import tomli_w

from shared.card import Task
from shared.errors import InputError
from shared.library import Entry, add, open_entry
from shared.peft_format import save_prompt
from shared.prompt import Array
from shared.scoring import Scorer, build


@pytest.fixture
def entry(tmp_path: Path, task: Task, scorer: Scorer, prompt: Array, monkeypatch: pytest.MonkeyPatch) -> Entry:
    """A trained prompt in the default library."""
    monkeypatch.setenv("PROMPTWARD_LIBRARY", str(tmp_path / "library"))
    trained = prompt + np.random.default_rng(3).normal(size=prompt.shape).astype(np.float32)
    save_prompt(tmp_path / "run", trained, task, scorer, {})
    (tmp_path / "run" / "task.toml").write_text(task.text)
    return add(open_entry(tmp_path / "run"), "old", {}, tmp_path / "library")


def follow(task: Task, init: str, labels: tuple[str, ...] = ("well", "sick"), **prompt: object) -> Task:
    raw = tomllib.loads(task.text)
    raw["prompt"] |= {"init": init, **prompt}
    raw["labels"] = [{"name": name, "text": f"age {name}"} for name in labels]
    return Task.parse(tomli_w.dumps(raw), "follow.toml")


def unit(rows: Array) -> Array:
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def test_rows_and_label_rows_are_taken(task: Task, entry: Entry) -> None:
    _, start = build(follow(task, entry.init).card)
    np.testing.assert_array_equal(start[:2], entry.prompt[:2])
    np.testing.assert_allclose(start[2:], unit(entry.prompt[2:]), rtol=1e-6)


def test_label_rows_follow_their_names_else_their_order(task: Task, entry: Entry) -> None:
    _, turned = build(follow(task, entry.init, ("sick", "well")).card)
    np.testing.assert_allclose(turned[2:], unit(entry.prompt[[3, 2]]), rtol=1e-6)
    _, renamed = build(follow(task, entry.init, ("sick", "dead")).card)
    np.testing.assert_allclose(renamed[2:], unit(entry.prompt[2:]), rtol=1e-6)


def test_of_another_number_of_labels_only_rows_are_taken(task: Task, entry: Entry) -> None:
    _, start = build(follow(task, entry.init, ("a", "b", "c")).card)
    assert start.shape == (5, 16)
    np.testing.assert_array_equal(start[:2], entry.prompt[:2])
    assert not np.isclose(start[2:4], unit(entry.prompt[2:])).all()


def test_a_folder_may_be_named_instead_of_the_library(task: Task, entry: Entry, tmp_path: Path) -> None:
    _, start = build(follow(task, f"prompt:{tmp_path / 'run'}@{entry.digest}").card)
    np.testing.assert_array_equal(start[:2], entry.prompt[:2])


def test_what_does_not_fit_is_refused_in_one_sentence(task: Task, entry: Entry) -> None:
    cases = [
        (follow(task, f"prompt:old@{'0' * 64}"), f"has SHA-256 {entry.digest}, the card pins 0000"),
        (follow(task, entry.init, rows=3), "has rows 2, the card 3"),
        (follow(task, entry.init, layer=2), "has layer 1, the card 2"),
        (follow(task, entry.init.replace("old", "new")), "holds old; name one of them"),
    ]
    for card, said in cases:
        with pytest.raises(InputError, match=said):
            build(card.card)
    with pytest.raises(InputError, match=r"prompt\.init"):
        follow(task, "prompt:old")  # not pinned


def test_a_prompt_of_another_model_is_refused(task: Task, entry: Entry) -> None:
    facts = entry.folder / "promptward.json"
    facts.write_text(facts.read_text().replace(entry.fingerprint, "0" * 64))
    with pytest.raises(InputError, match="a prompt means nothing to another model"):
        build(follow(task, entry.init).card)
