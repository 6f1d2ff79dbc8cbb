from pathlib import Path

import pytest

from shared.errors import InputError
from simulations.sweep.plan import MOST_RUNS, Sweep, cells, matching

TEXT = """
schema = 1
card = "heart-disease"
seeds = 3
[fixed]
rounds = 10
[grid]
sites = [4, 20]
epsilon = [1, 3, "none"]
partition = "iid"
[[runs]]
sites = 50
"""


def load(text: str) -> Sweep:
    return Sweep.parse(text, "x.toml", Path())


def test_a_grid_is_a_product_and_runs_are_added() -> None:
    found = cells(load(TEXT).file)
    assert [(c.settings.sites, c.settings.epsilon) for c in found] == [
        *((s, e) for s in (4, 20) for e in (1.0, 3.0, "none")),
        (50, None),
    ]
    assert {c.settings.rounds for c in found} == {10}
    assert found[0].folder == "001-sites-4_partition-iid_epsilon-1"
    assert found[-1].words == "sites 50, partition card, epsilon card"
    assert len({c.folder for c in found}) == 7


def test_without_a_grid_there_are_the_runs_or_the_one_cell() -> None:
    assert [c.settings.sites for c in cells(load('schema = 1\ncard = "x"\n[[runs]]\nsites = 3\n').file)] == [3]
    assert [c.told for c in cells(load('schema = 1\ncard = "x"\n').file)] == [{}]


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("sites = [4, 20]", "sites = [4, 0]", "key 'grid.sites.1': Input should be greater than or equal to 1."),
        ("sites = [4, 20]", "sitse = [4]", "key 'grid.sitse' is not known here; did you mean 'sites'?"),
        ("sites = [4, 20]", "sites = []", "key 'grid.sites'"),
        ("sites = [4, 20]", "sites = [4, 4]", "two cells are the same"),
        ('"none"]', '"no"]', "key 'grid.epsilon.2': give a number above 0 and at most 1000, or \"none\""),
        ('"none"]', "true]", "key 'grid.epsilon.2': give a number"),
        ('"iid"', '["iid", "odd"]', "key 'grid.partition.1': partition 'odd' is not known; write natural"),
        ("rounds = 10", "rounds = 0", "key 'fixed.rounds'"),
        ("sites = 50", "site = 50", "key 'runs.0.site' is not known here; did you mean 'sites'?"),
        ("seeds = 3", "seeds = 3\nengin = 'batched'", "key 'engin' is not known here; did you mean 'engine'?"),
        ("seeds = 3", "seeds = 3\nbaseline = { epsilon = 3 }", "[baseline] fits 2 cells"),
        ("seeds = 3", "seeds = 3\nbaseline = { epsilon = 9 }", "[baseline] fits 0 cells"),
    ],
)
def test_a_mistake_is_one_sentence_that_names_the_key(old: str, new: str, said: str) -> None:
    assert old in TEXT
    with pytest.raises(InputError) as caught:
        load(TEXT.replace(old, new))
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_baseline_is_the_cell_with_its_settings() -> None:
    assert matching(load(TEXT.replace("seeds = 3", "seeds = 3\nbaseline = { sites = 20, epsilon = 3 }")).file) == [5]


def test_a_grid_of_billions_is_refused_before_it_is_made() -> None:
    many = "".join(f"{key} = {list(range(1, 101))}\n" for key in ("rows", "layer", "rounds", "quorum", "tolerate"))
    with pytest.raises(InputError, match="10000000000 cells"):
        load(f'schema = 1\ncard = "x"\n[grid]\n{many}')


def test_the_shipped_sweep_is_whole() -> None:
    assert len(cells(Sweep.load("heart").file)) == 6
    with pytest.raises(InputError, match="no shipped sweep; shipped sweeps: heart"):
        Sweep.load("hart")


def test_too_many_trainings_are_counted() -> None:
    with pytest.raises(InputError, match=f"6001 cells with 3 seeds are 18003 trainings and at most {MOST_RUNS} are run"):
        load(TEXT.replace("[4, 20]", str([*range(1, 2001)])))
