"""Which simulated site a patient belongs to.

Our own seventy lines, because the one maintained library (flwr-datasets) brings in Hugging Face `datasets`, seaborn and an
older hub client for what numpy does. Dirichlet label skew: Hsu et al. 2019; quantity skew: Li et al. 2022, section IV.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from shared.errors import InputError

KINDS = "natural, iid, dirichlet:ALPHA (label skew) or quantity:ALPHA (size skew)"


@dataclass(frozen=True)
class Scheme:
    """How patients are dealt out: `kind` is natural, iid, dirichlet or quantity; `alpha` is small for a strong skew."""

    kind: str
    alpha: float = 0.0

    @classmethod
    def parse(cls, text: str) -> "Scheme":
        """Read `natural`, `iid`, `dirichlet:0.3` or `quantity:0.5`; raise `InputError` for anything else.

        >>> Scheme.parse("dirichlet:0.3")
        Scheme(kind='dirichlet', alpha=0.3)
        """
        kind, _, number = text.partition(":")
        if kind in ("natural", "iid") and not number:
            return cls(kind)
        try:
            alpha = float(number)
        except ValueError:
            alpha = -1.0
        if kind not in ("dirichlet", "quantity") or not 0 < alpha < 1e6:
            raise InputError(f"--partition '{text}' is not known; write {KINDS}, ALPHA being a number above 0.")
        return cls(kind, alpha)


def deal(scheme: Scheme, labels: Sequence[int], train: Sequence[bool], sites: int, seed: int) -> NDArray[np.int64]:
    """Return the site 0 .. sites-1 of each patient.

    Args:
        scheme: any but `natural`.
        labels: the label of each patient.
        train: whether the patient is in the training part; every site gets at least one of these.
        sites: number of sites.
        seed: of the dealing; simulated sites are no secret.

    Raises:
        InputError: fewer training patients than sites.
    """
    target, trained = np.asarray(labels), np.asarray(train)
    if trained.sum() < sites:
        raise InputError(
            f"--sites {sites}: there are only {trained.sum()} training patients; ask for at most so many sites, "
            f"or for made-up patients with --data synthetic:{10 * sites}."
        )
    random = np.random.default_rng(seed)
    shares = _shares(scheme, sorted(set(labels)), sites, random)
    where = np.zeros(len(target), dtype=np.int64)
    for part in (True, False):
        for label, share in shares.items():
            mine = np.flatnonzero((target == label) & (trained == part))
            where[random.permutation(mine)] = _cut(share, len(mine), random)
    return _fill_empty(where, trained, sites)


def _shares(scheme: Scheme, labels: list[int], sites: int, random: np.random.Generator) -> dict[int, NDArray[np.float64]]:
    """Return each label's share at each site; the shares of a label sum to 1."""
    if scheme.kind == "dirichlet":
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
