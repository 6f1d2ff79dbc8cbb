"""Scenes on the tiny BERT, and steps that add less noise than they say."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from audits.attacks.scenes import Sizes
from audits.subject import Subject
from client.round import LocalPlan, answer
from shared.card import Task
from shared.privacy.mechanism import Update
from shared.prompt import Array
from shared.scoring import build
from tests.conftest import card_text

ROUNDS = 16
SMALL = Sizes(
    candidates=40,
    draws=20,
    control_draws=4,
    targets=10,
    repeats=20,
    roamers=40,
    rounds=ROUNDS,
    cohort=20,
    shadows=16,
    shadow_patients=20,
)
FIELDS = "".join(f'{name} = {{ words = {{ a = "low", b = "high", c = "sick", d = "well" }} }}\n' for name in "pqrs")


def quieter(factor: float) -> Callable[..., Update]:
    """Return the private step with so much of the noise that it states."""

    def step(pool: Any, prompt: Array, plan: LocalPlan, *rest: Any) -> Update:
        less = replace(plan.mechanism, noise_multiplier=factor * plan.mechanism.noise_multiplier)
        return answer(pool, prompt, replace(plan, mechanism=less), *rest)

    return step


@pytest.fixture(scope="session")
def subject(backbone_folder: Path) -> Subject:
    """The right step on a card whose records are many, and whose gradients are longer than the clip norm."""
    text = (
        card_text(backbone_folder)
        .replace("rows = 2", "rows = 8")
        .replace('"South"]', '"South", "East", "West"]')
        .replace("clip_norm = 1.0", "clip_norm = 0.2")
    )
    text = text.replace('text = "age {age} pulse {pulse}"', 'text = "age {age} pulse {pulse} {p} is {q} a {r} the {s}"')
    task = Task.parse(text + FIELDS, "many.toml")
    scorer, prompt = build(task.card)
    public = np.random.default_rng(6)
    moved = [prompt + 0.5 * public.standard_normal(prompt.shape, dtype=np.float32) for _ in range(ROUNDS - 1)]
    return Subject(task, scorer, (prompt, *moved))
