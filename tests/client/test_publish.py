"""`promptward publish`: charged before it is seen, once for a prompt, within the budget, from the site's own files."""

import json
import os
from contextlib import closing
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest

import promptward
from client.chain import Chain, read_chain
from client.ledger import Event, Ledger, read_ledger
from client.opening import open_hospital
from client.site import load_site
from shared.card import Task
from shared.peft_format import save_prompt
from shared.privacy.accounting import FINE, epsilon_of
from shared.privacy.counts import count_release
from shared.prompt import Array
from shared.scoring import Scorer
from shared.wire import Request

Capture = pytest.CaptureFixture[str]


@pytest.fixture
def site_file(tmp_path: Path, task: Task) -> Path:
    rows = [f"{25 + n},{60 + n},{'pos' if n > 20 else 'neg'},{'test' if n % 3 == 0 else 'train'}" for n in range(60)]
    (tmp_path / "rows.csv").write_text("age,pulse,dx,part\n" + "\n".join(rows) + "\n")
    path = tmp_path / "site.toml"
    path.write_text(
        'schema = 1\nsite = "North"\n[data]\npath = "rows.csv"\nlabel = "dx"\nlabels = { neg = "well", pos = "sick" }\n'
        'split = "part"\n[ledger]\npath = "north.jsonl"\n'
        f'[policy]\nepsilon = 2.0\ndelta = 1e-4\ntasks = ["{task.digest}"]\nmetric_noise = 8.0\n'
    )
    return path


@pytest.fixture
def folder(tmp_path: Path, task: Task, scorer: Scorer, prompt: Array) -> Path:
    return keep(tmp_path / "run" / "prompt", task, scorer, prompt)


def keep(folder: Path, task: Task, scorer: Scorer, prompt: Array) -> Path:
    save_prompt(folder, prompt, task, scorer, {})
    (folder.parent / "task.toml").write_text(task.text)
    return folder


def published(site_file: Path, folder: Path, capsys: Capture) -> dict[str, object]:
    assert promptward.main(["publish", str(site_file), str(folder), "--json"]) == 0
    return dict(json.loads(capsys.readouterr().out))


def change(site_file: Path, old: str, new: str) -> None:
    text = site_file.read_text()
    assert old in text
    site_file.write_text(text.replace(old, new))


def test_an_accuracy_is_charged_logged_and_written(site_file: Path, folder: Path, task: Task, capsys: Capture) -> None:
    found = published(site_file, folder, capsys)
    [event] = read_ledger(site_file.parent / "north.jsonl")
    assert (event.kind, event.task, event.releases, event.sample_rate, event.release) == (
        "metric",
        task.digest,
        1,
        1.0,
        count_release(8.0),
    )
    assert [entry.body["sha256"] for entry in read_chain(site_file.parent / "north.egress.jsonl")] == [event.payload]
    assert (found["unit"], found["delta"], found["accountant"]) == ("patient", 1e-4, "PLD")
    assert found["epsilon_before"] == 0
    assert found["epsilon_after"] == pytest.approx(epsilon_of([count_release(8.0)], 1e-4, FINE))
    assert abs(int(str(found["right"])) + int(str(found["wrong"])) - 20) < 8 * 2**0.5 * 6  # twenty test patients
    written = json.loads(Path(str(found["file"])).read_text())
    assert all(found[key] == value for key, value in written.items() if key != "schema")


def test_the_same_prompt_gets_the_same_numbers_without_a_charge(site_file: Path, folder: Path, capsys: Capture) -> None:
    first = published(site_file, folder, capsys)
    content = Path(str(first["file"])).read_bytes()
    again = published(site_file, folder, capsys)
    assert (first.pop("newly_charged"), again.pop("newly_charged")) == (True, False)
    assert first == again
    assert Path(str(again["file"])).read_bytes() == content
    assert len(read_ledger(site_file.parent / "north.jsonl")) == 1
    assert promptward.main(["publish", str(site_file), str(folder)]) == 0
    said = capsys.readouterr().out
    assert "95 % interval" in said
    assert "the same numbers, nothing new was charged" in said


