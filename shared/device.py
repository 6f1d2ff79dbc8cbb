"""The processor that a frozen model runs on. A site or a simulation names its own; the card and its digest never do.

Model, hidden states and the work on them are there. What counts and picks records, and every gradient from clipping on, is in this
machine's memory: clipping, noise, sums and ledger are the same exact arithmetic whatever the device.
"""

import platform
import re
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from shared.errors import InputError, RunError

PATTERN = r"^(cpu|cuda(:[0-9]{1,3})?)$"


def require_device(name: str) -> str:
    """Return the name, `cpu`, `cuda` or `cuda:N`; raise `InputError` with the mend where there is no such device.

    >>> require_device("cpu")
    'cpu'
    """
    if re.fullmatch(PATTERN, name) is None:
        raise InputError(f"device '{name}': there is no such device; name cpu, cuda or cuda:N.")
    if name == "cpu":
        return name
    if not torch.backends.cuda.is_built():  # type: ignore[no-untyped-call]
        wheel = f"pip install --force-reinstall torch=={torch.__version__.partition('+')[0]}, from PyPI on Linux, has it"
        raise InputError(f"device '{name}': torch {torch.__version__} is built without CUDA; {wheel}; or take cpu.")
    found = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if found == 0:
        raise InputError(f"device '{name}': torch has CUDA and sees no GPU; see what nvidia-smi says, or take cpu.")
    if int(name.partition(":")[2] or 0) >= found:
        raise InputError(f"device '{name}': torch sees {found} GPU{'s' * (found > 1)}; name cuda:0 to cuda:{found - 1}, or cpu.")
    return name


def described(name: str) -> str:
    """Return the device's name with what it is; raise `InputError` where it is not here."""
    if require_device(name) == "cpu":
        return f"cpu, {platform.machine()}, {torch.get_num_threads()} threads"
    return f"{name}, {torch.cuda.get_device_name(name)}, CUDA {torch.version.cuda}"


@contextmanager
def enough_memory(device: str) -> Iterator[None]:
    """Turn a GPU without room for hidden states or a batch into one sentence (`RunError`)."""
    try:
        yield
    except torch.OutOfMemoryError:
        raise RunError(
            f"device '{device}' has too little memory for the model, all records' hidden states and a batch; "
            "take a card in bfloat16, a GPU with more memory, or cpu."
        ) from None
