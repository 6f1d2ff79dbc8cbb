"""A trained prompt on disk, in PEFT's prompt-tuning format with our own facts beside it.

adapter_config.json + adapter_model.safetensors: PEFT loads them where it has the same kind of prompt, which is rows at the
input layer. promptward.json: everything else (layer, label rows, centre, task digest, what was spent).
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from shared.card import Task
from shared.errors import InputError
from shared.prompt import Array
from shared.scoring import Scorer

ROWS = "prompt_embeddings"  # PEFT's name for the rows
LABELS, CENTRE = "label_rows", "centre"
WEIGHTS, CONFIG, FACTS = "adapter_model.safetensors", "adapter_config.json", "promptward.json"


def save_prompt(folder: Path, prompt: Array, task: Task, scorer: Scorer, facts: Mapping[str, Any]) -> None:
    """Write a prompt (P+L, D) into `folder`.

    Args:
        folder: created where it is not there.
        prompt: the tensor.
        task: the card it was trained for.
        scorer: gives the backbone's and the centre's public facts.
        facts: more for promptward.json, such as what was spent.
    """
    folder.mkdir(parents=True, exist_ok=True)
    rows, label_rows = scorer.shape.split(torch.from_numpy(prompt))  # (P, D), (L, D)
    card, backbone = task.card, scorer.backbone
    save_file({ROWS: rows.contiguous()}, folder / WEIGHTS, metadata={"format": "pt"})
    save_file({LABELS: label_rows.contiguous(), CENTRE: scorer.centre.contiguous()}, folder / "label_rows.safetensors")
    config = {
        "peft_type": "PROMPT_TUNING",
        "task_type": "FEATURE_EXTRACTION",
        "base_model_name_or_path": card.backbone.source,
        "num_virtual_tokens": scorer.shape.rows,
        "token_dim": backbone.dim,
        "num_layers": backbone.depth,
        "num_attention_heads": backbone.heads,
        "num_transformer_submodules": 1,
        "prompt_tuning_init": "RANDOM",
        "inference_mode": True,
    }
    _write(folder / CONFIG, config)
    ours = {
        "schema": 1,
        "task": card.name,
        "task_digest": task.digest,
        "backbone_fingerprint": card.backbone.fingerprint,
        "layer": card.prompt.layer,
        "scale": scorer.scale,
        "labels": [label.name for label in card.labels],
        "peft_loads_it": card.prompt.layer == 0 and scorer.shape.rows > 0,
    }
    _write(folder / FACTS, ours | dict(facts))


def load_prompt(folder: Path) -> tuple[Array, dict[str, Any]]:
    """Return a saved prompt (P+L, D) and the content of its promptward.json; raise `InputError` when it is not whole."""
    try:
        rows = load_file(folder / WEIGHTS)[ROWS]
        label_rows = load_file(folder / "label_rows.safetensors")[LABELS]
        facts = json.loads((folder / FACTS).read_text())
    except (OSError, ValueError, KeyError) as error:
        raise InputError(f"{folder}: this is not a whole prompt folder ({error}); name one that `simulate` wrote.") from None
    return torch.cat([rows, label_rows]).numpy(), facts


def _write(path: Path, content: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2, sort_keys=True) + "\n")
