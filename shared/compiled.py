"""The private step through `torch.compile`, for whoever asks for it: the same gradients to floating point, seconds to compile.

On a processor it brings next to nothing (docs/benchmarks.md), and it was not measured on a GPU.
"""

import shutil
from dataclasses import replace

import torch

from shared.errors import InputError
from shared.scoring import Scorer

COMPILERS = ("c++", "g++", "clang++")


def require_compiler() -> None:
    """Raise `InputError` where torch would find no C++ compiler."""
    if not any(map(shutil.which, COMPILERS)):
        raise InputError("torch.compile needs a C++ compiler, and there is none here; install g++ (gcc alone is not enough).")


def compiled(scorer: Scorer, backend: str = "inductor") -> Scorer:
    """Return the scorer with a compiled loss for gradients.

    It is compiled at the first batch, once more for batches of any other number of records, and for a batch of a single one.
    Raises `InputError` without a C++ compiler; `backend` is torch's, and another one than its own is for tests.
    """
    if backend == "inductor":
        require_compiler()
    return replace(scorer, fast=torch.compile(scorer.loss, backend=backend))
