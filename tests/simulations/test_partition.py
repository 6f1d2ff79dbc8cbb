import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.errors import InputError
from simulations.partition import Scheme, deal

LABELS = [n % 2 for n in range(600)]
TRAIN = [n % 3 > 0 for n in range(600)]


@settings(max_examples=40, deadline=None)
@given(st.sampled_from(["iid", "dirichlet:0.1", "dirichlet:10", "quantity:0.2"]), st.integers(1, 400), st.integers(0, 99))
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


@pytest.mark.parametrize("text", ["dirichlet", "dirichlet:0", "dirichlet:x", "iid:1", "nothing", "quantity:nan", ""])
def test_an_unknown_scheme_lists_the_known(text: str) -> None:
    with pytest.raises(InputError, match="write natural, iid, dirichlet:ALPHA"):
        Scheme.parse(text)


def test_more_sites_than_patients_is_refused() -> None:
    with pytest.raises(InputError, match="--sites 401: there are only 400 training patients"):
        deal(Scheme("iid"), LABELS, TRAIN, 401, 0)
