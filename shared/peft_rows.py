"""Rows that others trained with PEFT's prompt tuning, as a prompt folder of ours: rows at the input, without labels or card."""

import json
import shutil
from pathlib import Path
from typing import Any

from safetensors.torch import load_file

from shared.backbone import fingerprint, locate
from shared.errors import InputError
from shared.peft_format import CONFIG, FACTS, ROWS, WEIGHTS


def adopt(folder: Path, backbone: str, target: Path) -> None:
    """Write a PEFT prompt-tuning folder into the empty folder `target`, its files byte for byte, with our facts beside them.

    Raises `InputError` when it is no such folder, or its rows are not as wide as the model.
    """
    try:
        config = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
        rows = load_file(folder / WEIGHTS)[ROWS]  # (P, D)
    except (OSError, ValueError, KeyError) as error:
        raise InputError(f"{folder}: this is neither a prompt of ours nor PEFT prompt tuning in safetensors ({error}).") from None
    if config.get("peft_type") != "PROMPT_TUNING" or rows.dim() != 2:
        raise InputError(
            f"{folder}: peft_type is '{config.get('peft_type')}'; only PROMPT_TUNING has rows that a card can start from."
        )
    model = locate(backbone)
    width = json.loads((model / "config.json").read_text()).get("hidden_size")
    if rows.shape[1] != width:
        raise InputError(
            f"{folder}: its rows are {rows.shape[1]} wide and the model {backbone} is {width}; name the right --backbone."
        )
    for name in (CONFIG, WEIGHTS):
        shutil.copyfile(folder / name, target / name)
    facts: dict[str, Any] = {
        "schema": 1,
        "task": None,
        "task_digest": None,
        "backbone_fingerprint": fingerprint(model),
        "layer": 0,
        "labels": [],
        "label_rows": 0,
        "peft_loads_it": True,
        "origin": {"made_with": "PEFT", "base_model_name_or_path": config.get("base_model_name_or_path")},
    }
    (target / FACTS).write_text(json.dumps(facts, indent=2, sort_keys=True) + "\n")
