"""Several prompts in one mixed batch read as they read alone; a prompt of another model is refused."""

import tomllib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tomli_w
import torch

from shared.card import Task
from shared.errors import InputError
from shared.library import open_entry
from shared.peft_format import save_prompt
from shared.reading import Reader, Reading, logits_of, open_reader, require_one_model
from shared.scoring import build
from tests.conftest import card_text

TEXTS = ["age low pulse fast", "age high pulse slow the a is", "age middle", "pulse slow age high is the a a a"]


def changed(task: Task, name: str, **prompt: object) -> Task:
    raw = tomllib.loads(task.text)
    raw["name"] = name
    raw["prompt"] |= prompt
    if name == "three":
        raw["labels"].append({"name": "else", "text": "age middle"})
    return Task.parse(tomli_w.dumps(raw), name)


@pytest.fixture(scope="module")
def readers(task: Task, tmp_path_factory: pytest.TempPathFactory) -> list[Reader]:
    """Four prompts of one model: two of a kind, one with three labels and another scale, one at another layer."""
    cards = [task, task, changed(task, "three", scale=7.0, init="random"), changed(task, "early", layer=0, rows=3)]
    found = []
    for number, card in enumerate(cards):
        scorer, prompt = build(card.card)
        moved = prompt + np.random.default_rng(number).normal(size=prompt.shape).astype(np.float32)
        folder = tmp_path_factory.mktemp(f"prompt{number}")
        save_prompt(folder, moved, card, scorer, {})
        (folder / "task.toml").write_text(card.text)
        found.append(open_reader(open_entry(folder)))
    return found


def test_four_prompts_in_one_mixed_batch_equal_one_by_one(readers: list[Reader]) -> None:
    random = np.random.default_rng(0)
    mixed = [
        Reading(TEXTS[text], reader) for text, reader in random.permutation([(t, r) for t in range(4) for r in range(4)]).tolist()
    ]
    together = logits_of(readers, mixed, batch=5)
    for reading, scores in zip(mixed, together, strict=True):
        reader = readers[reading.reader]
        alone = reader.scorer.logits(reader.scorer.read([str(reading.record)]), reader.prompt)[0]
        torch.testing.assert_close(scores, alone, atol=2e-5, rtol=0)
    assert {len(scores) for scores in together} == {2, 3}


def test_a_reader_scores_as_the_scorer_that_trained_it(readers: list[Reader], task: Task) -> None:
    scorer, _ = build(task.card)
    ours = torch.stack(logits_of(readers[:1], [Reading(text, 0) for text in TEXTS]))
    torch.testing.assert_close(ours, scorer.logits(scorer.read(TEXTS), readers[0].prompt), atol=2e-5, rtol=0)


def test_fixed_labels_are_those_of_the_card(task: Task, tmp_path: Path) -> None:
    card = changed(task, "fixed", label_rows=False)
    scorer, prompt = build(card.card)
    save_prompt(tmp_path, prompt, card, scorer, {})
    (tmp_path / "task.toml").write_text(card.text)
    entry = open_entry(tmp_path)
    assert entry.rows == 2
    found = torch.stack(logits_of([open_reader(entry)], [Reading(text, 0) for text in TEXTS]))
    torch.testing.assert_close(found, scorer.logits(scorer.read(TEXTS), torch.from_numpy(prompt)), atol=2e-5, rtol=0)


def test_prompts_of_two_models_are_refused(readers: list[Reader], backbone_folder: Path) -> None:
    text = card_text(backbone_folder)
    other = Task.parse(text.replace(tomllib.loads(text)["backbone"]["fingerprint"], "0" * 64), "other")
    with pytest.raises(InputError, match="were trained on different models"):
        require_one_model([readers[0], replace(readers[1], task=other)])
    require_one_model(readers)
