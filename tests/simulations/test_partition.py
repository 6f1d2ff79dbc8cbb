import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import adjusted_rand_score, mutual_info_score

from client.scan import Scan
from shared.errors import InputError
from shared.pixels import ImageTable
from simulations.features import CLUSTERS, clusters, picture_vectors, table_vectors
from simulations.partition import Scheme, deal, deal_by_value

LABELS = [n % 2 for n in range(600)]
TRAIN = [n % 3 > 0 for n in range(600)]


@settings(max_examples=40, deadline=None)
@given(
    st.sampled_from(["iid", "dirichlet:0.1", "dirichlet:10", "quantity:0.2", "cluster:0.1"]),
    st.integers(1, 400),
    st.integers(0, 99),
)
def test_every_patient_has_one_site_and_every_site_a_training_patient(text: str, sites: int, seed: int) -> None:
    where = deal(Scheme.parse(text), LABELS, TRAIN, sites, seed)
    assert len(where) == 600
    assert set(where[np.array(TRAIN)]) == set(range(sites))


def skews(text: str) -> tuple[float, float]:
    """Return the spread over sites of label share and of size."""
    where = deal(Scheme.parse(text), LABELS, TRAIN, 6, 0)
    sizes = np.bincount(where, minlength=6)
    share = np.bincount(where, LABELS, 6) / sizes
    return float(np.sqrt(np.average((share - 0.5) ** 2, weights=sizes))), float(np.std(sizes))


def test_each_scheme_skews_what_it_says() -> None:
    iid, label, size = skews("iid"), skews("dirichlet:0.3"), skews("quantity:0.3")
    assert iid[0] < 0.05
    assert iid[1] < 3
    assert label[0] > 0.15
    assert size[1] > 40
    assert size[0] < 0.1  # sizes differ, labels do not


def test_the_same_seed_deals_the_same() -> None:
    one, same, other = (deal(Scheme("iid"), LABELS, TRAIN, 5, seed) for seed in (1, 1, 2))
    assert (one == same).all()
    assert (one != other).any()


@pytest.mark.parametrize(
    "text", ["dirichlet", "dirichlet:0", "dirichlet:x", "iid:1", "nothing", "quantity:nan", "", "feature", "feature: ", "cluster"]
)
def test_an_unknown_scheme_lists_the_known(text: str) -> None:
    with pytest.raises(InputError, match="write natural, iid, dirichlet:ALPHA"):
        Scheme.parse(text)


def test_more_sites_than_patients_is_refused() -> None:
    with pytest.raises(InputError, match="--sites 401: there are only 400 training patients"):
        deal(Scheme("iid"), LABELS, TRAIN, 401, 0)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.sampled_from(["a", "b", "c", None, *range(30)]), min_size=1, max_size=80),
    st.integers(1, 40),
    st.integers(0, 9),
    st.data(),
)
def test_by_value_every_patient_has_one_site_and_every_site_a_training_patient(
    values: list[object], sites: int, seed: int, data: st.DataObject
) -> None:
    numbers = data.draw(st.booleans())
    given_values = [v for v in values if not isinstance(v, str)] or [1] if numbers else values
    train = data.draw(st.lists(st.booleans(), min_size=len(given_values), max_size=len(given_values)))
    if sum(train) < sites:
        with pytest.raises(InputError, match="training patients"):
            deal_by_value(given_values, train, sites, seed)
        return
    where = deal_by_value(given_values, train, sites, seed)
    assert len(where) == len(given_values)
    assert set(where[np.array(train)]) == set(range(sites))
    assert where.max() < sites


def test_numbers_are_cut_at_their_quantiles() -> None:
    ages = [20 + (7 * n) % 60 for n in range(600)]
    where = deal_by_value([*map(str, ages)], TRAIN, 6, 0)
    assert set(np.bincount(where)) == {100}
    spans = [
        (min(a for a, w in zip(ages, where, strict=True) if w == s), max(a for a, w in zip(ages, where, strict=True) if w == s))
        for s in range(6)
    ]
    assert all(one[1] <= other[0] for one, other in itertools.pairwise(spans))
    gaps = deal_by_value([None if n % 3 == 0 else a for n, a in enumerate(ages)], TRAIN, 3, 0)
    assert (gaps[::3] == 2).all()  # patients without a number are together, after all others


def test_categories_are_kept_apart() -> None:
    words = np.array(["x"] * 300 + ["y"] * 200 + ["z"] * 100)
    many = deal_by_value(words.tolist(), TRAIN, 6, 0)
    assert [sorted(set(many[words == name])) for name in "xyz"] == [[0, 1, 2], [3, 4], [5]]
    few = deal_by_value(words.tolist(), TRAIN, 2, 0)
    assert [sorted(set(few[words == name])) for name in "xyz"] == [[0], [1], [1]]
    assert (
        deal_by_value([str(n % 4) for n in range(600)], TRAIN, 4, 0).tolist()
        == deal_by_value([n % 4 for n in range(600)], TRAIN, 4, 0).tolist()
    )


def test_the_smaller_alpha_the_more_a_site_tells_of_the_cluster() -> None:
    """Mutual information of cluster and site, mean of five dealings; with many sites' worth of alpha it is that of chance."""
    group = [n % CLUSTERS for n in range(600)]

    def told(alpha: str) -> float:
        return float(
            np.mean([mutual_info_score(group, deal(Scheme.parse(f"cluster:{alpha}"), group, TRAIN, 6, s)) for s in range(5)])
        )

    strong, middle, weak = told("0.05"), told("1"), told("100")
    assert strong > 2 * middle > 8 * weak
    assert weak < 0.05


def test_clusters_find_groups_that_a_table_holds() -> None:
    truth = np.arange(240) % CLUSTERS
    colour = [f"c{t}" for t in truth]
    age = [str(30 + 5 * t + n % 3) if n % 40 else "" for n, t in enumerate(truth)]
    found = clusters(table_vectors([colour, age]), 0)
    assert adjusted_rand_score(truth, found) > 0.9
    assert found == clusters(table_vectors([colour, age]), 0)
    assert clusters(table_vectors([["same"] * 5]), 0) == [0] * 5


def test_clusters_of_pictures_follow_what_is_seen() -> None:
    def read(row: dict[str, int]) -> Scan:
        if row["n"] == 7:
            raise OSError("broken")
        picture = np.random.default_rng(row["n"]).random((12, 12)).astype(np.float32) * np.float32(0.1)
        picture[:, :6] += np.float32(0.8 * (row["n"] % 2))
        return Scan((picture,))

    vectors = picture_vectors([{"n": n} for n in range(60)], read, ImageTable(size=12))
    assert vectors.shape == (60, 64)
    assert (vectors[7] == 0).all()
    sides = np.delete(np.array(clusters(vectors, 0)), 7)
    odd = np.delete(np.arange(60) % 2, 7)
    assert not set(sides[odd == 1]) & set(sides[odd == 0])
