"""Where a simulation holds its sites' patients: which hidden states an engine needs, and in which process."""

from collections.abc import Callable, Iterator, Mapping, Sequence

import torch

from client.records import joined
from client.round import Pool, pool, pool_of
from shared.backbone import Hidden
from shared.scoring import Scorer
from simulations.evaluate import TestSet, test_set, test_set_of
from simulations.study import SitePatients

Patients = Mapping[str, SitePatients]
Held = tuple[Mapping[str, Pool], Mapping[str, TestSet]]
Hold = Callable[[Patients, Scorer], Held]
MOST = 2**27  # bytes of hidden states as they are read that are still kept four times as large: of 2,000 texts of 40 tokens, say


def each(sites: Patients, scorer: Scorer) -> Held:
    """Read every site's records by themselves, as its hospital would."""
    read = _prepared([scorer.read(part.records) for site in sites.values() for part in (site.train, site.test)], scorer)
    trained, tested = dict(zip(sites, read[::2], strict=True)), dict(zip(sites, read[1::2], strict=True))
    pools = {name: pool_of(site.train, trained[name]) for name, site in sites.items()}
    return pools, {name: test_set_of(site.train, site.test, tested[name]) for name, site in sites.items()}


def together(sites: Patients, scorer: Scorer) -> Held:
    """Read all sites' records in one go, for the batched engine: each site's hidden states are a part of one tensor."""
    parts = [site.train.records for site in sites.values()], [site.test.records for site in sites.values()]
    trained, tested = _prepared([scorer.read(joined(part)) for part in parts], scorer)
    pools, tests, a, b = {}, {}, 0, 0
    for name, site in sites.items():
        n, m = len(site.train.records), len(site.test.records)
        pools[name] = pool_of(site.train, trained.part(a, a + n))
        tests[name] = test_set_of(site.train, site.test, tested.part(b, b + m))
        a, b = a + n, b + m
    return pools, tests


def elsewhere(sites: Patients, scorer: Scorer) -> Held:
    """Read the test records only: actors train. The pools have patients and labels, and no hidden states."""
    nothing = Hidden(torch.zeros(0, 1, 1), torch.zeros(0, 1, dtype=torch.bool))
    return {name: pool_of(patients.train, nothing) for name, patients in sites.items()}, _tests(sites, scorer)


def lazily(sites: Patients, scorer: Scorer) -> Held:
    """Read a site's training records when they are first asked for, and no test records: what an actor needs."""
    return LazyPools(sites, scorer), {}


class LazyPools(Mapping[str, Pool]):
    """Pools that are read when they are first asked for, and kept."""

    def __init__(self, sites: Patients, scorer: Scorer) -> None:
        """Read nothing yet."""
        self._sites, self._scorer = sites, scorer
        self._kept: dict[str, Pool] = {}

    def __getitem__(self, name: str) -> Pool:
        """Return a site's pool."""
        if name not in self._kept:
            self._kept[name] = pool(self._sites[name].train, self._scorer)
        return self._kept[name]

    def __iter__(self) -> Iterator[str]:
        """Give the sites' names."""
        return iter(self._sites)

    def __len__(self) -> int:
        """The number of sites."""
        return len(self._sites)


def _prepared(read: Sequence[Hidden], scorer: Scorer) -> Sequence[Hidden]:
    """Make what was read ready for many steps, unless it is so much that memory is worth more than the steps."""
    return read if sum(hidden.states.nbytes for hidden in read) > MOST else [scorer.prepared(hidden) for hidden in read]


def _tests(sites: Patients, scorer: Scorer) -> Mapping[str, TestSet]:
    return {name: test_set(patients.train, patients.test, scorer) for name, patients in sites.items()}
