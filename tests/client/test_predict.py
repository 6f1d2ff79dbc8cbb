"""`promptward predict` and the HTTP service, as their users meet them: on a run's prompt and a table of their own."""

import json
import os
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pandas as pd
import pytest
import torch

import promptward
from client.calibration import fit
from client.model_service import Limits
from client.prediction import Question
from shared.card import Task
from shared.library import open_entry
from shared.peft_format import save_prompt
from shared.processes import free_port
from shared.prompt import Array
from shared.reading import Reader, open_reader
from shared.scoring import Scorer, build
from tests.serving import served

Capture = pytest.CaptureFixture[str]


@pytest.fixture
def home(tmp_path: Path, task: Task, scorer: Scorer, prompt: Array, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two runs with a prompt each, a site with test patients, and a table of new patients."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PROMPTWARD_LIBRARY", str(tmp_path / "library"))
    for name, shift in (("run", 0.0), ("later", 0.3)):
        moved = prompt + shift * np.random.default_rng(1).normal(size=prompt.shape).astype(np.float32)
        save_prompt(tmp_path / name / "prompt", moved, task, scorer, {})
        (tmp_path / name / "task.toml").write_text(task.text)
    rows = [f"{25 + n},{60 + n},{'pos' if n > 20 else 'neg'},{'test' if n % 2 == 0 else 'train'}" for n in range(60)]
    (tmp_path / "rows.csv").write_text("years,pulse,dx,part\n" + "\n".join(rows) + "\n")
    (tmp_path / "site.toml").write_text(
        'schema = 1\nsite = "North"\n[data]\npath = "rows.csv"\nlabel = "dx"\nlabels = { neg = "well", pos = "sick" }\n'
        'columns = { age = "years" }\nsplit = "part"\n[ledger]\npath = "north.jsonl"\n'
        f'[policy]\nepsilon = 2.0\ndelta = 1e-4\ntasks = ["{task.digest}"]\n'
    )
    (tmp_path / "new.csv").write_text("id,age,pulse\na,70,90\nb,30,60\nc,,90\n")
    return tmp_path


def asked(capsys: Capture, *words: str, code: int = 0) -> Any:
    assert promptward.main(["predict", *words]) == code
    return json.loads(capsys.readouterr().out) if "--json" in words else capsys.readouterr()


def test_probabilities_are_the_scorers(home: Path, task: Task, scorer: Scorer, prompt: Array, capsys: Capture) -> None:
    found = asked(capsys, "run/prompt", "new.csv", "--id", "id", "--json")
    texts = [task.card.record_text.render({"age": age, "pulse": pulse}) for age, pulse in ((70, 90), (30, 60), (None, 90))]
    wanted = scorer.probabilities(scorer.read(texts), torch.from_numpy(prompt)).numpy()
    assert [line["id"] for line in found["predictions"]] == ["a", "b", "c"]
    got = [[line["tiny.well"], line["tiny.sick"]] for line in found["predictions"]]
    np.testing.assert_allclose(got, wanted, atol=2e-5)
    assert [line["tiny.label"] for line in found["predictions"]] == [("well", "sick")[i] for i in wanted.argmax(1)]
    assert found["prompts"][0]["task_digest"] == task.digest


@pytest.mark.parametrize("ending", ["csv", "json", "parquet"])
def test_several_prompts_are_written_side_by_side(home: Path, capsys: Capture, ending: str) -> None:
    both = asked(capsys, "run/prompt", "later/prompt", "new.csv", "--out", f"out.{ending}", "--json")["predictions"]
    table = {"csv": pd.read_csv, "json": pd.read_json, "parquet": pd.read_parquet}[ending](home / f"out.{ending}")
    assert list(table.columns) == ["row", *(f"tiny-{n}.{x}" for n in (1, 2) for x in ("label", "well", "sick"))]
    alone = asked(capsys, "later/prompt", "new.csv", "--json")["predictions"]
    for one, line, (_, row) in zip(alone, both, table.iterrows(), strict=True):
        assert one["tiny.sick"] == pytest.approx(line["tiny-2.sick"], abs=2e-5)
        assert row["tiny-2.sick"] == pytest.approx(line["tiny-2.sick"], abs=1e-9)


def test_a_missing_column_is_said_once_and_none_at_all_is_refused(home: Path, capsys: Capture) -> None:
    (home / "new.csv").write_text("id,age\na,70\n")
    assert "the table has no column pulse; every row says 'missing' there" in asked(capsys, "run/prompt", "new.csv").err
    (home / "new.csv").write_text("id,years\na,70\n")
    said = asked(capsys, "run/prompt", "new.csv", code=2).err
    assert "none of the columns that prompt 'prompt' reads is there (age, pulse)" in said or "'tiny'" in said
    assert "--site" in said


