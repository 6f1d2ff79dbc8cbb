"""`promptward simulate` as its user runs it: on a small federation of one's own, and the demonstration itself."""

import json
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import promptward
from client.ledger import read_ledger, releases
from shared.peft_format import load_prompt
from shared.privacy.accounting import spent
from simulations.command import Curve
from tests.conftest import card_text

FIVE = ("--sites", "5", "--partition", "iid")


@pytest.fixture
def home(tmp_path: Path, backbone_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a card, a study file and a table of two hospitals."""
    random = np.random.default_rng(0)
    lines = [
        f"p{n},{'North' if n % 2 else 'South'},{age},{random.integers(50, 110)},{'pos' if age > 50 else 'neg'}"
        for n, age in enumerate(random.integers(20, 80, 120))
    ]
    (tmp_path / "rows.csv").write_text("who,place,age,pulse,dx\n" + "\n".join(lines) + "\n")
    (tmp_path / "study.toml").write_text(
        'schema = 1\n[data]\npath = "rows.csv"\nlabel = "dx"\nlabels = { neg = "well", pos = "sick" }\n'
        'patient = "who"\nsite = "place"\n'
    )
    (tmp_path / "card.toml").write_text(card_text(backbone_folder))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def simulate(*more: str, out: str = "run") -> int:
    return promptward.main(["simulate", "card.toml", "--data", "study.toml", "--out", out, *more])


def result_of(folder: Path) -> dict[str, Any]:
    found = json.loads((folder / "result.json").read_text())
    assert isinstance(found, dict)
    return found


def lines_of(folder: Path) -> list[dict[str, Any]]:
    """Return metrics.jsonl without the reply's size, to which Flower's clock adds or takes a byte."""
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [{key: value for key, value in line.items() if key != "reply_bytes"} for line in lines]


def test_a_run_directory_is_whole_and_true(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert simulate("--seeds", "2", "--json") == 0
    run = home / "run"
    result = result_of(run)
    assert json.loads(capsys.readouterr().out) == result
    assert tomllib.loads((run / "task.toml").read_text())["name"] == "tiny"
    assert len((run / "metrics.jsonl").read_text().splitlines()) == 12
    for site in result["sites"]:
        ledger = run / "ledgers" / "seed0" / site["name"] / "ledger.jsonl"
        assert site["epsilon"] == pytest.approx(spent(releases(read_ledger(ledger)), 1e-4).epsilon, abs=1e-9)
        assert site["bytes_up_per_round"] <= result["bytes"]["tensor"] + 1024
        assert (site["releases"], site["rounds_contributed"], site["unit"]) == (6, 6, "patient")
    assert result["noise_source"] == "seeded for simulation"
    prompt, facts = load_prompt(run / "prompt")
    assert prompt.shape == (4, 16)
    assert facts["task_digest"] == result["task_digest"]
    page = (run / "report.html").read_text()
    assert "http" not in page.replace("http://www.w3.org", "").replace("http://purl.org", "").replace(
        "http://creativecommons.org", ""
    )
    for name in ("North", "South", "majority guessing", "at most epsilon ="):
        assert name in page


@pytest.mark.parametrize(("points", "scored"), [(1, [6]), (3, [2, 4, 6]), (99, [1, 2, 3, 4, 5, 6])])
def test_the_curve_has_as_many_points_as_asked_for(
    home: Path, capsys: pytest.CaptureFixture[str], points: int, scored: list[int]
) -> None:
    assert simulate("--curve", str(points)) == 0
    result, lines = result_of(home / "run"), lines_of(home / "run")
    assert [line["round"] for line in lines if line["pooled_auc"] is not None] == scored
    assert [line["round"] for line in lines if line["epsilon_max"] is not None] == scored
    assert lines[-1]["mean_of_sites_accuracy"] == result["metrics"]["mean_of_sites_accuracy"]["mean"]
    assert capsys.readouterr().err.count("mean-of-sites accuracy") == len(scored)
    assert "Learning curve" in (home / "run/report.html").read_text()
    assert json.loads((home / "run/simulation.json").read_text())["curve"] == points  # for --resume


@pytest.mark.parametrize("stop", [1, 4, 8])
def test_a_run_stopped_by_ctrl_c_goes_on_to_the_same_numbers(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], stop: int
) -> None:
    assert simulate("--seeds", "2", out="whole") == 0
    observe, calls = Curve.observe, []

    def interrupted(self: Curve, seen: Any) -> None:
        calls.append(seen)
        if len(calls) == stop:
            raise KeyboardInterrupt
        observe(self, seen)

    monkeypatch.setattr(Curve, "observe", interrupted)
    assert simulate("--seeds", "2", out="cut") == 1
    assert "go on with: promptward simulate --resume cut" in capsys.readouterr().err
    monkeypatch.setattr(Curve, "observe", observe)
    assert promptward.main(["simulate", "--resume", "cut"]) == 0
    whole, cut = result_of(home / "whole"), result_of(home / "cut")
    for key in ("metrics", "task_digest", "warnings"):
        assert whole[key] == cut[key]
    assert [site["epsilon"] for site in whole["sites"]] == [site["epsilon"] for site in cut["sites"]]
    assert lines_of(home / "whole") == lines_of(home / "cut")
    assert (home / "whole/prompt/adapter_model.safetensors").read_bytes() == (
        home / "cut/prompt/adapter_model.safetensors"
    ).read_bytes()
    for ledger in (home / "cut/ledgers").rglob("ledger.jsonl"):
        assert [event.round for event in read_ledger(ledger)] == [1, 2, 3, 4, 5, 6]  # no round was charged twice


@pytest.mark.parametrize("sites", [1, 7])
def test_any_number_of_sites_is_the_same_path(home: Path, sites: int) -> None:
    assert simulate("--partition", "dirichlet:0.5", "--sites", str(sites)) == 0
    result = result_of(home / "run")
    assert len(result["sites"]) == len(result["metrics"]["per_site"]) == sites
    assert sum(s["n_test"] for s in result["metrics"]["per_site"].values()) == 41


def test_no_privacy_is_shouted_everywhere(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert simulate("--no-privacy") == 0
    said = capsys.readouterr()
    result = result_of(home / "run")
    assert "NO PRIVACY" in said.out
    assert "NO PRIVACY" in said.err
    assert "NO PRIVACY" in (home / "run/report.html").read_text()
    assert result["privacy"] is False
    assert all(site["epsilon"] is None for site in result["sites"])
    assert not list((home / "run/ledgers").rglob("ledger.jsonl"))
    assert json.loads((home / "run/prompt/promptward.json").read_text())["privacy"] is False


def test_epsilon_is_calibrated_into_the_card(home: Path) -> None:
    assert simulate("--epsilon", "2", "--rounds", "3") == 0
    result = result_of(home / "run")
    assert 1.95 < result["sites"][0]["epsilon"] <= 2.0
    assert result["rounds"] == 3


@pytest.mark.parametrize(
    ("more", "tolerates"),
    [(["median"], 2), (["trimmed-mean", "--tolerate", "1"], 1), (["krum", "--tolerate", "1", "--no-privacy"], 1)],
)
def test_a_robust_rule_is_a_card_of_its_own_and_is_told_everywhere(
    home: Path, capsys: pytest.CaptureFixture[str], more: list[str], tolerates: int
) -> None:
    assert simulate(*FIVE, "--aggregation", *more) == 0
    told = result_of(home / "run")["aggregation"]
    assert tomllib.loads((home / "run/task.toml").read_text())["plan"]["aggregation"] == told["rule"] == more[0]
    assert told["tolerates"] == tolerates
    used = {"median": 1, "trimmed-mean": 3, "krum": 1}[more[0]]  # of five values for each number
    assert sum(told["kept"].values()) == pytest.approx(used)
    assert all(sum(line["kept"].values()) == pytest.approx(used) for line in lines_of(home / "run"))
    assert f"{more[0]} (withstands lying sites: {tolerates})" in (home / "run/report.html").read_text()
    assert "unusual hospital has less say" in " ".join(capsys.readouterr().out.split())


def test_the_sum_says_that_it_is_the_sum(home: Path) -> None:
    assert simulate() == 0
    told = result_of(home / "run")["aggregation"]
    assert (told["rule"], told["tolerates"], told["kept"]) == ("sum", 0, None)
    assert "Aggregation: sum. " in (home / "run/report.html").read_text()


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--sites", "0"], "--sites 0: the number of sites is between 1 and"),
        (["--sites", "-3"], "--sites -3: the number of sites"),
        (["--sites", "3"], "the natural partition has 2 sites; add --partition iid"),
        (["--sites", "900", "--partition", "iid"], "there are only 79 training patients"),
        (["--seeds", "0"], "--seeds 0: the number of repetitions"),
        (["--rounds", "0"], "--rounds 0: the number of rounds"),
        (["--epsilon", "0"], "--epsilon 0: give a number above 0"),
        (
            ["--epsilon", "1e-6", "--rounds", "100000"],
            "cannot be reached with 100000 releases at rate 0.5; raise epsilon, or lower",
        ),
        (["--epsilon", "nan"], "--epsilon nan: give a number above 0"),
        (["--no-privacy", "--epsilon", "3"], "contradict each other"),
        (["--aggregation", "median"], "'median' needs 3 sites and the roster has 2; choose 'sum' or add sites."),
        (["--aggregation", "krum"], "--aggregation krum: add --tolerate, the number of lying sites to withstand."),
        (["--aggregation", "mean"], "key 'plan.aggregation': Input should be 'sum', 'trimmed-mean', 'median' or 'krum'."),
        (["--tolerate", "1"], "tolerate says nothing to 'sum'"),
        (["--aggregation", "krum", "--tolerate", "1", *FIVE], "'krum' prefers a site that adds no noise and lies"),
        (["--partition", "dirichlet:no"], "--partition 'dirichlet:no' is not known"),
        (["--data", "absent.toml"], "absent.toml: there is no such file; check the path."),
        (["--curve", "0"], "--curve 0: give the number of rounds to score, at least 1: the last."),
        (["--split", "-1"], "--split -1: the seed of the split"),
        (["--resume", "nowhere"], "this is not a simulation's folder"),
    ],
)
def test_bad_input_is_one_sentence_and_leaves_nothing(
    home: Path, capsys: pytest.CaptureFixture[str], more: list[str], said: str
) -> None:
    before = sorted(home.rglob("*"))
    assert simulate(*more) == 2
    message = capsys.readouterr().err.strip().splitlines()[-1]
    assert said in message
    assert message.startswith("promptward: ")
    assert sorted(home.rglob("*")) == before


@pytest.mark.parametrize(
    ("file", "old", "new", "said"),
    [
        ("card.toml", "rounds = 6", "rouds = 6", "card.toml: key 'plan.rouds' is not known here; did you mean 'rounds'?"),
        ("card.toml", "fingerprint = ", "fingerprint = 'x' #", "card.toml: key 'backbone.fingerprint'"),
        ("card.toml", "layer = 1", "layer = 9", "[prompt] layer 9 is too deep"),
        ("study.toml", '"rows.csv"', '"gone.csv"', "no such file; check [data] path"),
        ("study.toml", 'label = "dx"', 'label = "diagnosis"', "column 'diagnosis' is missing; the table has age, dx"),
        ("study.toml", "neg = ", "none = ", "is not mapped; [data.labels] knows none, pos."),
        ("rows.csv", "who,place,age", "who,place,years", "column 'age' is missing"),
        ("rows.csv", "p0,South", "p0,", "row 1: column 'place' ([data] site) names no hospital; fill it."),
    ],
)
def test_a_broken_file_is_one_sentence_and_leaves_nothing(
    home: Path, capsys: pytest.CaptureFixture[str], file: str, old: str, new: str, said: str
) -> None:
    text = (home / file).read_text()
    assert old in text
    (home / file).write_text(text.replace(old, new, 1))
    assert simulate() == 2
    assert said in capsys.readouterr().err
    assert not (home / "run").exists()


def test_a_wrong_fingerprint_names_the_mend(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = (home / "card.toml").read_text()
    start = text.index('fingerprint = "') + 15
    (home / "card.toml").write_text(text[:start] + "0" * 64 + text[start + 64 :])
    assert simulate() == 2
    assert "install the model that the card names" in capsys.readouterr().err


def test_a_folder_in_use_is_not_overwritten(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert simulate() == 0
    before = (home / "run/result.json").read_text()
    assert simulate() == 2
    assert "go on with it by --resume run, or name another with --out" in capsys.readouterr().err
    assert (home / "run/result.json").read_text() == before


def test_a_folder_that_cannot_be_written_is_said(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert simulate(out="/proc/nowhere/run") == 2
    assert "cannot be written" in capsys.readouterr().err
    (home / "file").write_text("")
    assert simulate(out="file") == 2
    assert "not an empty folder" in capsys.readouterr().err


def test_the_ledger_command_recomputes_what_was_spent(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert simulate() == 0
    ledger = str(home / "run/ledgers/seed0/North/ledger.jsonl")
    capsys.readouterr()
    assert promptward.main(["ledger", "show", ledger, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["epsilon"] == pytest.approx(result_of(home / "run")["sites"][0]["epsilon"])
    assert promptward.main(["ledger", "verify", ledger]) == 0
    text = Path(ledger).read_text()
    Path(ledger).write_text(text.replace('"releases": 1', '"releases": 0', 1))
    assert promptward.main(["ledger", "verify", ledger]) == 2
    assert "the chain breaks at line 1" in capsys.readouterr().err


@pytest.mark.slow
def test_the_demonstration_beats_majority_guessing_in_a_few_rounds(tmp_path: Path) -> None:
    out = tmp_path / "run"
    assert promptward.main(["simulate", "--rounds", "10", "--epsilon", "6", "--out", str(out)]) == 0
    metrics = result_of(out)["metrics"]
    assert metrics["majority_baseline_mean_of_sites"] == pytest.approx(0.7207, abs=1e-4)
    assert metrics["pooled_auc"]["mean"] > 0.8
    assert metrics["pooled_accuracy"]["mean"] > metrics["majority_baseline_pooled"] + 0.05


@pytest.mark.slow
def test_fifty_skewed_sites_of_the_demonstration(tmp_path: Path) -> None:
    out = tmp_path / "run"
    words = ["--sites", "50", "--partition", "dirichlet:0.3", "--rounds", "2", "--engine", "batched"]
    assert promptward.main(["simulate", *words, "--out", str(out)]) == 0
    result = result_of(out)
    assert len(result["sites"]) == 50
    assert sum(site["n_train"] for site in result["sites"]) == 486
    assert any("One class only" in warning for warning in result["warnings"])
