"""The clipped sum of patients' gradients over all weights of a model, without a gradient of any one patient being made.

The norm of a patient's gradient for a linear layer follows from what its tokens put in and how the loss slopes at what came out:
`|sum_t g_t a_t^T|^2 = sum_st (g_s . g_t)(a_s . a_t)` (ghost clipping: Li et al. 2022, section 4; Goodfellow 2015). One backward
pass gives both the norms and, weighted by the clip factors, the sum (Bu et al. 2023, book-keeping). The norms of a layer are
Opacus'. A patient's records stand one after the other as one long text, so that they are added up before the norm is taken.
Letters in shape comments: N patients, R records, T tokens, D numbers of a layer's input or output, L labels.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from opacus.grad_sample.embedding import compute_embedding_norm_sample
from opacus.grad_sample.layer_norm import compute_layer_norm_grad_sample
from opacus.grad_sample.linear import compute_linear_norm_sample
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from simulations.comparison.training import clip_factors

Named = Mapping[str, Tensor]
NORMS: Mapping[type[nn.Module], Callable[..., dict[nn.Parameter, Tensor]]] = {
    nn.Linear: compute_linear_norm_sample,
    nn.Embedding: compute_embedding_norm_sample,
}


@dataclass(frozen=True)
class Pass:
    """What a trained layer read and gave out for a batch of records; `read` is (R, T, D), or token numbers (R, T)."""

    name: str
    layer: nn.Module
    read: Tensor
    given: Tensor


def trained_layers(model: nn.Module) -> dict[str, nn.Module] | None:
    """Return the layers that hold the weights that need gradients, by name; None where one is of a kind that is not known here."""
    found = {name: each for name, each in model.named_modules() if any(p.requires_grad for p in each.parameters(recurse=False))}
    return found if all(type(layer) in (*NORMS, nn.LayerNorm) for layer in found.values()) else None


@contextmanager
def watched(layers: Mapping[str, nn.Module]) -> Iterator[list[Pass]]:
    """Give a list that fills with the passes through these layers."""
    seen: list[Pass] = []

    def watch(name: str) -> Callable[[nn.Module, tuple[Tensor, ...], Tensor], None]:
        return lambda layer, inputs, given: seen.append(Pass(name, layer, inputs[0].detach().contiguous(), given))

    hooks = [layer.register_forward_hook(watch(name)) for name, layer in layers.items()]
    try:
        yield seen
    finally:
        for hook in hooks:
            hook.remove()


def add_clipped(
    total: Named, seen: Sequence[Pass], slopes: Sequence[Tensor], apart: Named, counts: Sequence[int], clip_norm: float
) -> None:
    """Add the clipped gradients of N patients to `total`, in place.

    Args:
        total: by the name of each weight.
        seen: the passes of all their records, a patient's records next to each other; every layer once.
        slopes: of the loss at what each pass gave out, (R, T, D); the loss of a patient is the mean over its records.
        apart: of weights that are no layer's, each record's gradient (R, ...).
        counts: records of each patient.
        clip_norm: of a patient's gradient over all weights together.

    Raises:
        ValueError: a layer that was passed twice, whose gradient is that of both passes together.
    """
    if len({each.name for each in seen}) < len(seen):
        raise ValueError("a layer was passed twice, and the norm of its gradient does not follow from each pass")
    passes = [(each, _by_patient(each.read, counts), _by_patient(slope, counts)) for each, slope in zip(seen, slopes, strict=True)]
    whole = {name: _by_patient(gradient.unsqueeze(1), counts).sum(1) for name, gradient in apart.items()}  # (N, ...)
    for each, read, slope in passes:
        if isinstance(each.layer, nn.LayerNorm):
            whole |= _named(each, compute_layer_norm_grad_sample(each.layer, [read], slope))
    squares = [gradient.flatten(1).square().sum(1) for gradient in whole.values()]
    for each, read, slope in passes:
        if type(each.layer) in NORMS:
            squares += [norm.square() for norm in NORMS[type(each.layer)](each.layer, [read], slope).values()]
    factor = clip_factors(torch.stack(squares).sum(0).sqrt(), clip_norm)  # (N,)
    kept = factor > 0
    for name, gradient in whole.items():
        total[name].add_(torch.tensordot(factor[kept], gradient[kept], 1))
    for each, read, slope in passes:
        if type(each.layer) in NORMS:
            _add(total, each, read[kept].flatten(0, 1), (slope[kept] * factor[kept, None, None]).flatten(0, 1))


def _add(total: Named, each: Pass, read: Tensor, slope: Tensor) -> None:
    """Add a layer's weighted sum: its input (n, D) or token numbers (n,), and slopes (n, D)."""
    weight = total[f"{each.name}.weight"]
    if isinstance(each.layer, nn.Embedding):
        weight.index_add_(0, read, slope)
        return
    weight.addmm_(slope.T, read)
    if each.layer.bias is not None:
        total[f"{each.name}.bias"].add_(slope.sum(0))


def _by_patient(x: Tensor, counts: Sequence[int]) -> Tensor:
    """Return records (R, T, ...) as patients (N, M T, ...), M the most records of one, with zeros where a patient has fewer."""
    if x.dim() == 2 and x.is_floating_point():  # a layer that reads one vector of a record
        x = x.unsqueeze(1)
    if max(counts) == 1:
        return x
    return pad_sequence(list(torch.split(x, list(counts))), batch_first=True).flatten(1, 2)


def _named(each: Pass, gradients: Mapping[nn.Parameter, Tensor]) -> dict[str, Tensor]:
    own = {id(parameter): name for name, parameter in each.layer.named_parameters(recurse=False)}
    return {f"{each.name}.{own[id(parameter)]}": gradient for parameter, gradient in gradients.items()}