def test_what_stands_behind_the_limit_is_read_in_windows_only(home: Path, task: Task, prompt: Array, capsys: Capture) -> None:
    """Two notes that differ in their last words: cut, they are one text, and the table's reader is told so."""
    filler = "the well is middle " * 12
    (home / "new.csv").write_text(f"note\n{filler} age low pulse slow\n{filler} age high pulse fast\nage low pulse slow\n")
    scores = {}
    for name, keys in (("cut", ""), ("read", "windows = 4\noverlap = 4"), ("few", "windows = 2\noverlap = 4")):
        table = f'[template]\ntext = "{{note}}"\n{keys}\n'
        noted = Task.parse(task.text[: task.text.index("[template]")] + table, "noted.toml")
        save_prompt(home / name / "prompt", prompt, noted, build(noted.card)[0], {})
        (home / name / "task.toml").write_text(noted.text)
        found = asked(capsys, f"{name}/prompt", "new.csv", "--json")
        assert found["prompts"][0]["rows_cut"] == {"cut": 2, "read": 0, "few": 2}[name]
        scores[name] = [line["tiny.sick"] for line in found["predictions"]]
    assert scores["cut"][0] == pytest.approx(scores["cut"][1], abs=1e-6)
    assert abs(scores["read"][0] - scores["read"][1]) > 1e-3
    assert scores["read"][2] == pytest.approx(scores["cut"][2], abs=1e-6)
    assert "2 rows are longer than this prompt's model reads" in asked(capsys, "cut/prompt", "new.csv").err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("run/prompt", "new.csv", "--out", "x.xlsx"), "choose one of these endings"),
        (("nobody", "new.csv"), "the library"),
        (("run/prompt", "new.csv", "--id", "name"), "mend --id"),
        (("run/prompt", "new.csv", "--why", "why.html", "--why-rows", "0"), "explain one row or more"),
        (("run/prompt", "new.csv", "--site", "site.toml", "--calibrate", "other.toml"), "give one of them"),
    ],
)
def test_what_is_wrong_gets_one_sentence(home: Path, capsys: Capture, words: tuple[str, ...], said: str) -> None:
    err = asked(capsys, *words, code=2).err
    assert said in err
    assert err.count("\n") == 1


def test_a_cell_without_words_names_its_row(home: Path, capsys: Capture) -> None:
    (home / "new.csv").write_text("age,pulse\n50,60\nold,60\n")
    assert "new.csv: row 2: field 'age': value 'old' is not a number" in asked(capsys, "run/prompt", "new.csv", code=2).err


def test_the_temperature_makes_the_labels_likeliest() -> None:
    random = np.random.default_rng(0)
    truth = torch.from_numpy(random.normal(size=(4000, 1)) * np.array([[1.0, -1.0]]))
    labels = torch.from_numpy((random.random(4000) > truth.softmax(-1)[:, 0].numpy()).astype(np.int64))
    found = fit(truth * 5, labels)  # five times too sure
    assert found.temperature == pytest.approx(5, rel=0.1)
    assert found.loss_after < found.loss_before


def test_a_calibrated_site_keeps_its_temperature_to_itself(
    home: Path, task: Task, scorer: Scorer, prompt: Array, capsys: Capture
) -> None:
    (home / "new.csv").write_text("years,pulse\n70,90\n30,60\n")
    bare = asked(capsys, "run/prompt", "new.csv", "--site", "site.toml", "--json")
    assert bare["prompts"][0]["temperature"] == 1.0
    warm = asked(capsys, "run/prompt", "new.csv", "--calibrate", "site.toml", "--json")
    temperature = warm["prompts"][0]["temperature"]
    kept = home / "north.temperatures.json"
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600
    assert json.loads(kept.read_text())[warm["prompts"][0]["prompt_sha256"]]["temperature"] == temperature != 1.0
    assert asked(capsys, "run/prompt", "new.csv", "--site", "site.toml", "--json") == warm
    texts = [task.card.record_text.render({"age": age, "pulse": pulse}) for age, pulse in ((70, 90), (30, 60))]
    shares = (scorer.logits(scorer.read(texts), torch.from_numpy(prompt)) / temperature).softmax(-1)
    assert [line["tiny.sick"] for line in warm["predictions"]] == pytest.approx(shares[:, 1].tolist(), abs=2e-5)
    assert not (home / "north.jsonl").exists()  # nothing left the site, so nothing was charged


def test_no_temperature_from_a_handful_of_patients(home: Path, capsys: Capture) -> None:
    text = (home / "rows.csv").read_text().splitlines()
    (home / "rows.csv").write_text("\n".join(text[:30]) + "\n")
    assert "needs 20 test patients or more" in asked(capsys, "run/prompt", "new.csv", "--calibrate", "site.toml", code=2).err


