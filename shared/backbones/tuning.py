"""Conventional fine-tuning over the same one tensor: low-rank changes (LoRA, Hu et al. 2022) or all weights of the upper layers.

What moves is cut from the tensor's rows, one set for each record of a batch, and added inside the frozen model. So the gradient
for a record's own set is that record's gradient, as it is for prompt rows, and everything that handles a prompt handles this.
Letters in shape comments: B records, T tokens, K numbers that move, M = ceil(K / D) rows that hold them, D hidden size, r rank.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from shared.backbones.protocol import Backbone
from shared.errors import InputError
from shared.prompt import random_rows

Kind = Literal["lora", "layers"]
# The modules that LoRA changes, by the last part of their names: queries and values, as in the paper's section 7.1.
TARGETS = ("query", "value", "q_proj", "v_proj", "c_attn")
HELD = 2**25  # numbers of records' own sets that are held at once: 128 MiB
_MARK = "_promptward_tuned"
_NOW: ContextVar[Mapping[nn.Module, "tuple[Part, list[Tensor]]"]] = ContextVar("tuning", default={})  # noqa: B039 (never changed)


@dataclass(frozen=True)
class Part:
    """A module of the model and the tensors that change it.

    Attributes:
        name: in the Hugging Face model.
        module: a linear layer, or for `layers` also a layer norm.
        shapes: of its tensors: for LoRA A (r, in) and B (out, r); else its weight's and bias's changes.
        scale: LoRA's alpha / r.
    """

    name: str
    module: Any
    shapes: tuple[tuple[int, ...], ...]
    scale: float = 0.0

    def changed(self, given: Tensor, output: Tensor, own: list[Tensor]) -> Tensor:
        """Return the module's output (B, T, out) with each record's own change, for what the module was given (B, T, in)."""
        dtype = output.dtype
        if self.scale:
            low = given @ own[0].to(dtype).mT  # (B, T, r)
            return output + self.scale * (low @ own[1].to(dtype).mT)
        if isinstance(self.module, nn.LayerNorm):
            plain = functional.layer_norm(given, self.module.normalized_shape, eps=self.module.eps)  # (B, T, D)
            change = plain * own[0].to(dtype).unsqueeze(1)
        else:
            change = given @ own[0].to(dtype).mT  # (B, T, out)
        return output + (change + own[1].to(dtype).unsqueeze(1) if len(own) > 1 else change)


@dataclass(frozen=True)
class Tuning:
    """What moves in a frozen model, and the prompt rows that stay as they were trained.

    Attributes:
        parts: in the order in which the tensor holds them.
        frozen: the prompt rows (P, D), which do not move.
        dim: D.
    """

    parts: tuple[Part, ...]
    frozen: Tensor
    dim: int

    @property
    def numbers(self) -> int:
        """K."""
        return sum(_count(shape) for part in self.parts for shape in part.shapes)

    @property
    def low_rank(self) -> bool:
        """Whether the changes are LoRA's."""
        return self.parts[0].scale > 0

    @property
    def rows(self) -> int:
        """M."""
        return -(-self.numbers // self.dim)

    def start(self) -> Tensor:
        """Return the rows (M, D) with which the model is what it was: LoRA's A is random by a public constant, all else zero."""
        public, flat = random_rows(self.rows, self.dim).flatten(), torch.zeros(self.rows * self.dim)
        for part, at in self._places():
            if part.scale:
                end = at + _count(part.shapes[0])
                flat[at:end] = public[at:end] / part.shapes[0][1] ** 0.5
        return flat.view(self.rows, self.dim)

    def cut(self, rows: Tensor) -> list[list[Tensor]]:
        """Return each part's tensors, (B, ...) each, out of rows (B, M, D); the numbers that fill up the last row are not used."""
        flat, at, found = rows.flatten(1), 0, []  # (B, M D)
        for part in self.parts:
            own = []
            for shape in part.shapes:
                own.append(flat[:, at : at + _count(shape)].view(len(rows), *shape))
                at += _count(shape)
            found.append(own)
        return found

    @contextmanager
    def moved(self, rows: Tensor) -> Iterator[None]:
        """Inside, the model runs with each record's own changes from rows (B, M, D); in this thread only."""
        token = _NOW.set({part.module: (part, own) for part, own in zip(self.parts, self.cut(rows), strict=True)})
        try:
            yield
        finally:
            _NOW.reset(token)

    def fitting(self, batch: int) -> int:
        """Return how many records, at most `batch`, may have sets of their own at once."""
        return max(1, min(batch, HELD // self.numbers))

    def _places(self) -> Iterator[tuple[Part, int]]:
        at = 0
        for part in self.parts:
            yield part, at
            at += sum(_count(shape) for shape in part.shapes)


def tuning_of(backbone: Backbone, kind: Kind, layer: int, rank: int, alpha: float, frozen: Tensor) -> Tuning:
    """Return what moves in the layers from `layer` on; the model itself stays as it is.

    Args:
        backbone: loaded.
        kind: `lora`, or `layers` for all weights of linear layers and norms.
        layer: the first layer that is changed; below it, states are computed once.
        rank: of LoRA.
        alpha: of LoRA; changes are scaled by alpha / rank.
        frozen: prompt rows (P, D).

    Raises:
        InputError: the model has no module that LoRA changes.
    """
    names = {id(module): name for name, module in backbone.model.named_modules()}
    inside = [module for each in backbone.layers[layer:] for module in each.modules()]
    if kind == "lora":
        aimed = [module for module in inside if names[id(module)].rpartition(".")[2] in TARGETS]
        parts = [
            Part(names[id(module)], module, ((rank, inputs), (outputs, rank)), alpha / rank)
            for module in aimed
            for inputs, outputs in [_sizes(module)]
        ]
    else:
        parts = [Part(names[id(module)], module, shapes) for module in inside if (shapes := _own_shapes(module))]
    if not parts:
        raise InputError(f"[tune] kind '{kind}': this model has no {' or '.join(TARGETS)}; choose kind = 'layers'.")
    for part in parts:
        if not getattr(part.module, _MARK, False):
            part.module.register_forward_hook(_hook)
            setattr(part.module, _MARK, True)
    return Tuning(tuple(parts), frozen, backbone.dim)


def _hook(module: nn.Module, given: tuple[Tensor, ...], output: Tensor) -> Tensor:
    found = _NOW.get().get(module)
    return output if found is None else found[0].changed(given[0], output, found[1])


def _own_shapes(module: nn.Module) -> tuple[tuple[int, ...], ...]:
    """Return the shapes of a linear layer's or layer norm's weight, as (out, in), and bias; nothing for other modules."""
    weight, bias = getattr(module, "weight", None), getattr(module, "bias", None)
    if isinstance(module, nn.LayerNorm):
        shapes: list[tuple[int, ...]] = [tuple(module.normalized_shape)]
    elif isinstance(weight, Tensor) and weight.dim() == 2 and not isinstance(module, nn.Embedding):
        inputs, outputs = _sizes(module)
        shapes = [(outputs, inputs)]
    else:
        return ()
    return tuple(shapes) if bias is None else (*shapes, tuple(bias.shape))


def _sizes(module: Any) -> tuple[int, int]:
    """Return the inputs and outputs of a linear layer; GPT-2's keeps its weight turned round."""
    first, second = module.weight.shape
    return (second, first) if isinstance(module, nn.Linear) else (first, second)


def _count(shape: tuple[int, ...]) -> int:
    return int(torch.Size(shape).numel())
