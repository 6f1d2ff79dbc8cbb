"""The scene in which one patient is alone with an attacker who knows all but one thing: the label, or one field of the record.

It is what an attacker faces who knows everybody else in the draw and takes them out. The true label and the true value are
drawn anew for each release, all equally likely, so that chance is 1 / k.
Letters in shape comments: N targets, k values of the field, L labels, R releases, d coordinates.
"""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from audits.attacks.scenes import Sizes, pool_of
from audits.attacks.view import Numbers, clipped_gradients, one_release, some
from audits.subject import Subject
from client.round import Pool
from shared.prompt import Array
from shared.template import FieldTable, RecordText

SAMPLE = 3  # made-up records on which an attacker compares fields


@dataclass(frozen=True)
class Alone:
    """Releases of one patient each.

    Attributes:
        field: the field that is guessed.
        choices: its values, in the card's words.
        gradients: clipped, of every target with every label and value, (N, L, k, d).
        target: whose release it is (R,); `label` (R,) and `value` (R,) are the truth.
        updates: (R, d) with noise; `control` (R, d) without.
    """

    field: str
    choices: tuple[str, ...]
    gradients: Numbers
    target: NDArray[np.int64]
    label: NDArray[np.int64]
    value: NDArray[np.int64]
    updates: Numbers
    control: Numbers


def alone(subject: Subject, sizes: Sizes, seed: int) -> Alone:
    """Release targets one by one at the run's first prompt, whose gradients are the longest."""
    public, prompt = np.random.default_rng(seed), subject.prompts[0]
    field, choices = most_telling(subject, prompt, public)
    labels = len(subject.task.card.labels)
    records = [_said(subject.task.card.record_text, public) for _ in range(sizes.targets)]
    shape = (sizes.targets, labels, len(choices))
    everyone = _everyone(subject, [_text(subject, {**record, field: choice}) for record in records for choice in choices], shape)
    target = np.repeat(np.arange(sizes.targets), sizes.repeats)  # (R,)
    label, value = public.integers(labels, size=len(target)), public.integers(len(choices), size=len(target))
    here = np.ravel_multi_index((target, label, value), shape)  # (R,)
    updates = [
        np.array([one_release(subject, some(everyone, np.array([i])), prompt, noisy) for i in here]) for noisy in (True, False)
    ]
    gradients = clipped_gradients(subject, everyone, prompt).reshape(*shape, -1)
    return Alone(field, choices, gradients, target, label, value, updates[0], updates[1])


def _everyone(subject: Subject, texts: list[str], shape: tuple[int, int, int]) -> Pool:
    """Return a patient of every text (N * k) with every label, in the order of `shape` (N, L, k); each text is read once."""
    targets, labels, values = shape
    records = pool_of(subject, texts, [0] * len(texts))
    text = torch.arange(len(texts)).reshape(targets, 1, values).expand(shape).flatten()  # (N * L * k,)
    label = torch.arange(labels).reshape(1, labels, 1).expand(shape).flatten()
    return Pool(records.hidden[text], label, tuple(torch.split(torch.arange(len(text)), 1)))


def most_telling(subject: Subject, prompt: Array, public: np.random.Generator) -> tuple[str, tuple[str, ...]]:
    """Return the field of more than two values, or else of two, whose values move the gradient most, and its values.

    An attacker can compare fields on made-up records; measured is the mean distance of the values' gradients from their centre.
    """
    text = subject.task.card.record_text
    records = [_said(text, public) for _ in range(SAMPLE)]
    found = {}
    for name in text.names:
        choices = _choices(text, name)
        if len(choices) > 1:
            texts = [_text(subject, {**record, name: choice}) for record in records for choice in choices]
            mine = clipped_gradients(subject, pool_of(subject, texts, [0] * len(texts)), prompt)
            spread = mine.reshape(SAMPLE, len(choices), -1)  # (records, k, d)
            distance = np.linalg.norm(spread - spread.mean(1, keepdims=True), axis=-1).mean()
            found[name] = (len(choices) > 2, float(distance), choices)
    best = max(found, key=lambda name: found[name][:2])
    return best, found[best][2]


def _choices(text: RecordText, name: str) -> tuple[str, ...]:
    return tuple(text.fields.get(name, FieldTable()).choices())


def _said(text: RecordText, public: np.random.Generator) -> dict[str, str]:
    return {name: str(public.choice(_choices(text, name))) for name in text.names}


def _text(subject: Subject, said: dict[str, str]) -> str:
    return subject.task.card.record_text.text.format(**said)
