"""A pretended second device: tensors that say they are on `far:0`, hold their numbers, and refuse to meet those of this machine.

It stands in for a GPU where there is none. Every operation of torch passes through it. One that mixes both devices raises, as CUDA
would: only a copy, a number without dimensions, and indices of this machine into a far tensor may cross. So a forgotten `.to` fails
a test, and what is computed can be compared with the same on the CPU, number by number.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.utils import backend_registration as backends
from torch.utils._python_dispatch import TorchDispatchMode, return_and_correct_aliasing
from torch.utils._pytree import tree_leaves, tree_map

FAR = "far:0"
CPU = torch.device("cpu")
ATEN = torch.ops.aten
COPIES = (ATEN._to_copy.default, ATEN.copy_.default)
INDEXED = (ATEN.index.Tensor, ATEN.index_put_.default, ATEN.index_put.default, ATEN._unsafe_index_put.default)


class MixedError(RuntimeError):
    """An operation was given tensors of both devices."""


class _Absent(backends._DummyPrivateUse1Hook):
    def is_available(self) -> bool:
        return False  # nobody else shall take it for an accelerator


class Far(Tensor):
    """A tensor on the far device; `inner` has its numbers."""

    inner: Tensor
    __torch_function__ = torch._C._disabled_torch_function_impl

    @staticmethod
    def __new__(cls, inner: Tensor) -> "Far":
        size, more = inner.size(), {"strides": inner.stride(), "storage_offset": inner.storage_offset()}
        made = Tensor._make_wrapper_subclass(cls, size, dtype=inner.dtype, device=FAR, **more)
        made.inner = inner
        return made

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _run(func, args, kwargs or {})


class _Watch(TorchDispatchMode):
    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _run(func, args, kwargs or {})


@contextmanager
def far_device() -> Iterator[None]:
    """Inside, `far:0` is a device."""
    if torch._C._get_privateuse1_backend_name() != "far":
        backends._setup_privateuseone_for_python_backend("far", hook=_Absent())
    with _Watch(), torch.autograd.set_multithreading_enabled(False):  # the engine has no thread for this device
        yield


def _run(func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    given = [each for each in tree_leaves((args, kwargs)) if isinstance(each, Tensor)]
    some_far = any(isinstance(each, Far) for each in given)
    if some_far and not _may_meet(func, args, given):
        raise MixedError(f"{func}: tensors of both devices")
    device = kwargs.get("device")
    plain = {name: value for name, value in kwargs.items() if name != "device"}
    out = func(*tree_map(_inner, args), **tree_map(_inner, plain), **({} if device is None else {"device": CPU}))
    to_far = some_far if device is None else torch.device(device).type == "far"
    if not to_far:
        return out
    out = tree_map(lambda each: Far(each) if isinstance(each, Tensor) else each, out)
    return return_and_correct_aliasing(func, args, kwargs, out) if some_far else out


def _may_meet(func: Any, args: Any, given: list[Tensor]) -> bool:
    near = [each for each in given if not isinstance(each, Far) and each.dim() > 0]
    if not near or func in COPIES:
        return True
    if func in INDEXED:
        others = [args[0], *args[2:]]  # all but the indices, which may be of this machine where the indexed are far
        return all(isinstance(each, Far) for each in others if isinstance(each, Tensor))
    return False


def _inner(each: Any) -> Any:
    return each.inner if isinstance(each, Far) else each
