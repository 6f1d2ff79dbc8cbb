"""`promptward sweep` as its user runs it, on a small federation of one's own."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import promptward
from shared.backbone import load_backbone
from simulations.command import Curve
from simulations.sweep.table import COLUMNS, SITE_COLUMNS
from tests.conftest import card_text

SWEEP = """
schema = 1
name = "small"
card = "card.toml"
data = "study.toml"
seeds = 2
[fixed]
rounds = 2
partition = "iid"
[grid]
sites = [2, 5]
[[runs]]
sites = 3
epsilon = "none"
[[runs]]
sites = 3
epsilon = 4
rows = 1
optimizer = "yogi"
local_steps = 2
local_proximal = 0.1
"""


@pytest.fixture
def home(tmp_path: Path, backbone_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    random = np.random.default_rng(0)
    lines = [f"p{n},{a},{random.integers(50, 110)},{'pos' if a > 50 else 'neg'}" for n, a in enumerate(random.integers(20, 80, 90))]
    (tmp_path / "rows.csv").write_text("who,age,pulse,dx\n" + "\n".join(lines) + "\n")
    (tmp_path / "study.toml").write_text(
        'schema = 1\n[data]\npath = "rows.csv"\nlabel = "dx"\nlabels = { neg = "well", pos = "sick" }\npatient = "who"\n'
    )
    (tmp_path / "card.toml").write_text(card_text(backbone_folder))
    (tmp_path / "sweep.toml").write_text(SWEEP)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def sweep(*more: str) -> int:
    return promptward.main(["sweep", "sweep.toml", "--out", "out", *more])


def table(home: Path, name: str = "results", out: str = "out") -> pd.DataFrame:
    """Return a table without what hangs on the clock: seconds, and a byte of Flower's time in a message."""
    return pd.read_parquet(home / out / f"{name}.parquet").drop(columns=["seconds", "bytes_up_per_site"], errors="ignore")


