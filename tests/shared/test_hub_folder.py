"""A prompt laid out for the hub: the hub's own reader parses its card, PEFT loads the folder, and nothing is overwritten."""

import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import peft
import pytest
import torch
from huggingface_hub import ModelCard
from transformers import AutoModel

import promptward
from shared.card import Task
from shared.library import open_entry
from shared.peft_format import save_prompt
from shared.scoring import build
from tests.conftest import card_text

Capture = pytest.CaptureFixture[str]


@pytest.fixture
def home(tmp_path: Path, backbone_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two runs: a prompt at the input, which PEFT loads, and one that was trained without noise."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PROMPTWARD_LIBRARY", str(tmp_path / "library"))
    task = Task.parse(card_text(backbone_folder, layer=0), "input.toml")
    scorer, prompt = build(task.card)
    sites = [
        {"name": name, "epsilon": spent, "delta": 1e-4, "accountant": "PLD"} for name, spent in (("North", 1.25), ("South", 1.5))
    ]
    for run, facts in (("run", {"privacy": True, "sites": sites}), ("open", {"privacy": False, "seed": 1})):
        save_prompt(tmp_path / run / "prompt", prompt, task, scorer, facts)
        (tmp_path / run / "task.toml").write_text(task.text)
    scores = {"pooled_auc": {"mean": 0.91234}, "pooled_accuracy": {"mean": 0.8}}
    (tmp_path / "run/result.json").write_text(json.dumps({"task_digest": task.digest, "metrics": scores}))
    return tmp_path


def push(capsys: Capture, *words: str, code: int = 0) -> Any:
    assert promptward.main(["prompts", "push", *words, *(["--json"] if code == 0 else [])]) == code
    out = capsys.readouterr()
    return json.loads(out.out) if code == 0 else out.err


def test_the_hubs_own_reader_understands_the_card(home: Path, capsys: Capture) -> None:
    words = ["import", "run/prompt", "--name", "hearts", "--licence", "CC-BY-4.0", "--intended-use", 'Research: "not" diagnosis.']
    assert promptward.main(["prompts", *words]) == 0
    capsys.readouterr()
    found = push(capsys, "hearts", "out", "--base-model", "some/model", "--figures", "run")
    assert found["next"].endswith("hf upload ORG/hearts out")
    card = ModelCard.load("out/README.md")
    data = card.data.to_dict()
    assert (data["base_model"], data["library_name"], data["license"]) == ("some/model", "peft", "cc-by-4.0")
    assert {"peft", "differential-privacy"} <= set(data["tags"])
    assert data["metrics"] == ["roc_auc", "accuracy"]
    assert [(each.metric_type, each.metric_value) for each in card.data.eval_results] == [("roc_auc", 0.9123), ("accuracy", 0.8)]
    assert "Epsilon is at most 1.5 at delta 0.0001 at each site (North, South)." in card.text
    for row in ("| unit of privacy | one patient", "| adjacency | add or remove one patient |", "| accountant | PLD |"):
        assert row in card.text
    assert 'Research: "not" diagnosis.' in card.text


def test_every_file_is_there_byte_for_byte_and_peft_loads_the_folder(home: Path, backbone_folder: Path, capsys: Capture) -> None:
    push(capsys, "run/prompt", "out")
    for file in (home / "run/prompt").iterdir():
        assert (home / "out" / file.name).read_bytes() == file.read_bytes()
    entry = open_entry(home / "out")
    assert entry.task is not None  # the card came along
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PEFT's own
        theirs = peft.PeftModel.from_pretrained(AutoModel.from_pretrained(backbone_folder), home / "out")
    rows = theirs.get_prompt(batch_size=1)[0].detach()
    torch.testing.assert_close(rows, torch.from_numpy(np.array(entry.prompt[: entry.rows])), atol=0, rtol=0)


def test_what_nobody_said_is_not_made_up(home: Path, capsys: Capture) -> None:
    push(capsys, "open/prompt", "out")
    card = ModelCard.load("out/README.md")
    assert card.data.base_model is None  # a folder on this machine is no name on the hub
    assert card.data.license == "unknown"
    assert card.data.eval_results is None
    assert "trained without noise" in card.text
    assert "Epsilon is" not in card.text


def test_another_prompt_is_never_overwritten(home: Path, capsys: Capture) -> None:
    assert push(capsys, "run/prompt", "out")["written"]
    before = {path.name: path.read_bytes() for path in (home / "out").iterdir()}
    assert not push(capsys, "run/prompt", "out")["written"]
    assert "holds another prompt (tiny)" in push(capsys, "open/prompt", "out", code=2)
    (home / "full").mkdir()
    assert "is there already" in push(capsys, "run/prompt", "full", code=2)
    assert {path.name: path.read_bytes() for path in (home / "out").iterdir()} == before


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--base-model", "model"), "as ORG/NAME"),
        (("--figures", "open"), "there are no scores of a simulation here"),
        (("--figures", "other"), "this run trained another task card"),
    ],
)
def test_what_is_wrong_gets_one_sentence_and_no_folder(home: Path, capsys: Capture, words: tuple[str, ...], said: str) -> None:
    (home / "other").mkdir()
    (home / "other/result.json").write_text((home / "run/result.json").read_text().replace('"task_digest": "', '"task_digest": "0'))
    err = push(capsys, "run/prompt", "out", *words, code=2)
    assert said in err
    assert err.count("\n") == 1
    assert not (home / "out").exists()
