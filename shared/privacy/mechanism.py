"""The private step's mechanism: clip every patient's gradient, sum, add Gaussian noise; the guarantee comes with the value."""

import math
from dataclasses import dataclass

import torch
from opacus.optimizers import DPOptimizer
from scipy.special import ndtri
from torch import Tensor

from shared.privacy.source import Stream, uniform


@dataclass(frozen=True)
class Mechanism:
    """The public parameters of one release.

    Attributes:
        sample_rate: probability with which a patient is drawn.
        clip_norm: C, the largest L2 norm of one patient's gradient.
        noise_multiplier: sigma; the noise has standard deviation sigma * C in every coordinate. 0 means no privacy.

    Raises:
        ValueError: a number that is no such parameter, or noise around an unclipped sum.
    """

    sample_rate: float
    clip_norm: float
    noise_multiplier: float

    def __post_init__(self) -> None:
        """Refuse what would break the guarantee."""
        if not (0 < self.sample_rate <= 1 and self.clip_norm > 0 and 0 <= self.noise_multiplier < math.inf):
            raise ValueError(f"{self} is no mechanism")
        if self.clip_norm == math.inf and self.noise_multiplier > 0:
            raise ValueError("noise protects nobody without a clip norm")

    @property
    def noise_std(self) -> float:
        """The noise's standard deviation in every coordinate."""
        return self.noise_multiplier * self.clip_norm if self.noise_multiplier else 0.0


def without_privacy(sample_rate: float) -> Mechanism:
    """Return the mechanism that neither clips nor adds noise: for comparison in simulations only."""
    return Mechanism(sample_rate, math.inf, 0.0)


@dataclass(frozen=True)
class NoisedSum:
    """A released sum with the guarantee it was made under.

    Attributes:
        value: ``sum of clipped patient gradients + noise``, float32, the prompt's shape.
        l2_sensitivity: how far one patient can move the sum before noise.
        noise_std: standard deviation of the noise in every coordinate.
    """

    value: Tensor
    l2_sensitivity: float
    noise_std: float
    unit: str = "patient"
    adjacency: str = "add-or-remove-one"


class StreamNoiseOptimizer(DPOptimizer):  # type: ignore[misc]  # Opacus is untyped
    """Opacus' `DPOptimizer` whose noise comes from one of our streams instead of torch's global generator."""

    def __init__(self, optimizer: torch.optim.Optimizer, mechanism: Mechanism, stream: Stream) -> None:
        """Wrap `optimizer`; the loss is a sum, so that no denominator enters the mechanism."""
        super().__init__(
            optimizer,
            noise_multiplier=mechanism.noise_multiplier,
            max_grad_norm=mechanism.clip_norm,
            expected_batch_size=None,
            loss_reduction="sum",
        )
        self._std, self._stream = mechanism.noise_std, stream

    def add_noise(self) -> None:
        """Put ``summed_grad + noise`` into ``p.grad`` (privacy.md §1.2: override this to bring an own noise source)."""
        for p in self.params:
            noise = gaussian(tuple(p.summed_grad.shape), self._std, self._stream)
            p.grad = (p.summed_grad.double() + noise).to(p.dtype).view_as(p)


def gaussian(shape: tuple[int, ...], std: float, stream: Stream) -> Tensor:
    """Return float64 noise ``N(0, std^2)`` of this shape, by the inverse normal distribution of 53-bit uniforms."""
    count = int(torch.Size(shape).numel())
    return torch.from_numpy(ndtri(uniform(stream, count)) * std).reshape(shape)


def drop_non_finite(gradients: Tensor) -> Tensor:
    """Set the whole gradient of a patient to zero where any entry is NaN or infinite: (N, ...) -> (N, ...).

    Done before clipping: a NaN would survive the clip factor and poison the sum, which tells that the patient is there.
    """
    finite = gradients.flatten(1).isfinite().all(1)  # (N,)
    return torch.where(finite.view(-1, *[1] * (gradients.dim() - 1)), gradients, 0.0)


def release(gradients: Tensor, mechanism: Mechanism, stream: Stream) -> NoisedSum:
    """Clip, sum and noise patient gradients (N, P+L, D); N may be 0, which releases noise alone.

    The patients must be a Poisson draw at `mechanism.sample_rate`; a second call needs a new draw and a new stream.
    """
    summed = torch.nn.Parameter(torch.zeros(gradients.shape[1:]))
    optimizer = StreamNoiseOptimizer(torch.optim.SGD([summed], lr=1.0), mechanism, stream)
    summed.grad_sample = drop_non_finite(gradients.float())  # type: ignore[attr-defined]
    optimizer.pre_step()
    assert summed.grad is not None  # noqa: S101 (for the type checker)
    value = summed.grad.detach().clone()
    optimizer.zero_grad(set_to_none=True)
    return NoisedSum(value, mechanism.clip_norm, mechanism.noise_std)
