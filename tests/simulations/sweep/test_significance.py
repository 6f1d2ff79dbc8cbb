"""The tests must stay silent where nothing is, and speak where something is."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import ttest_rel

from simulations.sweep.charts import pictures
from simulations.sweep.frontier import Point, costs_that_vary, pareto
from simulations.sweep.significance import FEWEST, LEVEL, compared, half_width, holm, paired_p

PUBLIC = np.random.default_rng(0)


def false_stars(baseline: int | None, seeds: int) -> float:
    """Return the share of 400 sweeps of ten equal cells in which anything is starred; cells share a seed's luck."""
    found = 0
    for _ in range(400):
        luck = PUBLIC.standard_normal(seeds)
        scores = {cell: luck + PUBLIC.standard_normal(seeds) for cell in range(10)}
        said = compared(scores, baseline)
        assert said is not None
        found += any(each.significant for each in said.against.values())
    return found / 400


@pytest.mark.parametrize("baseline", [0, None])
def test_equal_cells_get_a_star_in_at_most_one_sweep_of_twenty(baseline: int | None) -> None:
    assert false_stars(baseline, 6) <= LEVEL + 3 * np.sqrt(LEVEL * (1 - LEVEL) / 400)


def test_the_best_cell_as_reference_is_corrected_for_all_pairs() -> None:
    """Without that, choosing the best by the same numbers would star equal cells too often: here it is seen to."""
    stars = 0
    for _ in range(300):
        scores = PUBLIC.standard_normal((10, 30))
        best = scores.mean(1).argmax()
        stars += min(holm([paired_p(scores[i] - scores[best]) for i in range(10) if i != best])) < LEVEL
    assert stars / 300 > 0.10
    said = compared({cell: PUBLIC.standard_normal(6) for cell in range(10)}, None)
    assert said is not None
    assert said.tests == 45


def test_a_difference_that_is_there_is_starred_and_another_is_not() -> None:
    luck = PUBLIC.standard_normal(5)
    scores = {1: luck, 2: luck + 0.1 * PUBLIC.standard_normal(5), 3: luck - 2 + 0.1 * PUBLIC.standard_normal(5)}
    said = compared(scores, 1)
    assert said is not None
    assert said.named
    assert (said.against[3].significant, said.against[2].significant) == (True, False)
    assert said.against[3].difference == pytest.approx(-2, abs=0.2)


@pytest.mark.parametrize("seeds", [1, 2, 3, 4])
def test_few_seeds_say_that_nothing_can_be_significant(seeds: int) -> None:
    said = compared({1: np.arange(seeds) * 1.0, 2: np.arange(seeds) * 1.0 + 50}, None)
    assert said is not None
    assert said.silent is not None
    assert f"With {seeds} seed" in said.silent
    assert f"set seeds to {FEWEST} or more" in said.silent
    assert said.against[1].adjusted is None
    assert not said.against[1].significant


def test_p_is_the_paired_t_tests() -> None:
    one, other = PUBLIC.standard_normal(7), PUBLIC.standard_normal(7)
    assert paired_p(one - other) == pytest.approx(ttest_rel(one, other).pvalue)
    assert paired_p(np.zeros(5)) == 1.0
    assert half_width(np.array([0.5])) is None


@given(st.lists(st.floats(0, 1), min_size=1, max_size=8))
def test_holm_is_between_the_raw_and_bonferronis(p: list[float]) -> None:
    adjusted = holm(p)
    assert all(raw <= one <= min(1.0, raw * len(p)) + 1e-12 for raw, one in zip(p, adjusted, strict=True))
    assert min(adjusted) == pytest.approx(min(1.0, min(p) * len(p)))


def point(cell: int, score: float, cost: float, **told: object) -> Point:
    return Point(cell, told, np.array([score - 0.01, score + 0.01]), 0.02, {"bytes": cost, "epsilon": cost})


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(1, 5)), min_size=1, max_size=9))
def test_the_frontier_holds_whom_nobody_beats(given_points: list[tuple[int, int]]) -> None:
    points = [point(n, float(s), float(c)) for n, (s, c) in enumerate(given_points)]
    best = pareto(points, "bytes")
    assert best
    for n, (score, cost) in enumerate(given_points):
        beaten = any((s >= score and c <= cost) and (s, c) != (score, cost) for s, c in given_points)
        assert (n in best) == (not beaten)


def costs(epsilon: float | str, rows: int) -> dict[str, float]:
    return {"bytes": 100.0 * rows} | ({} if isinstance(epsilon, str) else {"epsilon": epsilon})


def test_pictures_are_drawn_of_what_varies() -> None:
    grid = [(s, e, r) for s in (4, 20) for e in (1.0, 8.0, "none") for r in (1, 2)]
    points = [
        Point(
            n,
            {"sites": s, "epsilon": e, "rows": r},
            np.array([0.7, 0.8]),
            0.05,
            {"bytes": 100.0 * r} | ({} if e == "none" else {"epsilon": float(e)}),
        )
        for n, (s, e, r) in enumerate(grid)
    ]
    drawn = pictures(points, "pooled_auc")
    assert set(drawn) == {"epsilon", "sites", "bytes"}
    assert costs_that_vary(points) == ["epsilon", "bytes"]
    for text in ("sites 4", "sites 20", "rows 1", "rows 2", "without privacy", "not beaten (Pareto)"):
        assert text in drawn["epsilon"]
    assert drawn == pictures(points, "pooled_auc")
    assert pictures(points[:1], "pooled_auc") == {}
