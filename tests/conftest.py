"""What several tests need: a tiny real BERT made on the spot, a small task card on it, and made-up patients."""

import os

os.environ["HF_HUB_OFFLINE"] = "1"

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import settings
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from tokenizers.processors import TemplateProcessing
from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

from client.records import Cohort
from client.round import Pool, pool
from shared.backbone import fingerprint
from shared.card import Task
from shared.prompt import Array
from shared.scoring import Scorer, build
from tests.books import Files, play

settings.register_profile("promptward", deadline=None)  # a busy machine is no failure
settings.load_profile("promptward")

WORDS = [
    "[PAD]",
    "[UNK]",
    "[CLS]",
    "[SEP]",
    *["age", "pulse", "low", "middle", "high", "fast", "slow", "missing", "sick", "well", "is", "a", "the"],
]

CARD = """
schema = 1
name = "tiny"
title = "A tiny task"

[[labels]]
name = "well"
text = "age low pulse slow"

[[labels]]
name = "sick"
text = "age high pulse fast"

[backbone]
source = "folder:{folder}"
fingerprint = "{fingerprint}"
max_tokens = 28

[prompt]
rows = 2
layer = {layer}
public_records = 8

[privacy]
delta = 1e-4
sample_rate = 0.5
clip_norm = 1.0
noise_multiplier = 3.0
max_records = 2

[plan]
rounds = 6
patients_per_round = 10.0
sites = ["North", "South"]

[template]
text = "age {{age}} pulse {{pulse}}"

[template.fields]
age = {{ edges = [40, 60], words = ["low", "middle", "high"] }}
pulse = {{ edges = [80], words = ["slow", "fast"] }}
"""


def make_backbone(folder: Path, words: Sequence[str] = WORDS, dim: int = 16) -> Path:
    """Write a random three-layer BERT with its tokenizer; the words start with the four special tokens."""
    torch.manual_seed(1)
    config = BertConfig(
        vocab_size=len(words),
        hidden_size=dim,
        num_hidden_layers=3,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=32,
    )
    BertModel(config).save_pretrained(folder, safe_serialization=True)
    return write_tokenizer(folder, words)


def write_tokenizer(folder: Path, words: Sequence[str] = WORDS, **marks: str) -> Path:
    """Write a tokenizer that knows `words`."""
    bare = Tokenizer(WordLevel({word: number for number, word in enumerate(words)}, unk_token="[UNK]"))
    bare.pre_tokenizer = Whitespace()
    bare.post_processor = TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)])
    PreTrainedTokenizerFast(
        tokenizer_object=bare, pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]", sep_token="[SEP]", **marks
    ).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def backbone_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_backbone(tmp_path_factory.mktemp("backbone"))


def card_text(folder: Path, layer: int = 1) -> str:
    return CARD.format(folder=folder, fingerprint=fingerprint(folder), layer=layer)


@pytest.fixture(scope="session")
def task(backbone_folder: Path) -> Task:
    return Task.parse(card_text(backbone_folder), "tiny.toml")


@pytest.fixture(scope="session")
def built(task: Task) -> tuple[Scorer, Array]:
    return build(task.card)


@pytest.fixture(scope="session")
def scorer(built: tuple[Scorer, Array]) -> Scorer:
    return built[0]


@pytest.fixture(scope="session")
def prompt(built: tuple[Scorer, Array]) -> Array:
    return built[1]


def make_cohort(task: Task, patients: int, seed: int, records: int = 1) -> Cohort:
    """Return made-up patients whose label follows their age, each with `records` records."""
    random = np.random.default_rng(seed)
    age, pulse = random.integers(20, 80, patients), random.integers(50, 120, (patients, records))
    texts = [task.card.record_text.render({"age": int(a), "pulse": int(p)}) for a, row in zip(age, pulse, strict=True) for p in row]
    labels = [int(a > 50) for a in age for _ in range(records)]
    owners = [owner for owner in range(patients) for _ in range(records)]
    return Cohort(tuple(texts), tuple(labels), tuple(owners), patients)


@pytest.fixture(scope="session")
def patients(task: Task, scorer: Scorer) -> Pool:
    return pool(make_cohort(task, 30, seed=0, records=2), scorer)


@pytest.fixture(scope="session")
def played(task: Task, scorer: Scorer, prompt: Array, patients: Pool, tmp_path_factory: pytest.TempPathFactory) -> Files:
    """The files of a federation in which everything went well; copy them before changing them."""
    return play(task, scorer, prompt, patients, tmp_path_factory.mktemp("played"))


@pytest.fixture(autouse=True)
def numbers_of_its_own(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Give each test a fresh generator where its module has one, so that a test's numbers do not hang on which ran before it."""
    module = getattr(request, "module", None)
    if isinstance(getattr(module, "PUBLIC", None), np.random.Generator):
        monkeypatch.setattr(module, "PUBLIC", np.random.default_rng(0))
