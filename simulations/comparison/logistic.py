"""Logistic regression, with no language model: private on the template's words, and without privacy on the raw table.

The private one sees a row of zeros and ones: which of its public words each field says. So nothing about the features comes from
patients. The other is what anybody would try first, by scikit-learn, and is a reference: it keeps no epsilon.
"""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from shared.card import TaskCard
from shared.template import FieldTable
from simulations.comparison.method import Method, Probabilities
from simulations.comparison.split import Cells, Split


def private_logistic(split: Split) -> Method:
    """Return multinomial logistic regression on the words of each field: theta is (features + 1, L), starting at 0."""
    card = split.task.card
    train, test = (torch.from_numpy(one_hot(card, cells)) for cells in split.words)  # (B, F), (M, F)
    count = len(card.labels)

    def record_gradients(index: Tensor, theta: Tensor) -> Tensor:
        seen = train[index]  # (R, F)
        wrong = (seen @ theta.view(-1, count)).softmax(-1) - torch.eye(count)[split.labels[index]]  # (R, L)
        return torch.einsum("rf,rl->rfl", seen, wrong).flatten(1)  # (R, K)

    def probabilities(theta: Tensor) -> Probabilities:
        return (test @ theta.view(-1, count)).softmax(-1).numpy()

    return Method(np.zeros(train.shape[1] * count, dtype=np.float32), record_gradients, probabilities)


def one_hot(card: TaskCard, cells: Cells) -> NDArray[np.float32]:
    """Return which word each field says, and a last column of ones: (B, F). A free text is no feature."""
    columns = [np.ones(len(cells), dtype=bool)]
    for number, name in enumerate(card.record_text.names):
        field = card.record_text.fields.get(name, FieldTable())
        said = np.array([row[number] for row in cells])
        columns = [said == word for word in field.choices()] + columns if field.words else columns
    return np.stack(columns, 1).astype(np.float32)


def reference(split: Split, parts: Sequence[tuple[NDArray[np.int64], NDArray[np.int64]]]) -> Probabilities:
    """Return test probabilities (M, L) of scikit-learn's logistic regression on the raw table, without privacy.

    Args:
        split: whose cells are numbers where all cells of a field are, and categories otherwise.
        parts: (training records, test records): for each part a model of its own; every test record is in one part.
    """
    found = np.zeros((len(split.test), len(split.task.card.labels)), dtype=np.float32)
    for train, test in parts:
        if len(test):
            found[test] = _fitted(split, train, test)
    return found


def _fitted(split: Split, train: NDArray[np.int64], test: NDArray[np.int64]) -> NDArray[np.float64]:
    import pandas as pd  # noqa: PLC0415 (each of these takes seconds to import)
    from sklearn.compose import ColumnTransformer  # noqa: PLC0415
    from sklearn.linear_model import LogisticRegression  # noqa: PLC0415
    from sklearn.pipeline import make_pipeline  # noqa: PLC0415
    from sklearn.preprocessing import OneHotEncoder, StandardScaler  # noqa: PLC0415

    tables = [pd.DataFrame([split.raw[part][i] for i in numbers]) for part, numbers in ((0, train), (1, test))]
    numeric = [c for c in tables[0] if all(pd.to_numeric(t[c], errors="coerce").notna().all() for t in tables)]
    seen, tested = (t.astype(dict.fromkeys(numeric, float)) for t in tables)
    labels = split.labels.numpy()[train]
    answer = np.zeros((len(test), len(split.task.card.labels)))
    if len(set(labels.tolist())) == 1:  # a site of one label can say nothing else
        answer[:, labels[0]] = 1.0
        return answer
    columns = ColumnTransformer([("number", StandardScaler(), numeric)], remainder=OneHotEncoder(handle_unknown="ignore"))
    model = make_pipeline(columns, LogisticRegression(max_iter=1000)).fit(seen, labels)
    answer[:, model.classes_] = model.predict_proba(tested)
    return answer
