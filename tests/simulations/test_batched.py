"""The batched engine draws the same coins and the same noise as the hospitals do one by one, and arrives at the same prompt."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import promptward
from client.ledger import read_ledger
from client.round import LocalPlan, Pool, answer, pool_of
from shared.backbone import Hidden
from shared.card import Task
from shared.errors import InputError
from shared.peft_format import load_prompt
from shared.privacy.mechanism import Mechanism, without_privacy
from shared.privacy.source import SimulationSource
from shared.prompt import Array
from shared.scoring import Scorer
from simulations import pools as pools_of_sites
from simulations.options import Options
from simulations.stack import answers, stack
from tests.conftest import card_text, make_cohort
from tests.far import FAR, far_device

SOURCE = SimulationSource(5)


@pytest.fixture(scope="module")
def pools(task: Task, scorer: Scorer) -> dict[str, Pool]:
    """Sites of unlike size, one of them with two records a patient, one with a single patient; all parts of one tensor."""
    cohorts = {
        name: make_cohort(task, n, n, records) for name, n, records in (("A", 30, 1), ("B", 7, 2), ("C", 1, 1), ("D", 300, 1))
    }
    read = scorer.read([text for cohort in cohorts.values() for text in cohort.texts])
    found, at = {}, 0
    for name, cohort in cohorts.items():
        end = at + len(cohort.texts)
        found[name] = pool_of(cohort, read.part(at, end))
        at = end
    return found


@pytest.mark.parametrize("steps", [1, 3])
@pytest.mark.parametrize(
    "mechanism",
    [
        Mechanism(0.5, 1.0, 3.0),
        Mechanism(0.5, 0.01, 0.7),
        Mechanism(0.01, 1.0, 3.0),
        Mechanism(0.5, 1.0, 3.0, False),
        without_privacy(0.5),
    ],
    ids=["exact", "all clipped", "mostly nobody drawn", "float", "no privacy"],
)
def test_every_site_sends_what_it_would_send_alone(
    pools: dict[str, Pool], prompt: Array, scorer: Scorer, mechanism: Mechanism, steps: int
) -> None:
    plan = LocalPlan(mechanism, steps, 0.5, 5.0)
    found = answers(stack(pools), range(len(pools)), prompt, plan, scorer, SOURCE, "seed0", 3)
    for number, (name, pool) in enumerate(pools.items()):
        alone = answer(pool, prompt, plan, scorer, SOURCE, "seed0", name, 3)
        assert found[number].dtype == alone.dtype
        tolerance = 40 * steps if mechanism.exact else 1e-4  # a last digit of a gradient may turn a grid step over
        np.testing.assert_allclose(found[number], alone, atol=tolerance, rtol=1e-5)


def test_a_patient_who_is_not_finite_counts_as_nobody(pools: dict[str, Pool], prompt: Array, scorer: Scorer) -> None:
    stacked = stack(pools)
    states = stacked.pool.hidden.states.clone()  # the sites' own stay as they are
    states[stacked.pool.records[3][0]] = torch.nan
    hidden = replace(stacked.pool.hidden, states=states)
    stacked = replace(stacked, pool=replace(stacked.pool, hidden=hidden))
    plan = LocalPlan(Mechanism(1.0, 1.0, 3.0), 1, 0.5, 5.0)
    found = answers(stacked, [0], prompt, plan, scorer, SOURCE, "seed0", 1)[0]
    alone = answer(pools["A"], prompt, plan, scorer, SOURCE, "seed0", "A", 1)  # with that patient
    assert 0 < np.linalg.norm((found - alone).astype(float)) <= 20_000 + 100


@pytest.fixture
def home(tmp_path: Path, backbone_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    random = np.random.default_rng(0)
    rows = [f"{age},{random.integers(50, 110)},{'pos' if age > 50 else 'neg'}" for age in random.integers(20, 80, 200)]
    (tmp_path / "rows.csv").write_text("age,pulse,dx\n" + "\n".join(rows) + "\n")
    (tmp_path / "study.toml").write_text(
        'schema = 1\n[data]\npath = "rows.csv"\nlabel = "dx"\nlabels = { neg = "well", pos = "sick" }\n'
    )
    (tmp_path / "card.toml").write_text(card_text(backbone_folder))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def simulate(engine: str, out: str) -> dict[str, Any]:
    words = ["simulate", "card.toml", "--data", "study.toml", "--sites", "12", "--partition", "quantity:0.5", "--engine", engine]
    assert promptward.main([*words, "--out", out]) == 0
    found: dict[str, Any] = json.loads(Path(out, "result.json").read_text())
    return found


def test_the_batched_engine_goes_on_where_it_was_stopped(home: Path) -> None:
    whole = simulate("batched", "whole")
    shutil.copytree("whole", "half")
    for name in ("00005", "00006"):
        (home / "half" / "checkpoints" / "seed0" / f"round-{name}.npz").unlink()
    (home / "half" / "result.json").unlink()
    assert promptward.main(["simulate", "--resume", "half"]) == 0  # rounds 5 and 6 were charged already: the same bytes, once
    again = json.loads((home / "half" / "result.json").read_text())
    assert again["metrics"] == whole["metrics"]
    assert [event.round for event in read_ledger(home / "half" / "ledgers" / "seed0" / "site-01" / "ledger.jsonl")] == [
        *range(1, 7)
    ]


@pytest.mark.parametrize("engine", ["in-process", "batched"])
def test_what_is_computed_once_changes_nothing(home: Path, monkeypatch: pytest.MonkeyPatch, engine: str) -> None:
    """The last layer with and without the text's query, key and value kept ready, in training and in scores."""
    text = (home / "card.toml").read_text()
    (home / "card.toml").write_text(text.replace("layer = 1", "layer = 2").replace("rounds = 6", "rounds = 2"))
    found, ready = [], []
    prepared = Scorer.prepared

    def seen(self: Scorer, hidden: Hidden) -> Hidden:
        ready.append(prepared(self, hidden).states.shape[2] / hidden.states.shape[2])
        return prepared(self, hidden)

    monkeypatch.setattr(Scorer, "prepared", seen)
    for most, out in ((pools_of_sites.MOST, "ready"), (0, "plain")):
        monkeypatch.setattr(pools_of_sites, "MOST", most)
        simulate(engine, out)
        lines = [json.loads(line) for line in (home / out / "metrics.jsonl").read_text().splitlines()]
        found.append((load_prompt(Path(out, "prompt"))[0], [line["pooled_auc"] for line in lines]))
    assert set(ready) == {4.0}
    np.testing.assert_allclose(found[0][0], found[1][0], atol=1e-4)
    np.testing.assert_allclose(found[0][1], found[1][1], atol=1e-2)


