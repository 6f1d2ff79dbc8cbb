"""What the coordinator checks in a reply before it counts: name, shape, dtype, finiteness, and a norm no honest site passes."""

import math

import numpy as np
from flwr.app import Message

from shared.card import TaskCard
from shared.privacy.mechanism import Mechanism, Update, decode
from shared.wire import unpack_reply


def norm_bound(card: TaskCard, mechanism: Mechanism, size: int) -> float:
    """Return an L2 norm that an honest update of `size` numbers stays under.

    A site sums at most as many clipped gradients as it has patients drawn; four times the federation's expected draw is
    generous. The noise's norm concentrates around its root-mean-square; six standard deviations are added to that.
    """
    noise = mechanism.noise_std * (math.sqrt(size) + 6)
    return card.plan.local_steps * (mechanism.clip_norm * 4 * card.plan.patients_per_round + noise)


def read_update(reply: Message, shape: tuple[int, ...], mechanism: Mechanism, bound: float) -> Update:
    """Return the update in a reply, as it was sent; raise `ValueError` with the reason where it must not count."""
    if reply.has_error():
        raise ValueError(f"it answered with error code {reply.error.code}; the reason is in the site's own log")
    update = unpack_reply(reply.content, mechanism.dtype)
    if update.shape != shape:
        raise ValueError(f"its shape is {update.shape} instead of {shape}")
    if not np.isfinite(update).all():
        raise ValueError("it holds a value that is not finite")
    norm = float(np.linalg.norm(decode(update, mechanism)))
    if norm > bound:
        raise ValueError(f"its norm {norm:.4g} is above {bound:.4g}, which no honest site reaches")
    return update
