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
from client.guard import KINDS, SURE, Start, advice, kinds_of
from client.ledger import read_ledger
from client.round import Pool
from shared.card import Task
from shared.library import open_entry
from shared.peft_format import save_prompt
from shared.privacy.counts import release_counts
from shared.privacy.source import SimulationSource
from shared.prompt import Array
from shared.scoring import Scorer, build

PARTS = ["train"] * 300 + ["test"] * 60
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
    rows = [f"{20 + n % 60},{50 + 7 * n % 60},{'pos' if 20 + n % 60 > 50 else 'neg'},{part}" for n, part in enumerate(PARTS)]
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


def test_advice_needs_a_reading_beyond_chance_and_no_worse_than_fresh() -> None:
    """Counts of a label: both read it rightly, the trained start alone, the fresh one alone, neither."""
    good = advice(np.array([50, 20, 10, 20, 45, 25, 10, 20]), 3.0)
    assert good.reads is not None
    assert good.lead is not None
    assert good.reuse
    assert [good.chance, good.reads.value, good.lead.value] == pytest.approx([0.5, 0.7, 0.125])
    assert not advice(np.array([25, 27, 25, 23, 24, 25, 26, 25]), 3.0).reuse  # reads at chance
    assert not advice(np.array([45, 20, 35, 0, 40, 20, 35, 5]), 3.0).reuse  # above chance, and worse than a fresh start
    assert not advice(np.array([0, 0, 100, 0, 400, 500, 0, 0]), 3.0).reuse  # always says the commoner label
    few = advice(np.array([9, 1, 3, 2, 45, 25, 10, 20]), 8.0)
    assert (few.reuse, few.reads) == (False, None)
    assert "too few patients" in few.why


def said_of(counts: list[int], noise: float, draws: int = 400) -> list[Any]:
    kinds = np.repeat(np.arange(len(counts)), counts)
    draw = [release_counts(kinds, len(counts), noise, SimulationSource(n).stream("guard")).value for n in range(draws)]
    return [advice(each, noise) for each in draw]


def test_the_guards_errors_are_those_of_repeated_noise() -> None:
    said = said_of([50, 20, 10, 20, 45, 25, 10, 20], 8.0)
    reads, leads = [found.reads for found in said], [found.lead for found in said]
    right, ahead = np.array([0.7, 0.7]), np.array([0.1, 0.15])
    noise_only = 8 / 100 * np.sqrt((2 * (1 - right) ** 2 + 2 * right**2).sum()) / 2
    assert np.std([x.value for x in reads]) == pytest.approx(noise_only, rel=0.15)
    assert reads[0].error > noise_only  # patients vary too
    noise_only = 8 / 100 * np.sqrt(((1 - ahead) ** 2 + (1 + ahead) ** 2 + 2 * ahead**2).sum()) / 2
    assert np.std([x.value for x in leads]) == pytest.approx(noise_only, rel=0.15)


@pytest.mark.parametrize("leaning", [0.5, 0.8, 0.97])
@pytest.mark.parametrize("patients", [(64, 108), (40, 400)])
def test_of_starts_that_read_at_chance_few_get_through(patients: tuple[int, int], leaning: float) -> None:
    """The stated rate is 5 %, for a start that reads nothing, whatever label it leans to and however rare one label is.

    The fresh start reads nothing either, so nothing but chance holds the trained one back. The same test must see a good start.
    """
    public, noise = np.random.default_rng(7), 8.0

    def accepted(right: tuple[float, float], draws: int = 1500) -> float:
        yes = 0
        for _ in range(draws):
            counts = [public.multinomial(n, np.outer([p, 1 - p], [0.5, 0.5]).ravel()) for n, p in zip(patients, right, strict=True)]
            yes += advice(np.concatenate(counts) + np.round(public.normal(0, noise, 2 * KINDS)), noise).reuse
        return yes / draws

    rate = 0.05
    assert pytest.approx(1.645) == SURE
    assert accepted((leaning, 1 - leaning)) <= rate + 3 * np.sqrt(rate / 1500)
    assert accepted((0.8, 0.75)) > 0.5


def test_a_patient_moves_one_count_by_one(task: Task, scorer: Scorer, prompt: Array, patients: Pool) -> None:
    def counts(of: Pool) -> Any:
        trained = Start(task.card, scorer, trained_rows(task), of)
        return np.bincount(kinds_of(trained, Start(task.card, scorer, prompt, of)), minlength=2 * KINDS)

    whole = counts(patients)
    assert whole.sum() == patients.patients
    for gone in range(0, patients.patients, 7):
        rest = Pool(patients.hidden, patients.labels, patients.records[:gone] + patients.records[gone + 1 :])
        moved = whole - counts(rest)
        assert sorted(moved.tolist()) == [0] * (2 * KINDS - 1) + [1]


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
    prompts(capsys, "push", "moved/prompt", "hub")
    page = (home / "hub/README.md").read_text()
    assert "- lora" in page
    assert "Changes of one frozen model's weights (LoRA), beside a soft prompt" in page
    assert "was handed over before" in prompts(capsys, "handover", "moved/prompt", "again.toml", code=2)