def test_training_and_publishing_spend_one_budget(
    site_file: Path, folder: Path, task: Task, prompt: Array, capsys: Capture
) -> None:
    with closing(open_hospital(load_site(site_file), task)) as hospital:
        hospital.respond(Request(task.digest, "run1", 1, prompt))
        assert promptward.main(["publish", str(site_file), str(folder)]) == 1  # one process at a time
        assert f"another promptward process (pid {os.getpid()}) has this file open" in capsys.readouterr().err
        training = hospital.proposal.plan.mechanism.spends
    found = published(site_file, folder, capsys)
    assert found["epsilon_before"] == pytest.approx(epsilon_of([training], 1e-4, FINE))
    assert found["epsilon_after"] == pytest.approx(epsilon_of([training, count_release(8.0)], 1e-4, FINE))
    with closing(open_hospital(load_site(site_file), task)) as hospital:  # both kinds on one ledger
        hospital.respond(Request(task.digest, "run1", 1, prompt))
        hospital.respond(Request(task.digest, "run1", 2, prompt))
    assert [event.kind for event in read_ledger(site_file.parent / "north.jsonl")] == ["training", "metric", "training"]
    for action, said in (
        ("show", "published accuracy"),
        ("statement", "2 updates of the prompt and 1 published metric, with 3 noised sums"),
    ):
        assert promptward.main(["ledger", action, str(site_file.parent / "north.jsonl")]) == 0
        assert said in " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize(
    ("old", "new", "code", "said"),
    [
        ("metric_noise = 8.0\n", "", 2, "set [policy] metric_noise in its site file"),
        ("metric_noise = 8.0", "metric_noise = 2.0", 2, "key 'policy.metric_noise': Input should be greater than 2"),
        ('split = "part"\n', "", 2, "name the column that says train or test in [data] split"),
        ('tasks = ["', 'tasks = ["' + "0" * 64 + '"]\n#', 2, "is not in [policy] tasks"),
        ("epsilon = 2.0", "epsilon = 0.1", 1, "would bring epsilon to 0.3"),
        ("epsilon = 2.0", "epsilon = 2.0\ntask_epsilon = 0.1", 1, "the budget of one task is 0.1 and 0.0000 is spent"),
    ],
)
def test_what_the_site_does_not_allow_is_refused_and_costs_nothing(
    site_file: Path, folder: Path, capsys: Capture, old: str, new: str, code: int, said: str
) -> None:
    change(site_file, old, new)
    assert promptward.main(["publish", str(site_file), str(folder)]) == code
    assert said in capsys.readouterr().err
    assert not (site_file.parent / "north.jsonl").exists()


def test_without_test_patients_nothing_is_published(site_file: Path, folder: Path, capsys: Capture) -> None:
    rows = site_file.parent / "rows.csv"
    rows.write_text(rows.read_text().replace(",test", ",train"))
    assert promptward.main(["publish", str(site_file), str(folder)]) == 2
    assert "says test of no row; without test patients there is no accuracy" in capsys.readouterr().err


def test_a_task_has_so_many_accuracies_and_no_more(
    site_file: Path, folder: Path, task: Task, scorer: Scorer, prompt: Array, capsys: Capture
) -> None:
    change(site_file, "metric_noise = 8.0", "metric_noise = 8.0\nmost_metrics = 1")
    published(site_file, folder, capsys)
    other = keep(site_file.parent / "run2" / "prompt", task, scorer, (prompt * 2).astype(np.float32))
    assert promptward.main(["publish", str(site_file), str(other)]) == 1
    assert "[policy] most_metrics 1 allows no more" in capsys.readouterr().err
    published(site_file, folder, capsys)  # the one that was paid for is still there


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda folder: (folder / "promptward.json").unlink(), "this is not a whole prompt folder"),
        (lambda folder: (folder.parent / "task.toml").unlink(), "name the prompt's task card with --task"),
        (lambda folder: (folder.parent / "task.toml").open("a").write("# another\n"), "was trained for another task card"),
    ],
)
@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_prompt_folder_that_does_not_fit_is_refused(
    site_file: Path, folder: Path, capsys: Capture, spoil: object, said: str
) -> None:
    spoil(folder)  # type: ignore[operator]
    assert promptward.main(["publish", str(site_file), str(folder)]) == 2
    assert said in capsys.readouterr().err


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_prompt_that_is_not_finite_is_refused(
    site_file: Path, tmp_path: Path, task: Task, scorer: Scorer, prompt: Array, capsys: Capture, value: float
) -> None:
    broken = keep(
        tmp_path / "run3" / "prompt", task, scorer, np.where(np.eye(*prompt.shape, dtype=bool), value, prompt).astype("f4")
    )
    assert promptward.main(["publish", str(site_file), str(broken)]) == 2
    assert "is not a finite float32 array of the card's shape (4, 16)" in capsys.readouterr().err
    assert not (site_file.parent / "north.jsonl").exists()


def test_an_older_ledger_is_found_before_anything_is_published_again(site_file: Path, folder: Path, capsys: Capture) -> None:
    published(site_file, folder, capsys)
    (site_file.parent / "north.jsonl").unlink()
    assert promptward.main(["publish", str(site_file), str(folder)]) == 2
    assert "a payload that left and is not on this ledger" in capsys.readouterr().err


def test_counts_that_are_gone_are_never_drawn_again(site_file: Path, folder: Path, capsys: Capture) -> None:
    published(site_file, folder, capsys)
    [kept] = (site_file.parent / "north.metrics").glob("*.npy")
    kept.unlink()
    assert promptward.main(["publish", str(site_file), str(folder)]) == 1
    assert "it cannot be drawn again" in capsys.readouterr().err


def test_a_ledger_from_before_there_were_kinds_still_reads(tmp_path: Path) -> None:
    event = Event("t" * 64, "run1", 1, "a", "b", 2, 0.5, 3.0, 1.0, 1 / 20_000, 2)
    body = asdict(event)
    del body["kind"]
    with closing(Chain(tmp_path / "ledger.jsonl")) as chain:
        chain.append(body)
    with closing(Ledger(Chain(tmp_path / "ledger.jsonl"))) as ledger:
        assert ledger.events == [event]
        assert ledger.find("t" * 64, "run1", 1) == event
