"""`promptward init`: from a table of a new disease to a trained prompt, by editing TOML alone."""

import json
import os
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import promptward
from client.site import load_site
from client.suggest import RARE, suggested
from shared.card import Task
from shared.errors import InputError

Capture = pytest.CaptureFixture[str]
HEAD = "case,clinic,Age (years),Fever [C],cough,pan itch,verdict\n"


@pytest.fixture
def home(tmp_path: Path, backbone_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A made-up disease, panitis, at three hospitals: it comes with age and fever."""
    random = np.random.default_rng(5)
    lines = []
    for n in range(180):
        age, fever = random.integers(20, 90), round(float(random.normal(37.5, 1)), 1)
        sick = age / 20 + (fever - 36) + random.normal() > 5
        itch = "odd" if n == 7 else ("much", "none")[n % 2]
        lines.append(
            f"p{n},{('Aa', 'Bb', 'Cc')[n % 3]},{age},{fever},{('yes', 'no')[n % 2]},{itch},{'panitis' if sick else 'well'}"
        )
    (tmp_path / "cases.csv").write_text(HEAD + "\n".join(lines) + "\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TINY", f"folder:{backbone_folder}")
    return tmp_path


def init(folder: Path, *more: str, code: int = 0, backbone: bool = True) -> int:
    words = ["init", "--csv", "cases.csv", "--label", "verdict", "--name", "panitis", "--patient", "case", "--expect", "120"]
    words += ["--site-column", "clinic", "--edges", "Fever [C]=37.5,38.5", "--yes", "--json"]
    words += ["--backbone", os.environ["TINY"]] if backbone else []
    found = promptward.main([*words, *more])
    assert found == code
    return found


def result(folder: Path) -> Any:
    return json.loads((folder / "run" / "result.json").read_text())


@pytest.mark.slow
def test_a_new_disease_is_trained_by_init_and_toml_alone(home: Path, capsys: Capture) -> None:
    init(home, "--label-text", "panitis=age high fever c high", "--label-text", "well=age low fever c low")
    card = home / "task.toml"
    card.write_text(card.read_text().replace("rounds = 34", "rounds = 4"))  # what its user edits
    with_odd = promptward.main(["simulate", "task.toml", "--data", "study.toml", "--out", "run"])
    assert with_odd == 2
    assert "value 'odd' has no words" in capsys.readouterr().err  # one patient's value never went into the public card
    card.write_text(card.read_text().replace('much = "much"', 'much = "much"\nodd = "much"'))
    assert promptward.main(["simulate", "task.toml", "--data", "study.toml", "--out", "run"]) == 0
    found = result(home)
    assert [site["name"] for site in found["sites"]] == ["Aa", "Bb", "Cc"]
    assert found["labels"] == ["panitis", "well"]
    assert max(site["epsilon"] for site in found["sites"]) <= 3.0
    new = "case,clinic,Age (years),Fever [C],cough,pan itch,verdict\nx,Aa,80,39,yes,much,?\n"
    (home / "new.csv").write_text(new)
    assert promptward.main(["predict", "run/prompt", "new.csv", "--site", "site.toml", "--json"]) == 0
    assert "panitis.label" in json.loads(capsys.readouterr().out.partition("\n{\n")[2].join(["{\n", ""]))["predictions"][0]


def test_the_files_say_what_the_table_and_the_person_said(home: Path) -> None:
    init(home)
    task = Task.load("task.toml")
    fields = task.card.template.fields
    assert task.card.record_text.names == ["age_years", "fever_c", "cough", "pan_itch"]
    assert (fields["age_years"].edges, fields["fever_c"].edges) == ([40, 55, 70], [37.5, 38.5])
    assert fields["pan_itch"].words == {"much": "much", "none": "none"}
    assert task.card.plan.patients_per_round == 36
    site = load_site(Path("site.toml"))
    assert site.site == "Aa"
    assert site.data.columns == {"age_years": "Age (years)", "fever_c": "Fever [C]", "pan_itch": "pan itch"}
    assert site.policy.tasks == (task.digest,)
    assert site.policy.epsilon >= 3.0
    assert tomllib.loads(Path("study.toml").read_text())["data"]["site"] == "clinic"


def test_the_second_hospital_takes_the_card(home: Path) -> None:
    init(home)
    words = ["init", "--csv", "cases.csv", "--label", "verdict", "--task", "task.toml", "--patient", "case"]
    assert promptward.main([*words, "--site", "Bb", "--out", "second", "--json"]) == 0
    second = load_site(Path("second/site.toml"))
    assert (second.site, second.policy.tasks) == ("Bb", (Task.load("task.toml").digest,))
    assert second.data.columns["fever_c"] == "Fever [C]"
    assert promptward.main([*words, "--site", "Zz", "--out", "third"]) == 2


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (("--label", "dx"), "there is no column 'dx'"),
        (("--edges", "Fever [C]=39,37"), "thresholds must increase"),
        (("--edges", "Pulse=60"), "no such column"),
        (("--edges", "Fever [C]=warm"), "is not numbers"),
        (("--label-text", "ill=age high"), "has no such value; it has panitis, well"),
        (("--name", "Panitis!"), "key 'name'"),
        (("--sites", "Aa,Bb", "--site", "Cc"), "not among --sites"),
        (("--skip", "nothing"), "there is no column 'nothing'"),
        (("--expect", "-3"), "give a whole number above 0"),
    ],
)
def test_what_is_wrong_gets_one_sentence_and_nothing_is_written(
    home: Path, capsys: Capture, more: tuple[str, ...], said: str
) -> None:
    init(home, *more, code=2)
    err = capsys.readouterr().err
    assert said in err
    assert err.count("\n") == 1
    assert not list(home.glob("*.toml"))


def test_thresholds_and_words_need_a_person(home: Path, capsys: Capture) -> None:
    words = ["init", "--csv", "cases.csv", "--label", "verdict", "--name", "panitis", "--skip", "case", "--sites", "Aa"]
    assert promptward.main([*words, "--skip", "clinic", "--expect", "120"]) == 2
    assert "'Fever [C]' holds numbers, and no public thresholds" in capsys.readouterr().err
    words += ["--edges", "Fever [C]=38", "--skip", "clinic"]
    assert promptward.main(words) == 2
    said = capsys.readouterr().err
    assert "the public card would hold these words of your table (cough: no, yes; pan itch: much, none)" in said
    assert "odd" not in said
    assert promptward.main([*words, "--yes"]) == 2
    assert "--expect is missing" in capsys.readouterr().err


def test_at_a_terminal_it_asks(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    answers = iter(["", "verdict", "panitis", "37,38", "yes", "Aa, Bb", "120"])
    asked: list[str] = []

    def answer(prompt: str = "") -> str:
        asked.append(prompt)
        return next(answers)

    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    monkeypatch.setattr("builtins.input", answer)
    words = ["init", "--csv", "cases.csv", "--patient", "case", "--skip", "clinic", "--backbone", os.environ["TINY"]]
    assert promptward.main(words) == 0
    task = Task.load("task.toml").card
    assert (task.name, task.plan.sites, task.template.fields["fever_c"].edges) == ("panitis", ("Aa", "Bb"), [37, 38])
    assert next(answers, "all were asked for") == "all were asked for"


def test_nothing_is_overwritten(home: Path, capsys: Capture) -> None:
    init(home)
    before = (home / "task.toml").read_bytes()
    init(home, "--title", "another", code=2)
    assert "was not overwritten" in capsys.readouterr().err
    assert (home / "task.toml").read_bytes() == before


def test_no_number_of_the_table_becomes_a_threshold() -> None:
    """The edges are the same for whatever patients, or there are none."""
    for scale in (1, 10, 1000):
        rows = [{"age": n * scale, "x": n} for n in range(200)]
        assert suggested(rows, {"x"}, {})[0].edges == (40, 55, 70)
        with pytest.raises(InputError, match="no public thresholds"):
            suggested(rows, {"age"}, {})


def test_rare_words_and_free_text() -> None:
    rows: list[dict[str, object]] = [{"sign": "common", "note": f"note {n}"} for n in range(RARE + 25)]
    rows += [{"sign": "seldom", "note": "x"}] * (RARE - 1)
    sign, note = suggested(rows, (), {})
    assert (sign.words, sign.rare) == (("common",), 1)
    assert (note.words, note.edges, note.table) == ((), (), {})
