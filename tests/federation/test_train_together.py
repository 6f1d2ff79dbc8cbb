"""Hospitals train together for real: the heart-disease task with four hospitals, and it gives what the simulation gives."""

import csv
import io
import json
from pathlib import Path

import numpy as np
import pytest

import promptward
from client.transcript import read_transcript
from shared.card import Task
from shared.peft_format import load_prompt
from simulations.heart import USED, heart_study
from tests.federation.world import SEEDED, World

ROUNDS = 6
DATA = '[data]\npath = "rows.csv"\nlabel = "disease"\nlabels = { yes = "disease", no = "healthy" }\nsplit = "part"\n'


@pytest.fixture(scope="module")
def simulated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`promptward simulate`, six rounds."""
    out = tmp_path_factory.mktemp("simulated") / "run"
    assert promptward.main(["simulate", "--rounds", str(ROUNDS), "--out", str(out)]) == 0
    return out


def tables(task: Task) -> dict[str, str]:
    """Each hospital's own table, as it would lie there."""
    study = heart_study(task.card.files)
    found = {}
    for site in task.card.plan.sites:
        out = io.StringIO()
        writer = csv.writer(out)
        writer.writerow([*USED, "disease", "part"])
        for row, at in zip(study.rows, study.hospitals, strict=True):
            if at == site:
                writer.writerow([*(row[name] for name in USED), row["disease"], row[study.columns.split or ""]])
        found[site] = out.getvalue()
    return found


@pytest.mark.slow
def test_four_hospitals_train_what_the_simulation_trains(simulated: Path, tmp_path: Path) -> None:
    task = Task.load(str(simulated / "task.toml"))
    world = World(tmp_path, task).build(tables(task), DATA)
    try:
        serve = world.serve()
        sites = [world.join(name, SEEDED) for name in task.card.plan.sites]
        assert serve.wait(240) == 0, serve.text()
        for site in sites:
            assert site.wait(60) == 0, site.text()
    finally:
        world.stop()
    prompt, _ = load_prompt(world.run / "prompt")
    expected, _ = load_prompt(simulated / "prompt")
    np.testing.assert_allclose(prompt, expected, atol=1e-6)
    result = world.result()
    assert result["complete"]
    assert result["metrics"] == {}
    for name in task.card.plan.sites:
        assert [event.round for event in world.events(name)] == list(range(1, ROUNDS + 1))
        lines = read_transcript(world.home(name) / "ledger.transcript.jsonl")
        assert [line.delivered for line in lines if line.delivered] == [event.payload for event in world.events(name)]
        assert world.started[0].text().count("model loaded") == 0
    for site in sites:
        assert site.text().count("model loaded") == 1  # the backbone is loaded once a run
    print(json.dumps(result["timing"]))  # noqa: T201
