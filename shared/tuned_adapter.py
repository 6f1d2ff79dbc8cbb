"""Changes of the model in PEFT's terms: its LoRA format, or changes by the names of the weights where PEFT has no format.

Letters in shape comments: M rows that hold what moves, D hidden size.
"""

from torch import Tensor

from shared.backbones.tuning import Tuning
from shared.peft_adapter import Adapter

PREFIX = "base_model.model."  # PEFT's, before the names of a model's own modules


def tuned_adapter(tuning: Tuning, rows: Tensor, source: str) -> Adapter:
    """Return what rows (M, D) change, as PEFT's LoRA adapter; changes of whole weights have names and no `peft_type`."""
    tensors: dict[str, Tensor] = {}
    for part, own in zip(tuning.parts, tuning.cut(rows.unsqueeze(0)), strict=True):
        kinds = ("lora_A.weight", "lora_B.weight") if part.scale else ("weight", "bias")
        tensors |= {f"{PREFIX}{part.name}.{kind}": tensor[0].clone() for kind, tensor in zip(kinds, own, strict=False)}
    config = {"task_type": "FEATURE_EXTRACTION", "base_model_name_or_path": source, "inference_mode": True}
    if not tuning.low_rank:
        return Adapter(config | {"peft_type": None, "holds": "changes that are added to the model's weights"}, tensors)
    first = tuning.parts[0]
    rank = first.shapes[0][0]
    lora = {
        "peft_type": "LORA",
        "r": rank,
        "lora_alpha": first.scale * rank,
        "lora_dropout": 0.0,
        "bias": "none",
        "target_modules": [part.name for part in tuning.parts],
    }
    return Adapter(config | lora, tensors)
