import json
import warnings
from pathlib import Path

import peft
import pytest
import torch
from transformers import AutoModel

from shared.card import Task
from shared.errors import InputError
from shared.peft_format import load_prompt, save_prompt
from shared.prompt import Array
from shared.scoring import Scorer, build
from tests.conftest import card_text

TEXTS = ["age low pulse fast", "age high pulse slow the a is", "age middle"]


def test_peft_loads_an_input_prompt_and_the_logits_agree(backbone_folder: Path, tmp_path: Path) -> None:
    task = Task.parse(card_text(backbone_folder, layer=0), "input.toml")
    scorer, prompt = build(task.card)
    prompt = prompt + torch.randn(prompt.shape, generator=torch.Generator().manual_seed(0)).numpy()
    save_prompt(tmp_path, prompt, task, scorer, {})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PEFT's own
        theirs = peft.PeftModel.from_pretrained(AutoModel.from_pretrained(backbone_folder), tmp_path).eval()
    tokens = scorer.backbone.tokenizer(TEXTS, padding=True, return_tensors="pt")
    with torch.no_grad():
        states = theirs(input_ids=tokens["input_ids"], attention_mask=tokens["attention_mask"]).last_hidden_state[:, 2:]
    weight = tokens["attention_mask"].unsqueeze(-1).float()
    pooled = (states * weight).sum(1) / weight.sum(1)
    z = torch.nn.functional.normalize(pooled - scorer.centre, dim=-1)
    label_rows = torch.nn.functional.normalize(torch.from_numpy(prompt[2:]), dim=-1)
    ours = scorer.logits(scorer.read(TEXTS), torch.from_numpy(prompt))
    torch.testing.assert_close(ours, scorer.scale * z @ label_rows.T, atol=1e-5, rtol=0)


def test_a_saved_prompt_comes_back_bit_for_bit(task: Task, scorer: Scorer, prompt: Array, tmp_path: Path) -> None:
    save_prompt(tmp_path, prompt, task, scorer, {"seed": 3})
    again, facts = load_prompt(tmp_path)
    assert again.tobytes() == prompt.tobytes()
    assert facts["task_digest"] == task.digest
    assert facts["seed"] == 3
    assert not facts["peft_loads_it"]  # it stands at a later layer
    assert json.loads((tmp_path / "adapter_config.json").read_text())["peft_type"] == "PROMPT_TUNING"


def test_a_folder_that_is_no_prompt_gets_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="not a whole prompt folder"):
        load_prompt(tmp_path)
