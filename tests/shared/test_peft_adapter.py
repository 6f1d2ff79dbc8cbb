"""Prompts go to PEFT and come from PEFT: its models give our logits, and tensors keep their bytes."""

import hashlib
import json
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import peft
import pytest
import torch
import transformers as hf
from torch import Tensor

from shared.errors import InputError
from shared.peft_adapter import read_adapter, write_adapter
from shared.peft_format import load_prompt, save_prompt
from shared.scoring import Scorer, build
from tests.families import FAMILIES, TEXTS, Family

BY_NAME = {family.name: family for family in FAMILIES}


def saved(family: Family, tmp_path: Path, prompt: str = "") -> tuple[Scorer, Tensor, Path]:
    """Write a tiny model, and a prompt for it that is not the start."""
    task = family.task(family.write(tmp_path / "model"), prompt)
    scorer, start = build(task.card)
    moved = start + 0.5 * np.random.default_rng(3).standard_normal(start.shape, dtype=np.float32)
    save_prompt(tmp_path / "prompt", moved, task, scorer, {})
    return scorer, torch.from_numpy(moved), tmp_path / "prompt"


def theirs(kind: Any, model: Path, prompt: Path, **more: Any) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PEFT's own
        return peft.PeftModel.from_pretrained(kind.from_pretrained(model, **more), prompt).eval()


def close(scorer: Scorer, prompt: Tensor, texts: list[str], score: Callable[[Tensor], Tensor]) -> None:
    """Compare one text after the other with PEFT's."""
    tokenizer: Any = scorer.backbone.tokenizer  # type: ignore[attr-defined]
    with torch.no_grad():
        for text in texts:
            ids = tokenizer([text], return_tensors="pt")["input_ids"]  # (1, T)
            ours = scorer.logits(scorer.read([text]), prompt)
            torch.testing.assert_close(ours, score(ids), atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("bert-pooler", hf.BertForSequenceClassification),
        ("gpt2", hf.GPT2ForSequenceClassification),
        ("llama", hf.LlamaForSequenceClassification),
        ("qwen2", hf.Qwen2ForSequenceClassification),
    ],
)
def test_label_rows_are_pefts_classifier(name: str, kind: Any, tmp_path: Path) -> None:
    scorer, prompt, folder = saved(BY_NAME[name], tmp_path)
    config = json.loads((folder / "adapter_config.json").read_text())
    assert config["task_type"] == "SEQ_CLS"
    model = theirs(kind, tmp_path / "model", folder, num_labels=2)
    close(scorer, prompt, TEXTS, lambda ids: model(input_ids=ids, attention_mask=torch.ones_like(ids)).logits)


@pytest.mark.parametrize(("name", "kind"), [("gpt2", hf.GPT2LMHeadModel), ("llama", hf.LlamaForCausalLM)])
def test_without_label_rows_a_causal_prompt_scores_pefts_next_words(name: str, kind: Any, tmp_path: Path) -> None:
    scorer, prompt, folder = saved(BY_NAME[name], tmp_path, "label_rows = false")
    assert json.loads((folder / "adapter_config.json").read_text())["task_type"] == "CAUSAL_LM"
    model, tokenizer = theirs(kind, tmp_path / "model", folder), scorer.backbone.tokenizer  # type: ignore[attr-defined]
    well = tokenizer.convert_tokens_to_ids("low")
    sick = tokenizer.convert_tokens_to_ids(["high", "slow"])

    def score(ids: Tensor) -> Tensor:
        last = model(input_ids=ids, attention_mask=torch.ones_like(ids)).logits[:, -1]  # (1, V)
        return torch.stack([last[:, well], last[:, sick].mean(1)], 1)

    close(scorer, prompt, TEXTS, score)


def test_a_masked_models_prompt_scores_pefts_word_at_the_mask(tmp_path: Path) -> None:
    scorer, prompt, folder = saved(BY_NAME["bert-mask"], tmp_path, "label_rows = false")
    model, tokenizer = theirs(hf.BertForMaskedLM, tmp_path / "model", folder), scorer.backbone.tokenizer  # type: ignore[attr-defined]
    well = tokenizer.convert_tokens_to_ids("low")
    sick = tokenizer.convert_tokens_to_ids(["high", "slow"])

    def score(ids: Tensor) -> Tensor:
        at = 2 + int((ids[0] == tokenizer.mask_token_id).nonzero())
        word = model(input_ids=ids, attention_mask=torch.ones_like(ids)).logits[:, at]  # (1, V)
        return torch.stack([word[:, well], word[:, sick].mean(1)], 1)

    close(scorer, prompt, BY_NAME["bert-mask"].records(), score)


def test_peft_has_no_prompts_for_images(tmp_path: Path) -> None:
    """When this fails, PEFT has learnt it, and our folder can say more than that PEFT does not load it."""
    _, prompt, folder = saved(BY_NAME["vit"], tmp_path)
    again, facts = load_prompt(folder)
    assert torch.equal(torch.from_numpy(again), prompt)
    assert not facts["peft_loads_it"]
    with pytest.raises(AttributeError, match="vocab_size"):
        theirs(hf.ViTModel, tmp_path / "model", folder)


@pytest.mark.parametrize("kind", [peft.PromptTuningConfig, peft.PromptEncoderConfig])
def test_a_prompt_of_pefts_own_comes_in_and_goes_out_with_the_same_bytes(kind: Any, tmp_path: Path) -> None:
    model = hf.GPT2ForSequenceClassification.from_pretrained(BY_NAME["gpt2"].write(tmp_path / "model"), num_labels=3)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PEFT's own
        made = peft.get_peft_model(model, kind(task_type="SEQ_CLS", num_virtual_tokens=4))
        made.save_pretrained(tmp_path / "theirs")
    found = read_adapter(tmp_path / "theirs")
    assert found.rows.shape == (4, 16)
    assert found.label_rows is not None
    assert found.label_rows.shape == (3, 16)
    assert found.label_bias is None
    write_adapter(tmp_path / "ours", found)
    digests = [hashlib.sha256((tmp_path / who / "adapter_model.safetensors").read_bytes()).digest() for who in ("theirs", "ours")]
    assert digests[0] == digests[1]
    configs = [json.loads((tmp_path / who / "adapter_config.json").read_text()) for who in ("theirs", "ours")]
    assert configs[0] == configs[1]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"peft_type": "LORA"}, "peft_type is 'LORA'; only PROMPT_TUNING and P_TUNING are rows before a text"),
        ({"num_virtual_tokens": 5}, r"'prompt_embeddings' has shape \(2, 16\) and adapter_config.json says \(5, 16\)"),
    ],
)
def test_another_kind_of_adapter_is_refused(change: dict[str, Any], said: str, tmp_path: Path) -> None:
    folder = saved(BY_NAME["bert"], tmp_path)[2]
    path = folder / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(InputError, match=said):
        read_adapter(folder)


def test_a_folder_that_is_not_whole_or_pickled_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="not a whole PEFT folder"):
        read_adapter(tmp_path)
    (tmp_path / "adapter_model.bin").write_bytes(b"")
    with pytest.raises(InputError, match="pickled weights are refused"):
        read_adapter(tmp_path)
    (tmp_path / "adapter_model.safetensors").write_bytes(b"no tensors")
    (tmp_path / "adapter_config.json").write_text("{}")
    with pytest.raises(InputError, match="not a whole PEFT folder"):
        read_adapter(tmp_path)