def test_reasons_are_what_hiding_a_field_changes(home: Path, task: Task, scorer: Scorer, prompt: Array, capsys: Capture) -> None:
    found = asked(capsys, "run/prompt", "new.csv", "--why", "why.html", "--json")["why"]
    assert [(said["row"], len(said["reasons"])) for said in found] == [(1, 2), (2, 2), (3, 1)]
    first = found[0]
    [age] = [reason for reason in first["reasons"] if reason["field"] == "age"]
    texts = [task.card.record_text.render({"age": x, "pulse": 90}) for x in (70, None)]
    shares = scorer.probabilities(scorer.read(texts), torch.from_numpy(prompt))[:, ("well", "sick").index(first["label"])]
    assert age["said"] == "high"
    assert age["change"] == pytest.approx(float(shares[0] - shares[1]), abs=2e-5)
    page = (home / "why.html").read_text()
    assert "http" not in page
    assert "<script" not in page
    assert "<td>age</td><td>high</td>" in page


def test_words_of_a_free_text_are_hidden_one_by_one(home: Path, task: Task, scorer: Scorer, prompt: Array, capsys: Capture) -> None:
    free = Task.parse(task.text.split("[template]")[0] + '[template]\ntext = "{note}"\n', "free")
    save_prompt(home / "free" / "prompt", prompt, free, scorer, {})
    (home / "free" / "task.toml").write_text(free.text)
    (home / "new.csv").write_text("note\nage high <b> fast\n")
    found = asked(capsys, "free/prompt", "new.csv", "--why", "why.html", "--json")["why"]
    assert sorted(reason["said"] for reason in found[0]["reasons"]) == ["<b>", "age", "fast", "high"]
    assert "<td>&lt;b&gt;</td>" in (home / "why.html").read_text()


# ---- the HTTP service ----


@pytest.fixture
def reader(home: Path) -> Reader:
    return open_reader(open_entry(home / "run" / "prompt"))


def test_the_service_has_limits_and_repeats_nothing(reader: Reader) -> None:
    with served([Question(reader, {})], Limits(rows=2, bytes=600)) as calls:
        limits_hold(calls)


def limits_hold(calls: httpx.Client) -> None:
    row = {"age": 70, "pulse": 90}
    assert calls.post("/predict", json={"rows": [row] * 2}).status_code == 200
    assert calls.post("/predict", json={"rows": [row] * 3}).status_code == 413
    assert calls.post("/predict", json={"rows": [{"age": "x" * 700}]}).status_code == 413
    assert calls.post("/predict", content=(b"x" * 100 for _ in range(9))).status_code == 413  # no length was announced
    for wrong in ({"rows": []}, {"rows": [{"age": {"secret": 1}}]}, {"rows": [row], "more": "secret"}, {"rows": [{"secret": 1}]}):
        answer = calls.post("/predict", json=wrong)
        assert answer.status_code == 422
    assert "secret" not in calls.post("/predict", json={"rows": [{"age": ["secret"]}]}).text
    assert calls.post("/predict", json={"rows": [row], "prompts": ["nobody"]}).status_code == 404
    assert "row 1: field 'age'" in calls.post("/predict", json={"rows": [{"age": "old"}]}).json()["detail"]
    assert calls.post("/predict", json={"rows": [{"age": 70}]}).json()["missing_columns"] == {"prompt": ["pulse"]}


@pytest.mark.slow
def test_a_real_client_asks_a_real_process(home: Path, capsys: Capture) -> None:
    wanted = asked(capsys, "run/prompt", "new.csv", "--json")["predictions"][0]
    port = free_port()
    command = [sys.executable, "-m", "promptward", "serve-model", "run/prompt", "--port", str(port)]
    here = {**os.environ, "PYTHONPATH": str(Path(promptward.__file__).parent)}
    with subprocess.Popen(command, env=here, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        try:
            assert health(f"http://127.0.0.1:{port}/health", process)["prompts"]["tiny"]["labels"] == ["well", "sick"]
            answer = httpx.post(f"http://127.0.0.1:{port}/predict", json={"rows": [{"age": 70, "pulse": "90"}]}, timeout=30)
            said = answer.json()["predictions"][0]["tiny"]
            assert said["probabilities"]["sick"] == pytest.approx(wanted["tiny.sick"], abs=1e-5)
            assert set(httpx.get(f"http://127.0.0.1:{port}/openapi.json").json()["paths"]) == {"/health", "/predict"}
        finally:
            process.send_signal(signal.SIGINT)
            output, _ = process.communicate(timeout=30)
    assert "/predict" not in output
    assert "Traceback" not in output
    assert process.returncode == 0


def health(url: str, process: subprocess.Popen[str]) -> Any:
    for _ in range(600):
        try:
            return httpx.get(url, timeout=5).json()
        except httpx.TransportError:
            assert process.poll() is None, process.communicate()
            time.sleep(0.1)
    raise AssertionError("the service did not come up")


def test_the_service_stays_on_this_machine_unless_told(home: Path, capsys: Capture) -> None:
    assert promptward.main(["serve-model", "run/prompt", "--host", "0.0.0.0"]) == 2  # noqa: S104
    assert "no login and no TLS" in capsys.readouterr().err
