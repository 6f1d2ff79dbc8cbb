"""Rows that others trained with PEFT's prompt tuning, as a prompt folder of ours: rows at the input, without labels or card."""

import json
import shutil
from pathlib import Path
from typing import Any

from shared.backbone import fingerprint, locate
from shared.errors import InputError
from shared.peft_adapter import CONFIG, WEIGHTS, read_adapter
from shared.peft_format import FACTS


def adopt(folder: Path, backbone: str, target: Path) -> None:
    """Write a PEFT prompt-tuning folder into the empty folder `target`, its files byte for byte, with our facts beside them.

    Raises `InputError` when it is no such folder, or its rows are not as wide as the model.
    """
    adapter = read_adapter(folder)
    config, rows = adapter.config, adapter.rows  # (P, D)
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
