"""What patients have in common apart from their labels, for partitions by feature: values of a column, or clusters.

No model has a part in it, so that a dealing needs the table (or the pictures) and a seed, and nothing else.
"""

import math
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from client.records import Row
from client.scan import Scan
from shared.pixels import ImageTable
from shared.template import is_absent

Vectors = NDArray[np.float64]  # (N, K), a row a patient
CLUSTERS = 8  # k of k-means
MOST_CODES = 10  # distinct numbers of a column that are taken for codes of categories
GRID = 8  # a picture is looked at as GRID x GRID means


def numbers_in(values: Sequence[object]) -> Vectors | None:
    """Return the values (N,) as numbers, NaN where there is none, or None where they are categories.

    They are numbers when all that are there can be read as such and more than `MOST_CODES` of them differ.

    >>> numbers_in(["1", "2", "1"]) is None, numbers_in([*range(20), ""])[-2:].tolist()
    (True, [19.0, nan])
    """
    try:
        numbers = np.array([math.nan if is_absent(value) else float(str(value)) for value in values])
    except ValueError:
        return None
    present = numbers[~np.isnan(numbers)]
    return numbers if np.isfinite(present).all() and len(set(present.tolist())) > MOST_CODES else None


def word(value: object) -> str:
    """Return a category's name; a cell without a value is a category of its own, named by the empty text."""
    return "" if is_absent(value) else str(value).strip()


def table_vectors(columns: Sequence[Sequence[object]]) -> Vectors:
    """Return (N, K) for columns of N values: numbers standardised, gaps at the mean; categories one-hot."""
    parts: list[Vectors] = []
    for values in columns:
        numbers = numbers_in(values)
        if numbers is None:
            words = np.array([word(value) for value in values])
            parts.append((words[:, None] == np.unique(words)).astype(np.float64))  # (N, categories)
        else:
            scaled = (numbers - np.nanmean(numbers)) / np.nanstd(numbers)
            parts.append(np.nan_to_num(scaled)[:, None])  # (N, 1)
    return np.concatenate(parts, axis=1)


def picture_vectors(rows: Sequence[Row], read: Callable[[Row], Scan], image: ImageTable) -> Vectors:
    """Return (N, K): each row's first picture as the card prepares it, as means on a coarse grid, standardised.

    A file that cannot be read is in the middle here; whether it may be left out is decided where the cohort is made.
    """

    def one(row: Row) -> Vectors:
        try:
            prepared = image.prepare(read(row).pictures[0])  # (C, H, W)
        except Exception:  # whatever a decoder of other people's files raises
            return np.full(image.channels * GRID * GRID, math.nan)
        coarse = functional.adaptive_avg_pool2d(torch.from_numpy(prepared), GRID)  # (C, GRID, GRID)
        return np.asarray(coarse.numpy().ravel(), dtype=np.float64)

    with ThreadPoolExecutor() as workers:
        vectors = np.stack(list(workers.map(one, rows)))  # (N, K)
    readable = ~np.isnan(vectors).any(1)
    if not readable.any():
        return np.zeros_like(vectors)
    middle, spread = vectors[readable].mean(0), vectors[readable].std(0)
    return np.asarray(np.nan_to_num((vectors - middle) / np.where(spread > 0, spread, 1.0)))


def clusters(vectors: Vectors, seed: int) -> list[int]:
    """Return the cluster of each row of (N, K) by k-means, the same for the same seed on any number of processors."""
    from sklearn.cluster import KMeans  # noqa: PLC0415 (two seconds to import)
    from threadpoolctl import threadpool_limits  # noqa: PLC0415

    count = min(CLUSTERS, len(np.unique(vectors, axis=0)))
    with threadpool_limits(1):  # the order in which threads add up would decide between two centres that are equally near
        found = KMeans(count, n_init=4, random_state=seed).fit_predict(vectors)
    return [int(cluster) for cluster in found]
