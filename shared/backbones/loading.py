"""What a card and a party say about the use of a model, and the model from its folder."""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from shared.backbones.protocol import Position, Readout
from shared.errors import InputError


@dataclass(frozen=True)
class Options:
    """What decides how a model is used: the card's keys, and the device.

    Attributes:
        dtype: `float32` or `bfloat16`.
        max_tokens: longer texts are cut.
        readout: what is read of a record; None: as the family does.
        position: prompt rows before or after the record.
        device: where the model runs, which is this party's own business, see `shared.device`.
    """

    dtype: str = "float32"
    max_tokens: int = 128
    readout: Readout | None = None
    position: Position = "before"
    device: str = "cpu"


def load_model(kind: Any, folder: Path, config: Any, options: Options, spare: tuple[str, ...] = (), **more: Any) -> Any:
    """Return the weights in `folder` as a frozen model of class `kind`: safetensors, no code of others, nothing fetched.

    Args:
        kind: a Hugging Face model class.
        folder: see `shared.backbone.locate`.
        config: its configuration.
        options: give dtype and device.
        spare: beginnings of names of weights that may be missing, because the adapter does not use them.
        more: arguments of `from_pretrained`.

    Raises:
        InputError: the folder lacks weights that the adapter uses; they would be random.
    """
    with _quiet():
        model, found = kind.from_pretrained(
            folder,
            config=config,
            dtype=getattr(torch, options.dtype),
            use_safetensors=True,
            trust_remote_code=False,
            local_files_only=True,
            output_loading_info=True,
            **more,
        )
    missing = sorted(name for name in found["missing_keys"] if not name.startswith(spare))
    if missing:
        raise InputError(
            f"{folder}: the weights have no '{missing[0]}', which {kind.__name__} needs; name a model that was trained with it."
        )
    return model.eval().requires_grad_(False).to(options.device)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep transformers from printing its table of weights that are not used: what is missing we say ourselves."""
    from transformers.utils import logging  # noqa: PLC0415 (a second to import)

    before = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(before)


def choose(options: Options, readouts: tuple[Readout, ...], after: bool = False) -> Readout:
    """Return the card's readout, or the first of `readouts`.

    Args:
        options: what the card says.
        readouts: what the family can read.
        after: the family can have the prompt after the record.

    Raises:
        InputError: the family cannot do what the card says.
    """
    if options.position == "after" and not after:
        raise InputError("[prompt] position 'after' needs a causal language model; choose 'before'.")
    if options.readout is None:
        return readouts[0]
    if options.readout not in readouts:
        raise InputError(f"[prompt] readout '{options.readout}' is not for this model; choose {' or '.join(readouts)}.")
    return options.readout
