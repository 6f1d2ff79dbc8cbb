"""A tiny BERT that knows the words of the made-up notes, and hospitals with bugs."""

from dataclasses import replace
from typing import Any

import pytest
import torch

from audits.attacks import notes
from audits.subject import Subject
from client.round import LocalPlan, answer
from shared.card import Task
from shared.privacy.mechanism import Update
from shared.scoring import build
from tests.conftest import WORDS, card_text, make_backbone


@pytest.fixture(scope="session")
def subject(tmp_path_factory: pytest.TempPathFactory) -> Subject:
    """A right step on a model that reads notes."""
    spoken = notes.SENTENCE.replace("{}", "").split() + [
        word for gap in notes.GAPS for words in gap.words for word in words.split()
    ]
    folder = make_backbone(tmp_path_factory.mktemp("reader"), list(dict.fromkeys([*WORDS, *spoken])), dim=64)
    text = card_text(folder).replace("noise_multiplier = 3.0", "noise_multiplier = 1.0")
    task = Task.parse(text[: text.index("[template]")] + template(), "reader.toml")
    scorer, prompt = build(task.card)
    return Subject(task, scorer, (prompt,))


def template() -> str:
    """Return a card's template whose records differ in more than a few words."""
    gaps = [notes.GAPS[i] for i in (1, 4, 6)]
    fields = [f"{g.name} = {{ words = {{ {', '.join(f'{w} = {chr(34)}{w}{chr(34)}' for w in g.words)} }} }}" for g in gaps]
    text = " ".join(f"{{{gap.name}}}" for gap in gaps)
    return "\n".join(["[template]", f'text = "{text}"', "", "[template.fields]", *fields])


@pytest.fixture(autouse=True)
def one_thread() -> Any:
    """Small matrices are faster on one thread."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def quieter(*args: Any) -> Update:
    """The private step with a twentieth of the noise that the card states."""
    pool_, prompt, plan, *rest = args
    noise = plan.mechanism.noise_multiplier / 20
    less: LocalPlan = replace(plan, mechanism=replace(plan.mechanism, noise_multiplier=noise))
    return answer(pool_, prompt, less, *rest)
