"""A noised accuracy: which test patients a prompt reads rightly, and what two noised counts say about its accuracy."""

import numpy as np
import torch
from numpy.typing import NDArray

from client.round import Pool
from shared.prompt import Array
from shared.scoring import Scorer

RIGHT, WRONG = 0, 1
Z95 = 1.959964  # 97.5 % point of the normal distribution


def outcomes(pool: Pool, prompt: Array, scorer: Scorer) -> NDArray[np.int64]:
    """Return `RIGHT` or `WRONG` for each patient (N,): right means that more than half of the patient's records are read rightly.

    A patient's outcome depends on that patient's records and the prompt (P+L, D) alone.
    """
    guesses = scorer.probabilities(pool.hidden, torch.from_numpy(np.array(prompt))).argmax(-1)  # (B,)
    hits = guesses == pool.labels
    shares = [float(hits[mine].double().mean()) for mine in pool.records]
    return np.where(np.array(shares) > 0.5, RIGHT, WRONG).astype(np.int64)


def accuracy(right: int, wrong: int) -> float | None:
    """Return the accuracy that two noised counts speak for, within 0 to 1; None when they speak for no patient at all."""
    return min(1.0, max(0.0, right / (right + wrong))) if right + wrong > 0 else None


def interval(right: int, wrong: int, noise: float) -> tuple[float, float]:
    """Return the accuracies, to 0.001, that two counts with noise of this standard deviation do not contradict at 95 %.

    Accuracy p is contradicted when ``(1 - p) right - p wrong``, whose mean is 0 under p whatever the number n of patients, is
    more than 1.96 of its standard deviations from 0. Its variance is ``n p (1 - p) + noise^2 (p^2 + (1 - p)^2)``: Wilson's
    interval (1927) with the noise added, built as Fieller's (1954). n is read from the noised ``right + wrong``, one of its
    standard deviations larger, because errors of n and of the difference go together.

    >>> interval(50, 50, 0.0)
    (0.403, 0.597)
    """
    p = np.linspace(0, 1, 1001)
    patients = max(right + wrong, 0) + 2**0.5 * noise
    variance = patients * p * (1 - p) + noise**2 * (p**2 + (1 - p) ** 2)
    off = np.abs((1 - p) * right - p * wrong) / np.sqrt(np.maximum(variance, 1e-12))
    kept = p[off <= max(Z95, off.min())]
    return max(0.0, float(kept[0]) - 0.001), min(1.0, float(kept[-1]) + 0.001)  # outward, by the width of the grid
