from collections.abc import Callable
from pathlib import Path

import pytest

from shared.card import Task
from shared.errors import InputError
from simulations.heart import heart_study
from simulations.partition import Scheme
from simulations.study import deal_out, load_study

SITES = ("Cleveland", "Hungary", "Switzerland", "VA Long Beach")
HEART = Task.load("heart-disease").card


def test_the_demonstration_is_flambys_split() -> None:
    """benchmarks.md: patients and positives of each hospital, training and test."""
    found = deal_out(heart_study(HEART.files), HEART, Scheme("natural"), SITES, 43)
    counts = [(p.train.size, sum(p.train.labels), p.test.size, sum(p.test.labels)) for p in found.values()]
    assert counts == [(199, 91, 104, 48), (172, 65, 89, 33), (30, 30, 16, 15), (85, 66, 45, 35)]


@pytest.mark.parametrize("scheme", ["iid", "dirichlet:0.3", "quantity:0.5", "feature:age", "feature:cp", "cluster:0.3"])
def test_a_partition_moves_patients_between_sites_but_not_between_parts(scheme: str) -> None:
    sites = [f"site-{n}" for n in range(50)]
    found = deal_out(heart_study(HEART.files), HEART, Scheme.parse(scheme), sites, 43)
    assert sum(p.train.size for p in found.values()) == 486
    assert sum(sum(p.train.labels) for p in found.values()) == 252
    assert sum(p.test.size for p in found.values()) == 254
    assert min(p.train.size for p in found.values()) >= 1


def test_a_changed_data_file_is_refused() -> None:
    where = next(iter(HEART.files))
    with pytest.raises(InputError, match=r"the card pins 0{64}; install the package that the card names"):
        heart_study({where: "0" * 64})
    with pytest.raises(InputError, match=r"\[files\] does not pin"):
        heart_study({})


STUDY = """
schema = 1
[data]
path = "rows.csv"
label = "dx"
labels = { neg = "well", pos = "sick" }
patient = "who"
site = "place"
"""
HEAD = "who,place,age,pulse,dx\n"


@pytest.fixture
def write(tmp_path: Path) -> Callable[[str, str], Path]:
    def written(rows: str, study: str = STUDY) -> Path:
        (tmp_path / "rows.csv").write_text(HEAD + rows)
        (tmp_path / "study.toml").write_text(study)
        return tmp_path / "study.toml"

    return written


def rows(places: str, start: int = 0) -> str:
    return "".join(f"p{start + n},{place},{30 + n},{60 + 2 * n},{'pos' if n % 2 else 'neg'}\n" for n, place in enumerate(places))


def test_a_table_of_ones_own_is_split_by_patient(write: Callable[..., Path], task: Task) -> None:
    path = write(rows("NSNSNSNSNSNSNSNSNSNS") + rows("NSNSNSNSNSNSNSNSNSNS"))  # two records a patient
    study = load_study(path, seed=0)
    found = deal_out(study, task.card, Scheme("natural"), ("N", "S"), 0)
    assert sum(p.train.size + p.test.size for p in found.values()) == 20
    assert sum(p.test.size for p in found.values()) == 7
    assert all(len(p.train.texts) == 2 * p.train.size for p in found.values())


@pytest.mark.parametrize(
    ("table", "sites", "said"),
    [
        (rows("NNNNNN"), ("N", "S"), "site 'S' of the roster has no rows; the table has N."),
        (rows("NNNSSS"), ("N",), "the table's site 'S' is not on the roster; add it to [plan] sites."),
        (rows("NNNSSS") + "p9,,30,60,pos\n", ("N", "S"), "row 7: column 'place' ([data] site) names no hospital; fill it."),
        (rows("NNNSSS").replace("pos", "perhaps"), ("N", "S"), "label 'perhaps' is not mapped"),
    ],
)
def test_a_table_that_does_not_fit_gets_one_sentence(
    write: Callable[..., Path], task: Task, table: str, sites: tuple[str, ...], said: str
) -> None:
    with pytest.raises(InputError) as caught:
        deal_out(load_study(write(table), 0), task.card, Scheme("natural"), sites, 0)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_table_without_hospitals_cannot_be_natural(write: Callable[..., Path], task: Task) -> None:
    path = write(rows("NNNSSS"), STUDY.replace('site = "place"\n', ""))
    with pytest.raises(InputError, match="no column names the hospital"):
        deal_out(load_study(path, 0), task.card, Scheme("natural"), ("N",), 0)
    assert len(deal_out(load_study(path, 0), task.card, Scheme("iid"), ("A", "B"), 0)) == 2


def test_a_feature_parts_the_hospitals(write: Callable[..., Path], task: Task) -> None:
    study = load_study(write(rows("N" * 30)), 0)
    found = deal_out(study, task.card, Scheme.parse("feature:age"), ("young", "old"), 0)
    assert {"low"} == {text.split()[1] for text in found["young"].train.texts if "low" in text}
    assert not any("low" in text for text in found["old"].train.texts)
    assert not any("high" in text for text in found["young"].train.texts)
    with pytest.raises(
        InputError, match=r"feature:years: .*rows.csv has no such column; its columns are who, place, age, pulse, dx\."
    ):
        deal_out(study, task.card, Scheme.parse("feature:years"), ("A", "B"), 0)


def test_clusters_do_not_hang_on_the_cards_words(write: Callable[..., Path], task: Task) -> None:
    """`promptward compare` reads the same table with other templates, and must deal the same patients."""
    study = load_study(write(rows("N" * 30)), 0)
    template = task.card.template
    assert template is not None
    bare = task.card.model_copy(update={"template": template.model_copy(update={"fields": {}})})
    one, other = (deal_out(study, card, Scheme.parse("cluster:0.3"), ("A", "B"), 0) for card in (task.card, bare))
    assert [site.train.labels for site in one.values()] == [site.train.labels for site in other.values()]
