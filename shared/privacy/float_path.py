"""The readable float path: Opacus' `DPOptimizer`, fed through `grad_sample`, with noise from one of our streams.

It is what the exact path (`clip`, `noise`) is tested against, and what privacy.md §1.2 warns about is handled here: the loss is a
sum, so no denominator enters; non-finite patients are dropped; a new optimizer a release carries nothing over.
"""

import math

import numpy as np
import torch
from opacus.optimizers import DPOptimizer
from scipy.special import ndtri
from torch import Tensor

from shared.privacy.clip import drop_non_finite
from shared.privacy.guarantee import NoisedSum
from shared.privacy.source import Stream, uniform

CHUNK = 2**16  # numbers that are drawn at once, so that millions need no memory but their own


class StreamNoiseOptimizer(DPOptimizer):  # type: ignore[misc]  # Opacus is untyped
    """Opacus' `DPOptimizer` whose noise comes from one of our streams instead of torch's global generator."""

    def __init__(self, optimizer: torch.optim.Optimizer, clip_norm: float, noise_multiplier: float, stream: Stream) -> None:
        """Wrap `optimizer`."""
        super().__init__(
            optimizer,
            noise_multiplier=noise_multiplier,
            max_grad_norm=clip_norm,
            expected_batch_size=None,
            loss_reduction="sum",
        )
        self._std = noise_multiplier * clip_norm if noise_multiplier else 0.0
        self._stream = stream

    def add_noise(self) -> None:
        """Put ``summed_grad + noise`` into ``p.grad`` (privacy.md §1.2: override this to bring an own noise source)."""
        for p in self.params:
            noise = gaussian(tuple(p.summed_grad.shape), self._std, self._stream)
            p.grad = (p.summed_grad.double() + noise).to(p.dtype).view_as(p)


def gaussian(shape: tuple[int, ...], std: float, stream: Stream) -> Tensor:
    """Return float64 noise ``N(0, std^2)`` of this shape, by the inverse normal distribution of 53-bit uniforms."""
    noise = np.empty(torch.Size(shape).numel())
    for start in range(0, len(noise), CHUNK):
        piece = noise[start : start + CHUNK]
        ndtri(uniform(stream, len(piece)), out=piece)
        piece *= std
    return torch.from_numpy(noise).reshape(shape)


def float_release(gradients: Tensor, clip_norm: float, noise_multiplier: float, stream: Stream) -> NoisedSum:
    """Clip, sum and noise patient gradients (N, P+L, D); N may be 0, which releases noise alone.

    A patient whose gradient is not finite counts as zero. Without noise, and only then, the clip norm may be infinite.

    Raises:
        ValueError: a clip norm or a noise multiplier that is none.
    """
    if not (clip_norm > 0 and 0 <= noise_multiplier < math.inf and (clip_norm < math.inf or noise_multiplier == 0)):
        raise ValueError(f"clip_norm {clip_norm} with noise_multiplier {noise_multiplier} protects nobody")
    summed = torch.nn.Parameter(torch.zeros(gradients.shape[1:]))
    optimizer = StreamNoiseOptimizer(torch.optim.SGD([summed], lr=1.0), clip_norm, noise_multiplier, stream)
    whole = drop_non_finite(gradients.float())
    summed.grad_sample = whole.double()  # type: ignore[attr-defined]  # the norm of millions of numbers in float32 is .1 % short
    optimizer.pre_step()
    assert summed.grad is not None  # noqa: S101 (for the type checker)
    value = summed.grad.detach().clone().double().numpy()
    optimizer.zero_grad(set_to_none=True)
    scale = noise_multiplier * clip_norm if noise_multiplier else 0.0
    return NoisedSum(value, clip_norm, scale, grid=1.0)