def test_more_sites_than_patients_are_told_of_made_up_ones(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["simulate", "card.toml", "--sites", "300", "--rounds", "2", "--engine", "batched", "--partition", "iid"]
    assert promptward.main([*words, "--data", "study.toml"]) == 2
    assert "--data synthetic:3000" in capsys.readouterr().err
    assert promptward.main([*words, "--data", "synthetic:900", "--out", "many"]) == 0
    result = json.loads((home / "many" / "result.json").read_text())
    assert len(result["sites"]) == 300
    assert 0.1 < sum(scores["n_test"] for scores in result["metrics"]["per_site"].values()) / 900 < 0.4
    assert promptward.main([*words, "--data", "synthetic:none"]) == 2
    assert "synthetic:COUNT" in capsys.readouterr().err


def test_precision_is_a_fact_of_the_card_and_changes_little(home: Path) -> None:
    words = ["simulate", "card.toml", "--data", "study.toml", "--sites", "4", "--partition", "iid", "--engine", "batched"]
    for precision in ("float32", "bfloat16"):
        assert promptward.main([*words, "--precision", precision, "--out", precision]) == 0
    tasks = [Task.load(str(home / out / "task.toml")) for out in ("float32", "bfloat16")]
    assert [task.card.backbone.dtype for task in tasks] == ["float32", "bfloat16"]
    assert tasks[0].digest != tasks[1].digest  # hospitals agree to it, as to every number that decides the prompt
    a, b = (np.load(home / out / "checkpoints" / "seed0" / "round-00006.npz")["prompt"] for out in ("float32", "bfloat16"))
    assert 0 < np.linalg.norm(a - b) < 0.2 * np.linalg.norm(a)


def test_sites_that_are_missing_are_missing_in_both_engines(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["simulate", "card.toml", "--data", "study.toml", "--sites", "8", "--partition", "iid"]
    missing = ["--dropout", "0.3", "--stragglers", "0.2", "--late-joiners", "0.3"]
    lines = []
    for engine in ("in-process", "batched"):
        assert promptward.main([*words, *missing, "--engine", engine, "--out", engine]) == 0
        lines.append([json.loads(line) for line in (home / engine / "metrics.jsonl").read_text().splitlines()])
    assert [line["left_out"] for line in lines[0]] == [line["left_out"] for line in lines[1]]
    assert all(0 < line["sites"] < 8 for line in lines[0])
    charged = [len(read_ledger(path)) for path in sorted((home / "batched" / "ledgers").glob("*/*/ledger.jsonl"))]
    counted = [site["rounds_contributed"] for site in json.loads((home / "batched" / "result.json").read_text())["sites"]]
    assert all(n <= m for n, m in zip(counted, charged, strict=True))
    assert sum(charged) > sum(counted)  # stragglers paid for what did not count
    assert promptward.main([*words, "--dropout", "0.9", "--quorum", "8", "--engine", "batched"]) == 1
    assert "the quorum is 8" in capsys.readouterr().err
    assert promptward.main([*words, "--dropout", "1"]) == 2
    assert "--dropout 1: give a share" in capsys.readouterr().err


def test_changes_of_the_model_are_trained_by_both_engines(home: Path) -> None:
    """A card that was handed over: the same path, with LoRA in the prompt's place."""
    assert (
        promptward.main(["simulate", "card.toml", "--data", "study.toml", "--sites", "3", "--partition", "iid", "--out", "p"]) == 0
    )
    assert promptward.main(["prompts", "handover", "p/prompt", "lora.toml", "--rank", "2"]) == 0
    tensors = []
    for engine in ("in-process", "batched"):
        words = ["simulate", "lora.toml", "--data", "study.toml", "--engine", engine, "--out", f"l-{engine}"]
        assert promptward.main([*words, "--sites", "3", "--partition", "iid"]) == 0
        tensors.append(load_prompt(Path(f"l-{engine}", "prompt"))[0])
    assert tensors[0].shape == (16 + 2, 16)
    np.testing.assert_allclose(tensors[0], tensors[1], atol=1e-4)
    assert np.abs(tensors[0][:16]).max() > 0.01


def test_a_banded_run_is_the_same_in_both_engines_and_goes_on(home: Path) -> None:
    """Sites that are away miss a turn; a round that was charged before the run stopped gives the same bytes, charged once."""
    (home / "banded.toml").write_text((home / "card.toml").read_text().replace("sample_rate = 0.5", "sample_rate = 0.3\nbands = 3"))
    words = ["simulate", "banded.toml", "--data", "study.toml", "--sites", "5", "--partition", "iid", "--dropout", "0.2"]
    sent = []
    for engine in ("in-process", "batched"):
        assert promptward.main([*words, "--engine", engine, "--out", engine]) == 0
        with np.load(home / engine / "transcript" / "seed0" / "round-00006.npz") as data:
            sent.append({name: data[name].astype(float) for name in data.files if name.startswith("update")})
        assert promptward.main(["audit", engine, "--files-only"]) == 0
    assert sent[0].keys() == sent[1].keys()
    assert all(
        np.abs(sent[0][name] - sent[1][name]).max() <= 80 for name in sent[0]
    )  # a turned grid step comes back in later turns
    charged = {
        engine: read_ledger(home / engine / "ledgers" / "seed0" / "site-1" / "ledger.jsonl") for engine in ("in-process", "batched")
    }
    assert [e.releases for e in charged["in-process"]] == [e.releases for e in charged["batched"]]
    assert [e.releases for e in charged["batched"]] == [int(n % 3 == 0) for n in range(len(charged["batched"]))]
    shutil.copytree("batched", "half")
    (home / "half" / "checkpoints" / "seed0" / "round-00006.npz").unlink()
    (home / "half" / "result.json").unlink()
    assert promptward.main(["simulate", "--resume", "half"]) == 0
    whole, again = (json.loads((home / out / "result.json").read_text()) for out in ("batched", "half"))
    assert again["metrics"] == whole["metrics"]
    assert again["sites"][0]["epsilon"] == whole["sites"][0]["epsilon"]


def test_local_steps_with_a_control_are_the_same_in_both_engines_and_go_on(home: Path) -> None:
    plan = 'control = "scaffold"\nlocal_steps = 3\noptimizer = "sgd"\nmomentum = 0.0\nlearning_rate = 0.5\nrounds = 5'
    (home / "scaffold.toml").write_text((home / "card.toml").read_text().replace("rounds = 6", plan))
    words = ["--data", "study.toml", "--sites", "3", "--partition", "dirichlet:0.3", "--dropout", "0.1"]
    prompts = {}
    for card, engine in (("scaffold", "in-process"), ("scaffold", "batched"), ("bare", "batched")):
        (home / "bare.toml").write_text((home / "scaffold.toml").read_text().replace('control = "scaffold"\n', ""))
        assert promptward.main(["simulate", f"{card}.toml", *words, "--engine", engine, "--out", f"{card}-{engine}"]) == 0
        prompts[card, engine] = load_prompt(Path(f"{card}-{engine}", "prompt"))[0]
    np.testing.assert_allclose(prompts["scaffold", "in-process"], prompts["scaffold", "batched"], atol=1e-3)
    assert np.abs(prompts["scaffold", "batched"] - prompts["bare", "batched"]).max() > 0.02  # the control does something
    whole = home / "scaffold-batched"
    shutil.copytree(whole, "half")
    (home / "half" / "checkpoints" / "seed0" / "round-00005.npz").unlink()
    (home / "half" / "result.json").unlink()
    assert promptward.main(["simulate", "--resume", "half"]) == 0
    assert load_prompt(home / "half" / "prompt")[0].tolist() == prompts["scaffold", "batched"].tolist()


@pytest.mark.parametrize("engine", ["in-process", "batched"])
def test_another_device_gives_the_same_prompt(home: Path, engine: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A whole run with the model on the pretended device: local steps, scoring and files as on the CPU."""
    for module in ("shared.backbone", "simulations.options"):
        monkeypatch.setattr(f"{module}.require_device", lambda name: name)
    text = (home / "card.toml").read_text().replace("[plan]", "[plan]\nlocal_steps = 2\nlocal_learning_rate = 0.1")
    (home / "steps.toml").write_text(text)
    words = ["simulate", "steps.toml", "--data", "study.toml", "--sites", "3", "--partition", "iid", "--engine", engine]
    with far_device():
        for device in ("cpu", FAR):
            assert promptward.main([*words, "--rounds", "2", "--device", device, "--out", device[:3]]) == 0
    near, far = (json.loads((home / out / "result.json").read_text()) for out in ("cpu", "far"))
    assert (near["device"], far["device"]) == ("cpu", FAR)
    assert near["task_digest"] == far["task_digest"]  # where a machine computes is no fact of the card
    assert near["sites"] == far["sites"]
    prompts = [load_prompt(home / out / "prompt")[0] for out in ("cpu", "far")]
    np.testing.assert_allclose(*prompts, atol=1e-4)


@pytest.mark.parametrize(
    ("words", "said"),
    [(["--device", "gpu"], "there is no such device"), (["--device", "cuda:99"], "device 'cuda:99'")],
)
def test_a_device_that_is_not_here_is_wrong_input(
    home: Path, capsys: pytest.CaptureFixture[str], words: list[str], said: str
) -> None:
    assert promptward.main(["simulate", "card.toml", "--data", "study.toml", *words, "--out", "d"]) == 2
    assert said in capsys.readouterr().err
    assert not (home / "d").exists()


def test_rays_actors_take_no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("simulations.options.require_device", lambda name: name)
    with pytest.raises(InputError, match="Ray's actors compute on cpu; take --engine batched"):
        Options(engine="ray", device="cuda")
