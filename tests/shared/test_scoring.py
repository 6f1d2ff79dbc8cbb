from dataclasses import replace

import pytest
import torch
from torch.nn import functional

from client.round import Pool
from shared.card import Task
from shared.errors import InputError
from shared.prompt import Array, PromptShape, initial_rows
from shared.scoring import Scorer, build


def loop_gradients(scorer: Scorer, pool: Pool, prompt: torch.Tensor) -> torch.Tensor:
    """The slow readable twin: one record at a time."""
    found = []
    for number in range(len(pool.hidden)):
        leaf = prompt.clone().requires_grad_()
        one = torch.tensor([number])
        functional.cross_entropy(scorer.logits(pool.hidden[one], leaf), pool.labels[one]).backward()
        assert leaf.grad is not None
        found.append(leaf.grad)
    return torch.stack(found)


def test_record_gradients_equal_the_one_by_one_loop(scorer: Scorer, patients: Pool, prompt: Array) -> None:
    given = torch.from_numpy(prompt)
    fast = scorer.record_gradients(patients.hidden, patients.labels, given, batch=7)
    assert fast.shape == (60, 4, 16)
    torch.testing.assert_close(fast, loop_gradients(scorer, patients, given), atol=1e-5, rtol=1e-4)
    assert fast.abs().amax((0, 2)).min() > 1e-6  # every row, prompt and label, is trained


def test_no_record_gives_no_gradient(scorer: Scorer, patients: Pool, prompt: Array) -> None:
    nobody = torch.tensor([], dtype=torch.long)
    found = scorer.record_gradients(patients.hidden[nobody], patients.labels[nobody], torch.from_numpy(prompt))
    assert found.shape == (0, 4, 16)
    assert scorer.probabilities(patients.hidden[nobody], torch.from_numpy(prompt)).shape == (0, 2)


def test_the_start_is_the_same_every_time(task: Task, prompt: Array) -> None:
    assert (build(task.card)[1] == prompt).all()


def test_fixed_label_rows_are_not_trained(task: Task) -> None:
    card = task.card.model_copy(update={"prompt": task.card.prompt.model_copy(update={"label_rows": False})})
    scorer, prompt = build(card)
    assert prompt.shape == (2, 16)
    assert scorer.probabilities(scorer.read(["age low"]), torch.from_numpy(prompt)).shape == (1, 2)


@pytest.mark.parametrize("init", ["vocabulary", "random", "text:age high pulse"])
def test_initial_rows_have_the_asked_shape(scorer: Scorer, init: str) -> None:
    rows = initial_rows(scorer.backbone, 5, 1, init)
    assert rows.shape == (5, 16)
    assert torch.equal(rows, initial_rows(scorer.backbone, 5, 1, init))
    assert rows.isfinite().all()


def test_init_text_without_tokens_is_refused(scorer: Scorer) -> None:
    with pytest.raises(InputError, match="gives no token"):
        initial_rows(scorer.backbone, 1, 0, "text: ")


def test_a_layer_that_is_not_there_is_refused(task: Task) -> None:
    card = task.card.model_copy(update={"prompt": task.card.prompt.model_copy(update={"layer": 3})})
    with pytest.raises(InputError, match="layer 3 is too deep: the backbone has layers 0 to 2"):
        build(card)


def test_scores_do_not_depend_on_the_label_rows_length(scorer: Scorer, patients: Pool, prompt: Array) -> None:
    given = torch.from_numpy(prompt)
    longer = given.clone()
    longer[2:] *= 3
    torch.testing.assert_close(scorer.logits(patients.hidden, given), scorer.logits(patients.hidden, longer))
    assert replace(scorer, scale=1.0).logits(patients.hidden, given).abs().max() <= 1 + 1e-6


def test_shape_cuts_rows_from_labels() -> None:
    rows, labels = PromptShape(1, 2, 4).split(torch.arange(12.0).reshape(3, 4))
    assert rows.shape == (1, 4)
    assert labels.shape == (2, 4)
