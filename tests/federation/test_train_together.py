"""Hospitals train together for real: the heart-disease task with four hospitals, and it gives what the simulation gives."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest

import promptward
from client.transcript import read_transcript
from shared.card import Task
from shared.peft_format import load_prompt
from simulations.heart import DATA_TABLE, heart_study, site_tables
from simulations.loopback import World

ROUNDS = 6
SEEDED = (sys.executable, "-P", "-m", "tests.federation.seeded_join")


@pytest.fixture(scope="module")
def simulated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`promptward simulate`, six rounds."""
    out = tmp_path_factory.mktemp("simulated") / "run"
    assert promptward.main(["simulate", "--rounds", str(ROUNDS), "--out", str(out)]) == 0
    return out


@pytest.mark.slow
def test_four_hospitals_train_what_the_simulation_trains(simulated: Path, tmp_path: Path) -> None:
    task = Task.load(str(simulated / "task.toml"))
    world = World(tmp_path, task).build(site_tables(heart_study(task.card.files), task.card.plan.sites), DATA_TABLE)
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
