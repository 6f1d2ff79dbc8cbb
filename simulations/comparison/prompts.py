"""Methods whose only trained tensor is a prompt: the card's, and variants of the card."""

import tomllib
from typing import Any

import tomli_w
from torch import Tensor

from shared.card import Task
from shared.scoring import build
from simulations.comparison.method import Method, Probabilities
from simulations.comparison.split import Split


def card_prompt(split: Split) -> Method:
    """Return the card's own prompt."""
    return _method(split, split.task)


def input_prompt(split: Split) -> Method:
    """Return the card's prompt with its rows at the input (Lester et al. 2021)."""
    return _method(split, varied(split.task, layer=0, deep=False))


def deep_prompt(split: Split) -> Method:
    """Return the card's prompt with new rows in every layer (Liu et al. 2022)."""
    return _method(split, varied(split.task, layer=0, deep=True))


def rows_only(split: Split) -> Method:
    """Return the card's prompt rows; labels are scored by their texts' embeddings, which stay as they are."""
    return _method(split, varied(split.task, label_rows=False))


def label_rows(split: Split) -> Method:
    """Return the label rows alone: a linear probe on the frozen model's output."""
    return _method(split, probe(split.task))


def probe(task: Task) -> Task:
    """Return the card without prompt rows."""
    return varied(task, rows=0, label_rows=True, deep=False, init="vocabulary", position="before")


def varied(task: Task, **changes: Any) -> Task:
    """Return a card with another `[prompt]`."""
    raw = tomllib.loads(task.text)
    raw["prompt"] = raw.get("prompt", {}) | changes
    return Task.parse(tomli_w.dumps(raw), "the varied task card")


def _method(split: Split, task: Task) -> Method:
    scorer, start = build(task.card)
    hidden, tested = scorer.read(split.train), scorer.read(split.test)
    shape = scorer.shape.shape  # (P+L, D)

    def record_gradients(index: Tensor, theta: Tensor) -> Tensor:
        return scorer.record_gradients(hidden[index], split.labels[index], theta.view(shape)).flatten(1)  # (R, K)

    def probabilities(theta: Tensor) -> Probabilities:
        found: Probabilities = scorer.probabilities(tested, theta.view(shape)).numpy()  # (M, L)
        return found

    return Method(start.ravel(), record_gradients, probabilities)
