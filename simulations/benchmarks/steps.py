"""One private step of Promptward and one of stock parts, on the same model, sentences and batch.

Stock parts: a prompt as PEFT has it around Hugging Face's all-MiniLM-L6-v2, a linear layer for the labels, Opacus'
`GradSampleModule` and `DPOptimizer`, in training mode as Opacus asks for. Letters in shape comments: B records, T tokens, P rows,
L labels, D hidden size.
"""

import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import tomli_w
import torch
import transformers
from opacus import GradSampleModule
from opacus.optimizers import DPOptimizer
from torch import Tensor, nn
from torch.nn import functional

from server.aggregate import apply, init
from server.rule import rule_of
from shared.backbone import Hidden, locate
from shared.card import Task
from shared.privacy.mechanism import decode, encode, release
from shared.privacy.planned import mechanism_of
from shared.privacy.source import SimulationSource
from shared.prompt import Array
from shared.scoring import Scorer

BATCH, TOKENS, ROWS, LABELS = 32, 64, 4, 2
SENTENCE = "blood pressure normal cholesterol raised sugar high ecg normal heart rate good "


def varied_card(layer: int = 5, dtype: str = "float32", tokens: int = TOKENS) -> Task:
    """Return the heart-disease card with the prompt at another layer, another dtype of the model or other lengths."""
    raw = tomllib.loads(Task.load("heart-disease").text)
    raw["prompt"]["layer"], raw["prompt"]["public_records"] = layer, 8
    raw["backbone"]["dtype"], raw["backbone"]["max_tokens"] = dtype, tokens
    return Task.parse(tomli_w.dumps(raw), "the benchmark's card")


def batch(scorer: Scorer) -> tuple[Hidden, Tensor]:
    """Return the hidden states of a batch without padding, and its labels (B,)."""
    hidden = scorer.read([SENTENCE * 10] * BATCH)
    assert int(hidden.mask.min()) == 1
    return hidden, torch.arange(BATCH) % LABELS


def our_step(task: Task, scorer: Scorer, prompt: Array, hidden: Hidden, labels: Tensor) -> Callable[[], None]:
    """Return the private step: gradients of records, clipped, added up, noised; and the server's step."""
    mechanism, rule, state, number = mechanism_of(task.card), rule_of(task.card), init(prompt), 0

    def step() -> None:
        nonlocal state, number
        number += 1
        gradients = scorer.record_gradients(hidden, labels, torch.from_numpy(state.broadcast))  # (B, P+L, D)
        noised = release(gradients, mechanism, SimulationSource(0).stream("noise", number))
        state = apply(state, [decode(encode(noised.value, mechanism), mechanism)], rule)

    return step


class StockModel(nn.Module):
    """A prompt as PEFT has it before the sentence, the mean of the text's last states, and a trained vector a label.

    PEFT 0.21 itself looks its rows up once for the whole batch, of which Opacus cannot tell the records' gradients apart; here
    each record looks up its own.
    """

    def __init__(self, folder: Path) -> None:
        """Load the model, as every example does."""
        super().__init__()
        self.body: Any = transformers.AutoModel.from_pretrained(folder, local_files_only=True, use_safetensors=True)
        self.body.requires_grad_(False)
        self.prompt = nn.Embedding(ROWS, self.body.config.hidden_size)
        self.labels = nn.Linear(self.body.config.hidden_size, LABELS, bias=False)

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        """Return label scores (B, L) for token numbers and mask (B, T)."""
        words = self.body.embeddings.word_embeddings(ids)  # (B, T, D)
        rows = self.prompt(torch.arange(ROWS).expand(len(ids), -1))  # (B, P, D)
        whole = torch.cat([mask.new_ones(len(ids), ROWS), mask], 1)  # (B, P+T)
        found = self.body(inputs_embeds=torch.cat([rows, words], 1), attention_mask=whole)
        states, weight = found.last_hidden_state[:, ROWS:], mask.unsqueeze(-1).float()  # (B, T, D), (B, T, 1)
        z = functional.normalize((states * weight).sum(1) / weight.sum(1), dim=-1)  # (B, D)
        return 20.0 * self.labels(z)  # type: ignore[no-any-return]  # (B, L)


def stock_model(source: str) -> StockModel:
    """Return stock parts around the model that a card names."""
    return StockModel(locate(source))


def stock_step(task: Task) -> Callable[[], None]:
    """Return the private step of stock parts on a batch without padding."""
    model = GradSampleModule(stock_model(task.card.backbone.source)).train()
    trained = [p for p in model.parameters() if p.requires_grad]
    privacy = task.card.privacy
    assert privacy.noise_multiplier is not None
    optimizer = DPOptimizer(
        torch.optim.Adam(trained, lr=task.card.plan.learning_rate),
        noise_multiplier=privacy.noise_multiplier,
        max_grad_norm=privacy.clip_norm,
        expected_batch_size=BATCH,
    )
    ids = torch.randint(1000, 2000, (BATCH, TOKENS))
    mask, labels = torch.ones_like(ids), torch.arange(BATCH) % LABELS

    def step() -> None:
        optimizer.zero_grad()
        functional.cross_entropy(model(ids, mask), labels).backward()  # type: ignore[no-untyped-call]
        optimizer.step()

    return step
