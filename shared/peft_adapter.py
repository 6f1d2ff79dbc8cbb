"""PEFT's folder of a soft prompt, ours or anybody's: `adapter_config.json` and `adapter_model.safetensors`.

Tensors are kept as they are in the file, so that a prompt that comes in goes out with the same bytes.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from shared.errors import InputError

ROWS = "prompt_embeddings"  # PEFT's name for the rows
WEIGHTS, CONFIG = "adapter_model.safetensors", "adapter_config.json"
HEADS = ("classifier", "score")  # PEFT's names for the layer that a sequence classification adds
# Prompt encoders are saved as the rows that they end up with; the other kinds of PEFT are no rows before a text.
ROW_KINDS = ("PROMPT_TUNING", "P_TUNING")


@dataclass(frozen=True)
class Adapter:
    """A soft prompt in PEFT's terms.

    Attributes:
        config: what `adapter_config.json` holds.
        tensors: what `adapter_model.safetensors` holds, by PEFT's names.
    """

    config: Mapping[str, Any]
    tensors: Mapping[str, Tensor]

    @property
    def rows(self) -> Tensor:
        """The prompt's rows, (P, D)."""
        return self.tensors[ROWS]

    @property
    def label_rows(self) -> Tensor | None:
        """The classifier's weights (L, D), where it is one linear layer on the same width as the rows."""
        return self._of_head("weight")

    @property
    def label_bias(self) -> Tensor | None:
        """The classifier's biases (L,), where it has some."""
        return self._of_head("bias")

    def _of_head(self, part: str) -> Tensor | None:
        found = (self.tensors.get(f"base_model.{head}.{part}") for head in HEADS)
        return next((tensor for tensor in found if tensor is not None), None)


def read_adapter(folder: Path) -> Adapter:
    """Read a PEFT folder that holds rows before a text.

    Raises:
        InputError: it is not whole, its weights are pickled, or it holds another kind of adapter.
    """
    if not (folder / WEIGHTS).is_file() and (folder / "adapter_model.bin").is_file():
        raise InputError(f"{folder}: pickled weights are refused because they can run code; save the adapter as safetensors.")
    try:
        config = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
        tensors = load_file(folder / WEIGHTS)
    except (OSError, ValueError, SafetensorError) as error:
        raise InputError(f"{folder}: this is not a whole PEFT folder ({error}); it needs {CONFIG} and {WEIGHTS}.") from None
    kind = config.get("peft_type") if isinstance(config, dict) else None
    if kind not in ROW_KINDS:
        raise InputError(f"{folder / CONFIG}: peft_type is '{kind}'; only {' and '.join(ROW_KINDS)} are rows before a text.")
    rows = tensors.get(ROWS)
    count, dim = config.get("num_virtual_tokens"), config.get("token_dim")
    if rows is None or rows.dim() != 2 or (count is not None and len(rows) != count) or (dim is not None and rows.shape[1] != dim):
        shape = None if rows is None else tuple(rows.shape)
        raise InputError(f"{folder / WEIGHTS}: '{ROWS}' has shape {shape} and {CONFIG} says ({count}, {dim}); export it again.")
    return Adapter(config, tensors)


def write_adapter(folder: Path, adapter: Adapter) -> None:
    """Write the two files of PEFT's format into `folder`, which is created where it is not there."""
    folder.mkdir(parents=True, exist_ok=True)
    save_file({name: tensor.contiguous() for name, tensor in adapter.tensors.items()}, folder / WEIGHTS, metadata={"format": "pt"})
    (folder / CONFIG).write_text(json.dumps(adapter.config, indent=2, sort_keys=True) + "\n", encoding="utf-8")
