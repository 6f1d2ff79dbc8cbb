"""A made-up cohort of any size, from the card's own template: for simulations of more sites than a table has patients.

Nobody's data: fields are drawn evenly, and a label follows a public score of them with noise, so that there is something to learn.
"""

from collections.abc import Sequence

import numpy as np

from client.records import ColumnMap, Row
from shared.card import TaskCard
from shared.errors import InputError
from shared.template import FieldTable
from simulations.study import SPLIT, Study

PREFIX, LABEL = "synthetic:", "made-up label"
MOST = 10_000_000
TEST_SHARE, NOISE = 0.25, 0.5  # of patients; of the score's own spread


def synthetic_study(what: str, card: TaskCard, seed: int) -> Study:
    """Return the patients that `synthetic:COUNT` names, for a card with a template; one record each.

    Raises `InputError` for a count that is none.
    """
    count = _count(what)
    public = np.random.default_rng([seed, count])
    values = {name: _values(card.record_text.fields.get(name, FieldTable())) for name in card.record_text.names}
    picked = {name: public.integers(len(some), size=count) for name, some in values.items()}  # (N,) each
    score = sum(public.uniform(-1, 1) * (at / max(1, len(values[name]) - 1) - 0.5) for name, at in picked.items())  # (N,)
    score = np.asarray(score) + NOISE * np.std(score) * public.standard_normal(count)
    cuts = np.quantile(score, np.linspace(0, 1, len(card.labels) + 1)[1:-1])
    labels = [card.labels[i].name for i in np.searchsorted(cuts, score)]
    tested = public.random(count) < TEST_SHARE
    rows: list[Row] = [
        {name: values[name][picked[name][n]] for name in values} | {LABEL: labels[n], SPLIT: "test" if tested[n] else "train"}
        for n in range(count)
    ]
    columns = ColumnMap(LABEL, {label.name: label.name for label in card.labels}, {}, split=SPLIT)
    return Study(rows, columns, (), what)


def _count(what: str) -> int:
    text = what.removeprefix(PREFIX)
    if not text.isdigit() or not 1 <= int(text) <= MOST:
        raise InputError(f"--data {what}: write synthetic:COUNT with a number of patients from 1 to {MOST}.")
    return int(text)


def _values(field: FieldTable) -> Sequence[object]:
    """Return one raw value for each word that the field can say."""
    if field.edges is not None:
        return [
            field.edges[0] - 1,
            *(a + (b - a) / 2 for a, b in zip(field.edges, field.edges[1:], strict=False)),
            field.edges[-1] + 1,
        ]
    return list(field.words) if isinstance(field.words, dict) and field.words else ["low", "high"]
