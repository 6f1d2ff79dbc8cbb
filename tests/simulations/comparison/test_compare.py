"""`promptward compare` as its user runs it."""

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import promptward
from shared.privacy.planned import mechanism_of
from simulations.comparison.methods import METHODS, Tuning, chosen
from simulations.comparison.planning import plan_of, rounds_for_bytes, seconds_a_round, spent_by
from simulations.comparison.split import Split

TRIED = ("labels", "lora", "full", "logistic")  # and the prompt; the other variants of the prompt are in test_weights


@pytest.fixture
def home(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(folder)
    return folder


def compare(out: Path, *more: str) -> int:
    words = ["compare", "card.toml", "--data", "study.toml", "--split", "3", "--seeds", "2", "--out", str(out), *more]
    return promptward.main(words)


def rows_of(out: Path) -> dict[tuple[str, str], dict[str, Any]]:
    return {(row["method"], row["setting"]): row for row in json.loads((out / "compare.json").read_text())["rows"]}


@pytest.mark.slow
def test_a_comparison_is_whole_and_goes_on(home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    assert compare(out, "--json", "--methods", ",".join(TRIED)) == 0
    result = json.loads(capsys.readouterr().out)
    assert result == json.loads((out / "compare.json").read_text())
    rows = rows_of(out)
    assert {name for name, _ in rows} == {"prompt", *TRIED, "untrained", "table"}
    for (name, setting), row in rows.items():
        assert row["metrics"]["pooled_auc"]["ci95"][0] <= row["metrics"]["pooled_auc"]["mean"]
        if name not in METHODS:
            assert row["epsilon"] is None
            continue
        assert (row["rounds"], row["seeds"], row["path"]) == (6, 2, "exact")
        assert row["epsilon"] == rows["prompt", "federated"]["epsilon"]
        assert row["bytes_up_per_site_round"] == (4 * row["numbers"] if setting == "federated" else 0)
        runs = [np.load(out / "runs" / f"{name}-{setting}-{seed}.npz")["probabilities"] for seed in (0, 1)]
        assert np.abs(runs[0] - runs[1]).max() > 1e-6, "two seeds gave one model"
    assert rows["prompt", "federated"]["bytes_up_per_site_round"] == 4 * 16 * 4
    assert result["recommendation"]["verdict"] in ("enough", "not enough", "open")
    lines = list(csv.DictReader((out / "compare.csv").read_text().splitlines()))
    assert len(lines) == 5 * 3 * 2 + 3
    assert {line["epsilon"] for line in lines if line["method"] == "lora"} == {str(rows["lora", "local"]["epsilon"])}
    page = (out / "report.html").read_text()
    assert result["recommendation"]["sentence"] in page
    assert "<svg" in page
    assert "http" not in page.replace("http://www.w3.org", "").replace("http://purl.org", "").replace(
        "http://creativecommons.org", ""
    )
    kept = {path: path.stat().st_mtime_ns for path in (out / "runs").iterdir()}
    torn = out / "runs" / "labels-local-1.npz"
    torn.write_bytes(torn.read_bytes()[:100])  # as a killed run leaves it
    assert compare(out, "--set", "logistic.learning_rate=0.5", "--methods", "logistic,labels") == 0
    again = {path.name for path, at in kept.items() if path.stat().st_mtime_ns != at}
    assert again == {"labels-local-1.npz", *(f"logistic-{s}-{n}.npz" for s in ("local", "federated", "pooled") for n in (0, 1))}
    assert rows_of(out)["labels", "local"]["metrics"] == rows["labels", "local"]["metrics"]
    assert rows_of(out)["logistic", "local"]["metrics"] != rows["logistic", "local"]["metrics"]


def test_equal_bytes_leaves_out_what_does_not_fit(home: Path, tmp_path: Path) -> None:
    assert compare(tmp_path / "out", "--methods", "full,labels", "--settings", "federated", "--equal", "bytes", "--seeds", "1") == 0
    rows = rows_of(tmp_path / "out")
    assert rows["labels", "federated"]["bytes_up_per_site"] == rows["prompt", "federated"]["bytes_up_per_site"]
    assert rows["labels", "federated"]["rounds"] == 12
    assert rows["labels", "federated"]["epsilon"] == pytest.approx(rows["prompt", "federated"]["epsilon"], rel=0.01)
    assert rows["labels", "federated"]["noise_multiplier"] > rows["prompt", "federated"]["noise_multiplier"]
    result = json.loads((tmp_path / "out" / "compare.json").read_text())
    assert result["left_out"] == ["full fine-tuning: a single round takes more than the card's prompt in all its rounds."]
    assert result["recommendation"]["verdict"] == "unknown"


def test_equal_time_goes_by_the_folders_own_measurement(home: Path, tmp_path: Path, split: Split) -> None:
    out = tmp_path / "out"
    (out / "runs").mkdir(parents=True)
    (out / "seconds-a-round.json").write_text('{"prompt": 1.0, "logistic": 0.5}')
    assert compare(out, "--methods", "logistic", "--settings", "pooled", "--equal", "time", "--seeds", "1") == 0
    assert rows_of(out)["logistic", "pooled"]["rounds"] == 12
    pace = [seconds_a_round(METHODS[name].build(split), split, mechanism_of(split.task.card)) for name in ("prompt", "logistic")]
    assert pace[0] > pace[1] > 0, "a transformer is not faster than a table"


def test_every_plan_of_a_method_spends_the_same(split: Split) -> None:
    card = split.task.card
    usual = spent_by(plan_of(card, Tuning(), 64), card)
    for rounds, numbers in ((12, 64), (12, 2**25)):
        plan = plan_of(card, Tuning(rounds=rounds), numbers)
        assert spent_by(plan, card) == pytest.approx(usual, rel=0.005)
        assert spent_by(plan, card) <= usual + 1e-9
        assert plan.mechanism.exact == (numbers == 64)
    assert rounds_for_bytes(34, 9_216, 4 * 22_566_144) == 0


@pytest.mark.parametrize(
    ("more", "sentence"),
    [
        (["--methods", "lora,adapter"], "--methods: 'adapter' is no method; choose from prompt,"),
        (["--settings", "alone"], "--settings alone: write some of local, federated, pooled"),
        (["--margin", "0"], "--margin 0: give a difference in AUC above 0"),
        (["--set", "lora.rate=3"], "--set lora.rate=3: write METHOD.KEY=VALUE"),
        (["--set", "lora.rounds=-3"], "--set lora.rounds=-3: write METHOD.KEY=VALUE"),
        (
            ["--methods", "labels", "--set", "lora.rounds=3"],
            "--set lora.rounds=3: write METHOD.KEY=VALUE with a method of this run",
        ),
    ],
)
def test_wrong_input_is_one_sentence(
    home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], more: list[str], sentence: str
) -> None:
    assert compare(tmp_path / "out", *more) == 2
    assert sentence in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_folder_of_something_else_is_left_alone(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert compare(home) == 2
    assert "this exists and is no comparison's folder" in capsys.readouterr().err


def test_another_table_is_another_training(home: Path, tmp_path: Path) -> None:
    for name in ("rows.csv", "study.toml"):
        (tmp_path / name).write_text((home / name).read_text())
    words = ["compare", "card.toml", "--data", str(tmp_path / "study.toml"), "--methods", "logistic", "--settings", "local"]
    words += ["--split", "3", "--seeds", "1", "--set", "prompt.seeds=1", "--out", str(tmp_path / "out")]
    kept, times = tmp_path / "out" / "runs" / "logistic-local-0.npz", []
    for change in (("p0,", "p0,"), ("p0,", "p0,"), ("pos", "neg")):
        text = (tmp_path / "rows.csv").read_text()
        (tmp_path / "rows.csv").write_text(text.replace(*change, 1))
        assert promptward.main(words) == 0
        times.append(kept.stat().st_mtime_ns)
    assert times[0] == times[1] != times[2]


def test_a_split_without_a_label_is_refused(home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = (home / "rows.csv").read_text().replace(",pos", ",neg")
    (tmp_path / "rows.csv").write_text(rows)
    (tmp_path / "study.toml").write_text((home / "study.toml").read_text())
    assert promptward.main(["compare", "card.toml", "--data", str(tmp_path / "study.toml"), "--out", str(tmp_path / "out")]) == 2
    assert "no test patient has the label 'sick'" in capsys.readouterr().err


def test_changes_are_made_to_the_named_method_only() -> None:
    found = chosen(["prompt", "lora"], ["lora.rounds=7", "lora.seeds=2"])
    assert (found["lora"].tuning.rounds, found["lora"].tuning.seeds) == (7, 2)
    assert found["prompt"] == METHODS["prompt"]
