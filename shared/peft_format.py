"""A trained prompt on disk, in PEFT's prompt-tuning format with our own facts beside it.

adapter_config.json + adapter_model.safetensors: PEFT loads them where it has the same kind of prompt, which is rows at the
input layer. promptward.json: everything else (layer, label rows, centre, task digest, what was spent).
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors.torch import load_file, save_file

from shared.card import Task, TaskCard
from shared.errors import InputError
from shared.peft_adapter import ROWS, WEIGHTS, Adapter, write_adapter
from shared.prompt import Array
from shared.tuned_adapter import tuned_adapter

if TYPE_CHECKING:  # shared.scoring starts prompts from saved ones
    from shared.scoring import Scorer

LABELS, CENTRE = "label_rows", "centre"
MOVED, FROZEN = "moved", "frozen_rows"  # of a card with [tune]: the tensor's rows as they move, and the prompt's
FACTS = "promptward.json"


def save_prompt(folder: Path, prompt: Array, task: Task, scorer: "Scorer", facts: Mapping[str, Any]) -> None:
    """Write a prompt (P+L, D) into `folder`.

    Args:
        folder: created where it is not there.
        prompt: the tensor.
        task: the card it was trained for.
        scorer: gives the backbone's and the centre's public facts.
        facts: more for promptward.json, such as what was spent.
    """
    label_rows, card = scorer.shape.split(torch.from_numpy(prompt))[1], task.card  # (L, D)
    write_adapter(folder, adapter_of(prompt, card.backbone.source, scorer))
    beside = {LABELS: label_rows, CENTRE: scorer.centre}
    if scorer.tuning is not None:
        beside |= {MOVED: torch.from_numpy(prompt)[: scorer.shape.rows], FROZEN: scorer.tuning.frozen}
    save_file({name: tensor.contiguous() for name, tensor in beside.items()}, folder / "label_rows.safetensors")
    ours = {
        "schema": 1,
        "task": card.name,
        "task_digest": task.digest,
        "backbone_fingerprint": card.backbone.fingerprint,
        "layer": card.prompt.layer,
        "deep": card.prompt.deep,
        "position": card.prompt.position,
        "readout": card.prompt.readout,
        "scale": scorer.scale,
        "init": card.prompt.init,
        "label_rows": scorer.shape.labels,
        "tune": card.tune.model_dump() if card.tune else None,
        "labels": [label.name for label in card.labels],
        "peft_loads_it": _peft_loads(card, scorer),
    }
    _write(folder / FACTS, ours | dict(facts))


def adapter_of(prompt: Array, source: str, scorer: "Scorer") -> Adapter:
    """Return a prompt (P+L, D) in PEFT's terms.

    Where PEFT's sequence classification scores as we do, label rows are its classifier: a causal model's last state, BERT's
    pooler. Without trained label rows a causal model's prompt is for its own next words. Else PEFT gives the states, and
    the label rows stand beside them in our own file.
    """
    rows, label_rows = scorer.shape.split(torch.from_numpy(prompt))  # (P, D), (L, D)
    if scorer.tuning is not None:
        return tuned_adapter(scorer.tuning, rows, source)
    head = scorer.backbone.classifier
    tensors, task_type = {ROWS: rows}, "FEATURE_EXTRACTION"
    if head is not None and scorer.shape.labels:
        task_type = "SEQ_CLS"
        tensors[f"base_model.{head}.weight"] = scorer.scale * label_rows
        if head == "classifier":  # BERT's has biases, a prompt has none
            tensors[f"base_model.{head}.bias"] = torch.zeros(len(label_rows))
    elif head == "score":
        task_type = "CAUSAL_LM"
    config = {
        "peft_type": "PROMPT_TUNING",
        "task_type": task_type,
        "base_model_name_or_path": source,
        "num_virtual_tokens": scorer.shape.rows,
        "token_dim": scorer.backbone.dim,
        "num_layers": scorer.backbone.depth,
        "num_attention_heads": int(scorer.backbone.model.config.num_attention_heads),
        "num_transformer_submodules": 1,
        "prompt_tuning_init": "RANDOM",
        "inference_mode": True,
    }
    return Adapter(config | ({"modules_to_save": [head]} if task_type == "SEQ_CLS" else {}), tensors)


def load_prompt(folder: Path) -> tuple[Array, dict[str, Any]]:
    """Return a saved prompt (P+L, D) and the content of its promptward.json; raise `InputError` when it is not whole."""
    try:
        facts = json.loads((folder / FACTS).read_text())
        beside = folder / "label_rows.safetensors"
        rows = load_file(beside)[MOVED] if facts.get("tune") else load_file(folder / WEIGHTS)[ROWS]
        none = facts.get("label_rows") == 0 and not beside.exists()  # rows that came from PEFT
        label_rows = rows[:0] if none else load_file(beside)[LABELS]
    except (OSError, ValueError, KeyError) as error:
        raise InputError(f"{folder}: this is not a whole prompt folder ({error}); name one that `simulate` wrote.") from None
    return torch.cat([rows, label_rows]).numpy(), facts


def _peft_loads(card: TaskCard, scorer: "Scorer") -> bool:
    """Say whether PEFT has such a prompt: rows before a text at the input, once; or LoRA without a prompt's rows."""
    said = card.prompt
    if scorer.tuning is not None:
        return scorer.tuning.low_rank and len(scorer.tuning.frozen) == 0
    once = said.layer == 0 and not said.deep and said.position == "before"
    return once and scorer.shape.rows > 0 and scorer.backbone.public_images is None


def _write(path: Path, content: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2, sort_keys=True) + "\n")
