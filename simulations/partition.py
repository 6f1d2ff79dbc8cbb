"""Which simulated site a patient belongs to.

Our own few lines, because the one maintained library (flwr-datasets) brings in Hugging Face `datasets`, seaborn and an
older hub client for what numpy does. Dirichlet label skew: Hsu et al. 2019; quantity and feature skew: Li et al. 2022, section IV.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from shared.errors import InputError
from simulations.features import numbers_in, word

KINDS = "natural, iid, dirichlet:ALPHA (label skew), quantity:ALPHA (size skew), feature:COLUMN or cluster:ALPHA (feature skew)"


@dataclass(frozen=True)
class Scheme:
    """How patients are dealt out.

    Attributes:
        kind: natural, iid, dirichlet, quantity, feature or cluster.
        alpha: of dirichlet, quantity and cluster; small for a strong skew.
        column: of feature.
    """

    kind: str
    alpha: float = 0.0
    column: str = ""

    @classmethod
    def parse(cls, text: str) -> "Scheme":
        """Read `natural`, `iid`, `dirichlet:0.3`, `quantity:0.5`, `feature:age` or `cluster:0.3`; raise `InputError` else.

        >>> Scheme.parse("dirichlet:0.3").alpha
        0.3
        """
        kind, _, number = text.partition(":")
        if kind in ("natural", "iid") and not number:
            return cls(kind)
        if kind == "feature" and number.strip():
            return cls(kind, column=number.strip())
        try:
            alpha = float(number)
        except ValueError:
            alpha = -1.0
        if kind not in ("dirichlet", "quantity", "cluster") or not 0 < alpha < 1e6:
            raise InputError(f"--partition '{text}' is not known; write {KINDS}, ALPHA being a number above 0.")
        return cls(kind, alpha)


def deal(scheme: Scheme, labels: Sequence[int], train: Sequence[bool], sites: int, seed: int) -> NDArray[np.int64]:
    """Return the site 0 .. sites-1 of each patient.

    Args:
        scheme: any but `natural` and `feature`.
        labels: the label of each patient; for `cluster` the patient's cluster.
        train: whether the patient is in the training part; every site gets at least one of these.
        sites: number of sites.
        seed: of the dealing; simulated sites are no secret.

    Raises:
        InputError: fewer training patients than sites.
    """
    target, trained = np.asarray(labels), np.asarray(train)
    _require_enough(trained, sites)
    random = np.random.default_rng(seed)
    shares = _shares(scheme, sorted(set(labels)), sites, random)
    where = np.zeros(len(target), dtype=np.int64)
    for part in (True, False):
        for label, share in shares.items():
            mine = np.flatnonzero((target == label) & (trained == part))
            where[random.permutation(mine)] = _cut(share, len(mine), random)
    return _fill_empty(where, trained, sites)


def deal_by_value(values: Sequence[object], train: Sequence[bool], sites: int, seed: int) -> NDArray[np.int64]:
    """Return the site 0 .. sites-1 of each patient, so that patients of like value are together.

    Numbers are cut at their quantiles into sites of equal size, the lowest at site 0; patients without a number come last.
    Categories are kept apart: with as many sites or more, each category has sites of its own, by its size; with fewer sites,
    a category is at one site, the larger first to the site that has the fewest patients. `features.numbers_in` tells them apart.

    Args:
        values: of each patient.
        train: as for `deal`.
        sites: number of sites.
        seed: decides between equal numbers, and within a category.

    Raises:
        InputError: fewer training patients than sites.
    """
    trained, random = np.asarray(train), np.random.default_rng(seed)
    _require_enough(trained, sites)
    numbers = numbers_in(values)
    if numbers is None:
        where = _by_category(np.array([word(value) for value in values]), sites, random)
    else:
        order = np.lexsort((random.random(len(numbers)), numbers))  # NaN last
        where = np.empty(len(numbers), dtype=np.int64)
        where[order] = np.arange(len(numbers)) * sites // len(numbers)
    return _fill_empty(where, trained, sites)


def _require_enough(trained: NDArray[np.bool_], sites: int) -> None:
    if trained.sum() < sites:
        raise InputError(
            f"--sites {sites}: there are only {trained.sum()} training patients; ask for at most so many sites, "
            f"or for made-up patients with --data synthetic:{10 * sites}."
        )


def _by_category(words: NDArray[np.str_], sites: int, random: np.random.Generator) -> NDArray[np.int64]:
    names, group, sizes = np.unique(words, return_inverse=True, return_counts=True)
    where = np.zeros(len(words), dtype=np.int64)
    held = np.zeros(sites, dtype=np.int64)  # patients at each site so far
    free = np.arange(sites)
    for number, name in enumerate(np.argsort(-sizes, kind="stable")):
        mine = random.permutation(np.flatnonzero(group == name))
        if len(names) < sites:  # its part of the sites that are left, one at least, and one at least for each that follows
            follow = len(names) - number - 1
            left = sizes[np.argsort(-sizes, kind="stable")[number:]].sum()
            count = min(max(1, round(len(free) * len(mine) / left)), len(free) - follow)
            own, free = free[:count], free[count:]
        else:
            own = np.array([held.argmin()])
        where[mine] = own[np.arange(len(mine)) % len(own)]
        held += np.bincount(where[mine], minlength=sites)
    return where


def _shares(scheme: Scheme, labels: list[int], sites: int, random: np.random.Generator) -> dict[int, NDArray[np.float64]]:
    """Return each label's share at each site; the shares of a label sum to 1."""
    if scheme.kind in ("dirichlet", "cluster"):
        return {label: random.dirichlet(np.full(sites, scheme.alpha)) for label in labels}
    same = random.dirichlet(np.full(sites, scheme.alpha)) if scheme.kind == "quantity" else np.full(sites, 1 / sites)
    return dict.fromkeys(labels, same)


def _cut(share: NDArray[np.float64], count: int, random: np.random.Generator) -> NDArray[np.int64]:
    """Return `count` sites, each site as often as its share says, rounded by largest remainder in random order."""
    exact = share * count
    whole = np.floor(exact).astype(np.int64)
    tie = random.random(len(share)) * 1e-9
    whole[np.argsort(whole - exact + tie)[: count - whole.sum()]] += 1
    return np.repeat(np.arange(len(share)), whole)


def _fill_empty(where: NDArray[np.int64], trained: NDArray[np.bool_], sites: int) -> NDArray[np.int64]:
    """Move one training patient from the largest site to each site that has none."""
    for site in range(sites):
        if not (trained & (where == site)).any():
            largest = np.bincount(where[trained], minlength=sites).argmax()
            where[np.flatnonzero(trained & (where == largest))[0]] = site
    return where
