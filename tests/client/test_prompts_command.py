"""`promptward prompts`: in and out of the library, side by side, near a task, and the guard at a hospital."""

import json
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tomli_w

import promptward
from client.chain import read_chain
from client.guard import FRESH, TRAINED, Start, advice, kinds_of
from client.ledger import read_ledger
from client.round import Pool
from shared.card import Task
from shared.library import open_entry
from shared.peft_format import save_prompt
from shared.privacy.counts import release_counts
from shared.privacy.source import SimulationSource
from shared.prompt import Array
from shared.scoring import Scorer, build

Capture = pytest.CaptureFixture[str]


def trained_rows(task: Task) -> Array:
    """Return a prompt whose label rows were fitted to made-up patients: sick is old."""
    scorer, prompt = build(task.card)
    texts = [[f"age {age} pulse {pulse}" for pulse in ("slow", "fast")] for age in ("low", "high")]
    import torch

    rows = torch.from_numpy(prompt[:2])
    centres = [(scorer.embed(side, rows) - scorer.centre).mean(0) for side in texts]
    return np.concatenate([prompt[:2], torch.stack(centres).numpy()]).astype(np.float32)


@pytest.fixture
def home(tmp_path: Path, task: Task, scorer: Scorer, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run's prompt that reads well, one that reads backwards, and a site that publishes."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PROMPTWARD_LIBRARY", str(tmp_path / "library"))
    good = trained_rows(task)
    for name, prompt in (("good", good), ("backwards", good[[0, 1, 3, 2]])):
        facts = {
            "privacy": True,
            "sites": [{"name": "North", "epsilon": 1.25, "delta": 1e-4, "accountant": "PLD", "unit": "patient"}],
        }
        save_prompt(tmp_path / name / "prompt", prompt, task, scorer, facts)
        (tmp_path / name / "task.toml").write_text(task.text)
    rows = [f"{20 + n % 60},{50 + 7 * n % 60},{'pos' if 20 + n % 60 > 50 else 'neg'},test" for n in range(300)]
    (tmp_path / "rows.csv").write_text("age,pulse,dx,part\n" + "\n".join(rows) + "\n")
    return tmp_path


def prompts(capsys: Capture, *words: str, code: int = 0) -> Any:
    assert promptward.main(["prompts", *words, *(["--json"] if code == 0 else [])]) == code
    out = capsys.readouterr()
    return json.loads(out.out) if code == 0 else out.err


def card(task: Task, init: str) -> Task:
    raw = tomllib.loads(task.text)
    raw["prompt"]["init"] = init
    return Task.parse(tomli_w.dumps(raw), "card")


def test_a_prompts_life(home: Path, task: Task, capsys: Capture) -> None:
    new = prompts(capsys, "import", "good/prompt", "--licence", "CC-BY-4.0", "--intended-use", "Research only.")
    assert new["card_kept"]
    prompts(capsys, "import", "backwards/prompt", "--name", "backwards")
    listed = prompts(capsys, "list")["prompts"]
    assert [(line["name"], line["epsilon"]) for line in listed] == [("backwards", 1.25), ("tiny", 1.25)]
    shown = prompts(capsys, "show", "tiny")
    assert (shown["licence"], shown["intended_use"], shown["sites"]) == ("CC-BY-4.0", "Research only.", ["North"])
    assert (shown["task_digest"], shown["private"], shown["accountant"]) == (task.digest, True, "PLD")
    assert shown["init"] == f"prompt:tiny@{open_entry(home / 'good' / 'prompt').digest}" == new["init"]
    prompts(capsys, "export", "tiny", "out")
    assert {p.name: p.read_bytes() for p in (home / "out").iterdir()} == {
        p.name: p.read_bytes() for p in (home / "library" / "tiny").iterdir()
    }
    prompts(capsys, "rm", "tiny")
    assert "holds backwards" in prompts(capsys, "show", "tiny", code=2)
    assert promptward.main(["prompts", "list"]) == 0
    assert "backwards" in capsys.readouterr().out


def test_two_prompts_side_by_side(home: Path, capsys: Capture) -> None:
    found = prompts(capsys, "compare", "good/prompt", "backwards/prompt", "--input", "rows.csv")
    assert (found["same_backbone"], found["same_task"], len(found["rows"]), len(found["label_rows"])) == (True, True, 2, 2)
    assert found["rows"][1] == {"cosine": pytest.approx(1), "distance": 0}
    assert found["label_rows"][0]["distance"] > 0
    assert found["agreement"] == 0
    assert prompts(capsys, "compare", "good/prompt", "good/prompt", "--input", "rows.csv")["agreement"] == 1


def test_the_prompt_that_reads_a_tasks_words_is_nearest(home: Path, task: Task, capsys: Capture) -> None:
    prompts(capsys, "import", "good/prompt", "--name", "good")
    prompts(capsys, "import", "backwards/prompt", "--name", "backwards")
    raw = tomllib.loads(task.text)
    raw["prompt"]["layer"] = 2
    (home / "task.toml").write_text(task.text)
    (home / "deep.toml").write_text(tomli_w.dumps(raw))
    found = prompts(capsys, "nearest", "task.toml")["prompts"]
    assert [line["name"] for line in found] == ["good", "backwards"]
    assert found[0]["reads"] > 0.5 > found[1]["reads"]
    assert (found[0]["texts"], found[0]["fields"]) == (1, 1)
    assert {line["usable"] for line in prompts(capsys, "nearest", "deep.toml")["prompts"]} == {"layer 1, the card has 2"}


def test_lineage_is_kept_over_two_steps(home: Path, task: Task, capsys: Capture) -> None:
    first = prompts(capsys, "import", "good/prompt", "--name", "first")["init"]
    for step, before in (("second", "first"), ("third", "second")):
        then = card(task, f"prompt:{before}@{open_entry(home / 'library' / before).digest}")
        scorer, start = build(then.card)
        save_prompt(home / step / "prompt", start, then, scorer, {})
        (home / step / "task.toml").write_text(then.text)
        prompts(capsys, "import", f"{step}/prompt", "--name", step)
    assert prompts(capsys, "show", "third")["lineage"] == [first, f"prompt:second@{open_entry(home / 'library' / 'second').digest}"]


def site_file(home: Path, task: Task, noise: str = "metric_noise = 8.0\n") -> str:
    (home / "site.toml").write_text(
        'schema = 1\nsite = "North"\n[data]\npath = "rows.csv"\nlabel = "dx"\nlabels = { neg = "well", pos = "sick" }\n'
        f'split = "part"\n[ledger]\npath = "north.jsonl"\n[policy]\nepsilon = 2.0\ndelta = 1e-4\ntasks = ["{task.digest}"]\n{noise}'
    )
    return "site.toml"


@pytest.mark.parametrize(("name", "other", "reuse"), [("good", "backwards", True), ("backwards", "good", False)])
def test_the_guard_tells_a_good_start_from_a_bad_one_and_charges_once(
    home: Path, task: Task, capsys: Capture, name: str, other: str, reuse: bool
) -> None:
    init = prompts(capsys, "import", f"{name}/prompt", "--name", name)["init"]
    fresh = prompts(capsys, "import", f"{other}/prompt", "--name", other)["init"]
    asked = card(task, init)
    (home / "card.toml").write_text(asked.text)
    site = site_file(home, asked)
    found = prompts(capsys, "guard", site, "card.toml", "--fresh", fresh)
    assert found["reuse"] is reuse
    [event] = read_ledger(home / "north.jsonl")
    assert (event.kind, event.noise_multiplier, event.sample_rate, event.clip_norm) == ("metric", 8.0, 1.0, 1.0)
    assert found["epsilon_before"] == 0 < found["epsilon_after"]
    again = prompts(capsys, "guard", site, "card.toml", "--fresh", fresh)
    assert again == found | {"newly_charged": False, "epsilon_before": found["epsilon_after"]}
    assert len(read_ledger(home / "north.jsonl")) == 1
    assert len(read_chain(home / "north.egress.jsonl")) == 2  # what was shown twice is logged twice


def test_the_guard_asks_the_sites_consent(home: Path, task: Task, capsys: Capture) -> None:
    init = prompts(capsys, "import", "good/prompt")["init"]
    asked = card(task, init)
    (home / "card.toml").write_text(asked.text)
    assert "publishes no accuracy" in prompts(capsys, "guard", site_file(home, asked, noise=""), "card.toml", code=2)
    (home / "plain.toml").write_text(task.text)
    assert "there is nothing to guard" in prompts(capsys, "guard", site_file(home, task), "plain.toml", code=2)
    assert not (home / "north.jsonl").exists()


def test_advice_needs_evidence_and_does_not_fall_for_the_commoner_label() -> None:
    assert advice(np.array([60, 40, 65, 35]), 3.0).reuse
    assert not advice(np.array([40, 60, 35, 65]), 3.0).reuse
    assert not advice(np.array([52, 48, 51, 49]), 3.0).reuse  # within its error
    assert not advice(np.array([0, 100, 900, 0]), 3.0).reuse  # wins every patient of the commoner label, and nothing else
    few = advice(np.array([9, 1, 65, 35]), 8.0)
    assert (few.reuse, few.lead) == (False, None)
    assert "too few patients" in few.why


def test_the_guards_error_is_that_of_repeated_noise() -> None:
    kinds = np.repeat([0, 1, 2, 3], [60, 40, 65, 35])
    said = [advice(release_counts(kinds, 4, 8.0, SimulationSource(n).stream("guard")).value, 8.0) for n in range(300)]
    leads = np.array([found.lead for found in said])
    noise_only = np.sqrt(2 * 2 * 64 / 100**2) / 2
    assert np.std(leads) == pytest.approx(noise_only, rel=0.2)
    assert said[0].error is not None
    assert said[0].error > noise_only  # patients vary too


def test_a_patient_moves_one_count_by_one(task: Task, scorer: Scorer, prompt: Array, patients: Pool) -> None:
    def counts(of: Pool) -> Any:
        trained = Start(task.card, scorer, trained_rows(task), of)
        return np.bincount(kinds_of(trained, Start(task.card, scorer, prompt, of)), minlength=4)

    whole = counts(patients)
    assert whole.sum() == patients.patients
    assert {TRAINED, FRESH} == {0, 1}
    for gone in range(0, patients.patients, 7):
        rest = Pool(patients.hidden, patients.labels, patients.records[:gone] + patients.records[gone + 1 :])
        moved = whole - counts(rest)
        assert sorted(moved.tolist()) == [0, 0, 0, 1]


def test_a_prompt_is_handed_over_to_a_card_that_starts_where_it_ended(home: Path, capsys: Capture, task: Task) -> None:
    found = prompts(capsys, "handover", "good/prompt", "lora.toml", "--rank", "2")
    card = Task.load("lora.toml")
    scorer, start = build(card.card)
    assert found["bytes_a_round"] == start.nbytes
    assert card.card.name == "tiny-lora"
    assert card.card.privacy == task.card.privacy
    assert scorer.tuning is not None
    texts = ["age low pulse slow", "age high pulse slow"]
    before, prompt = build(task.card)[0], open_entry(home / "good/prompt").prompt
    import torch

    mine = scorer.logits(scorer.read(texts), torch.from_numpy(start))
    torch.testing.assert_close(mine, before.logits(before.read(texts), torch.from_numpy(prompt)))
    assert "was not overwritten" in prompts(capsys, "handover", "good/prompt", "lora.toml", code=2)
    found = prompts(capsys, "handover", "good/prompt", "layers.toml", "--kind", "layers")
    assert found["moves"] == "layers in 2 of 3 layers"
    assert "rank" in prompts(capsys, "handover", "good/prompt", "more.toml", "--rank", "0", code=2)
    assert not (home / "more.toml").exists()
    save_prompt(home / "moved/prompt", start, card, scorer, {})
    (home / "moved/task.toml").write_text(card.text)
    assert "was handed over before" in prompts(capsys, "handover", "moved/prompt", "again.toml", code=2)