@pytest.mark.slow
def test_a_sweep_is_whole_and_its_cells_are_what_simulate_makes(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    load_backbone.cache_clear()
    assert sweep("--json") == 0
    assert load_backbone.cache_info().misses == 1  # one model for all cells
    result = json.loads(capsys.readouterr().out)
    assert result == json.loads((home / "out/sweep.json").read_text())
    frame = pd.read_parquet(home / "out/results.parquet")
    assert list(frame.columns) == list(COLUMNS)
    assert list(frame.columns) == list(pd.read_csv(home / "out/results.csv").columns)
    assert len(frame) == 8
    assert frame[["sites", "private", "rows", "optimizer"]].drop_duplicates().values.tolist() == [
        [2, True, 2, "adam"], [5, True, 2, "adam"], [3, False, 2, "adam"], [3, True, 1, "yogi"],
    ]  # fmt: skip
    asked = frame[frame.cell == 4]
    assert ((asked.epsilon_reached > 3.9) & (asked.epsilon_reached <= 4)).all()
    assert frame[~frame.private].epsilon_reached.isna().all()
    assert (frame.bytes_up_per_site >= frame.rounds * 3 * 16 * 4).all()
    assert (frame.train_patients + frame.test_records == 90).all()
    sites = pd.read_parquet(home / "out/per_site.parquet")
    assert list(sites.columns) == list(SITE_COLUMNS)
    assert sites.groupby(["cell", "seed"]).train_patients.sum().unique().tolist() == [frame.train_patients[0]]
    page = (home / "out/sweep.html").read_text()
    assert "<svg" in page
    assert "With 2 seeds nothing can be called significant" in page
    cell = frame[frame.cell == 2]
    told = ["--sites", "5", "--partition", "iid", "--rounds", "2", "--seeds", "2", "--engine", "batched"]
    assert promptward.main(["simulate", "card.toml", "--data", "study.toml", *told, "--out", "alone"]) == 0
    alone = json.loads((home / "alone/result.json").read_text())
    mine = json.loads((home / "out/cells" / cell.folder.iloc[0] / "result.json").read_text())
    assert alone["metrics"] == mine["metrics"]
    assert alone["task_digest"] == mine["task_digest"]
    assert alone["metrics"]["pooled_auc"]["values"] == cell.pooled_auc.tolist()
    assert [site["epsilon"] for site in alone["sites"]] == [site["epsilon"] for site in mine["sites"]]


@pytest.mark.slow
def test_an_interrupted_sweep_goes_on_to_the_same_tables(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert sweep() == 0
    observe, calls = Curve.observe, []

    def interrupted(self: Curve, seen: Any) -> None:
        calls.append(seen)
        if len(calls) == 7:  # in the third of four rounds of the second cell
            raise KeyboardInterrupt
        observe(self, seen)

    monkeypatch.setattr(Curve, "observe", interrupted)
    assert promptward.main(["sweep", "sweep.toml", "--out", "cut"]) == 1
    assert "go on with: promptward sweep --resume cut" in capsys.readouterr().err
    finished = list((home / "cut/cells").glob("*/cell.json"))
    assert len(finished) == 1
    before = finished[0].stat().st_mtime_ns

    def counted(self: Curve, seen: Any) -> None:
        calls.append(seen)
        observe(self, seen)

    monkeypatch.setattr(Curve, "observe", counted)
    calls.clear()
    assert promptward.main(["sweep", "--resume", "cut"]) == 0
    assert "1 cells are finished already" in capsys.readouterr().err
    assert len(calls) == 4 * 4 - 6  # rounds that are not done yet, and no other
    assert finished[0].stat().st_mtime_ns == before
    for name in ("results", "per_site"):
        pd.testing.assert_frame_equal(table(home, name), table(home, name, "cut"))


@pytest.mark.parametrize(
    ("file", "old", "new", "what"),
    [
        ("sweep.toml", "seeds = 2", "seeds = 3", "file"),
        ("card.toml", "clip_norm = 1.0", "clip_norm = 2.0", "card"),
        ("rows.csv", "p3,", "p300,", "data"),
    ],
)
def test_a_changed_sweep_does_not_go_into_the_same_folder(
    home: Path, capsys: pytest.CaptureFixture[str], file: str, old: str, new: str, what: str
) -> None:
    one = SWEEP[: SWEEP.index("[[runs]]")].replace("[2, 5]", "2").replace("rounds = 2", "rounds = 1")
    (home / "sweep.toml").write_text(one)
    assert sweep() == 0
    text = (home / file).read_text()
    assert old in text
    (home / file).write_text(text.replace(old, new, 1))
    assert sweep() == 2
    assert f"out: the sweep's {what} changed since this folder was begun" in capsys.readouterr().err


def test_a_cell_that_fails_is_told_and_the_others_go_on(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = SWEEP[: SWEEP.index("[[runs]]")].replace("[2, 5]", "[2, 500]").replace("seeds = 2", "seeds = 1")
    (home / "sweep.toml").write_text(text + "[[runs]]\nsites = 4\ndropout = 0.9\nquorum = 4\n[[runs]]\nlayer = 9\n")
    assert sweep() == 1
    told = capsys.readouterr()
    frame = pd.read_csv(home / "out/results.csv")
    said = frame.failed.tolist()
    assert frame.failed.isna().tolist() == [True, False, False, False]
    assert "there are only" in said[1]
    assert "quorum" in said[2]
    assert "layer 9 is too deep" in said[3]
    assert "cell 2" in told.out
    assert "4 of 4" in told.err
    page = (home / "out/sweep.html").read_text()
    assert "3 cells failed" in page
    assert json.loads((home / "out/cells" / frame.folder[1] / "failed.json").read_text())["failed"] == said[1]


def test_a_dry_run_prints_the_cells_and_writes_nothing(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = sorted(home.rglob("*"))
    assert sweep("--dry-run", "--json") == 0
    assert len(json.loads(capsys.readouterr().out)["cells"]) == 4
    assert sweep("--dry-run") == 0
    assert "4 cells x 2 seeds = 8 trainings" in " ".join(capsys.readouterr().out.split())
    assert sorted(home.rglob("*")) == before


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "name a sweep file, or a folder with --resume"),
        (["sweep.toml", "--resume", "out"], "give one of them"),
        (["absent.toml"], "absent.toml: there is no such file"),
        (["--resume", "nowhere"], "nowhere: this is no sweep's folder"),
        (["sweep.toml", "--out", "."], ".: this exists and is no sweep's folder"),
    ],
)
def test_bad_input_is_one_sentence(home: Path, capsys: pytest.CaptureFixture[str], words: list[str], said: str) -> None:
    assert promptward.main(["sweep", *words]) == 2
    assert said in capsys.readouterr().err


def test_the_document_tells_every_column_and_setting() -> None:
    told = (Path(__file__).parents[3] / "docs/sweeps.md").read_text()
    assert [name for name in {**COLUMNS, **SITE_COLUMNS} if f"`{name}`" not in told] == []
