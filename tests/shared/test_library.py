"""The library keeps prompts byte for byte, and refuses what it cannot stand for."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from shared.card import Task
from shared.errors import InputError
from shared.library import add, export, find, names, open_entry, remove
from shared.peft_format import save_prompt
from shared.peft_rows import adopt
from shared.prompt import Array
from shared.scoring import Scorer


@pytest.fixture
def run(tmp_path: Path, task: Task, scorer: Scorer, prompt: Array) -> Path:
    """What a run leaves: a prompt folder with the card beside it."""
    save_prompt(tmp_path / "run" / "prompt", prompt, task, scorer, {"sites": [{"name": "North", "epsilon": 1.5, "delta": 1e-4}]})
    (tmp_path / "run" / "task.toml").write_text(task.text)
    return tmp_path / "run" / "prompt"


def content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_in_and_out_again_is_byte_for_byte(run: Path, tmp_path: Path, task: Task, prompt: Array) -> None:
    library = tmp_path / "library"
    entry = add(open_entry(run), "tiny", {"licence": "CC0-1.0"}, library)
    assert names(library) == ["tiny"]
    assert content(run).items() <= content(library / "tiny").items()
    assert (library / "tiny" / "task.toml").read_text() == task.text
    assert entry.prompt.tobytes() == prompt.tobytes()
    export(find("tiny", library), tmp_path / "out")
    assert content(tmp_path / "out") == content(library / "tiny")
    again = add(open_entry(tmp_path / "out"), "twin", {}, library)
    assert content(again.folder) == content(library / "tiny")
    remove("twin", library)
    assert names(library) == ["tiny"]


def test_nothing_is_overwritten_and_no_name_leaves_the_library(run: Path, tmp_path: Path) -> None:
    library = tmp_path / "library"
    add(open_entry(run), "tiny", {}, library)
    with pytest.raises(InputError, match="has a prompt 'tiny' already"):
        add(open_entry(run), "tiny", {}, library)
    for name in ("../tiny", "a/b", "", "Tiny"):
        with pytest.raises(InputError, match="cannot be a prompt's name"):
            add(open_entry(run), name, {}, library)
    with pytest.raises(InputError, match="is there already"):
        export(find("tiny", library), library / "tiny")
    with pytest.raises(InputError, match=r"has no prompt '\.\./run'; it holds tiny"):
        remove("../run", library)
    assert run.is_dir()
    with pytest.raises(InputError, match="holds tiny; name one of them"):
        find("nobody", library)


def test_a_card_of_another_task_is_not_taken_for_the_prompts_own(run: Path) -> None:
    assert open_entry(run).task is not None
    card = run.parent / "task.toml"
    card.write_text(card.read_text() + "\n# another card\n")
    assert open_entry(run).task is None


def test_a_prompt_without_its_label_rows_is_not_whole(run: Path) -> None:
    (run / "label_rows.safetensors").unlink()
    with pytest.raises(InputError, match="not a whole prompt folder"):
        open_entry(run)


def peft_folder(folder: Path, width: int, kind: str = "PROMPT_TUNING") -> Path:
    folder.mkdir()
    rows = torch.from_numpy(np.random.default_rng(0).normal(size=(2, width)).astype(np.float32))
    save_file({"prompt_embeddings": rows}, folder / "adapter_model.safetensors")
    (folder / "adapter_config.json").write_text(json.dumps({"peft_type": kind, "base_model_name_or_path": "someone/model"}))
    return folder


def test_rows_that_peft_trained_come_in_byte_for_byte(tmp_path: Path, backbone_folder: Path, task: Task) -> None:
    theirs = peft_folder(tmp_path / "theirs", 16)
    target = tmp_path / "ours"
    target.mkdir()
    adopt(theirs, f"folder:{backbone_folder}", target)
    entry = add(open_entry(target), "theirs", {}, tmp_path / "library")
    assert (entry.prompt.shape, entry.rows, entry.labels) == ((2, 16), 2, [])
    assert entry.fingerprint == task.card.backbone.fingerprint
    assert content(theirs).items() <= content(entry.folder).items()


@pytest.mark.parametrize(("width", "kind", "said"), [(8, "PROMPT_TUNING", "8 wide"), (16, "LORA", "peft_type is 'LORA'")])
def test_what_is_no_prompt_of_this_model_is_refused(
    tmp_path: Path, backbone_folder: Path, width: int, kind: str, said: str
) -> None:
    (tmp_path / "ours").mkdir()
    with pytest.raises(InputError, match=said):
        adopt(peft_folder(tmp_path / "theirs", width, kind), f"folder:{backbone_folder}", tmp_path / "ours")
    shutil.rmtree(tmp_path / "theirs")
    with pytest.raises(InputError, match="this is not a whole PEFT folder"):
        adopt(tmp_path, f"folder:{backbone_folder}", tmp_path / "ours")
