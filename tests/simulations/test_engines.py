"""One federation, trained by every engine: in one process, in large batches, by Ray's actors, and by processes over gRPC.

All draw the same coins and the same noise, charge the same ledgers, and arrive at the same prompt.
"""

import importlib.util
import json
import os
import signal
import sys
from collections.abc import Iterator
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flwr.app import Message, RecordDict
from flwr.common import MessageType
from numpy.typing import NDArray

import promptward
from client.ledger import Event, read_ledger
from client.transcript import read_transcript
from server.strategy import RoundSeen
from shared.canaries import card_lines, new_canaries
from shared.card import Task
from shared.errors import InputError, RunError
from shared.flower import context, give_id, identify
from shared.peft_format import load_prompt
from shared.processes import free_port
from simulations import federation, ray_engine
from simulations.actor import TOLD, WRONG, Place, app_of
from simulations.federation import Stopwatch, prepare
from simulations.grid import RUN_ID
from simulations.loopback import World
from simulations.options import Options
from simulations.partition import Scheme
from simulations.pools import elsewhere
from simulations.ray_engine import actors
from simulations.study import deal_out
from tests.conftest import card_text
from tests.shared.test_canaries import audited

SITES = ("North", "South")
ROUNDS = range(1, 4)
GRID_STEPS = 40  # a last digit of a gradient may turn a grid step over; the noise is tens of thousands of steps
WORDS = 'label = "dx"\nlabels = { neg = "well", pos = "sick" }\npatient = "who"\nsplit = "part"\n'
SEEDED = (sys.executable, "-P", "-m", "tests.federation.seeded_join")


def tables() -> dict[str, str]:
    """Return each site's table: most rows are of training patients."""
    random = np.random.default_rng(0)
    return {
        site: "who,place,age,pulse,dx,part\n"
        + "".join(
            f"{site}{n},{site},{age},{random.integers(50, 110)},{'pos' if age > 50 else 'neg'},{'train' if n % 4 else 'test'}\n"
            for n, age in enumerate(random.integers(20, 80, 40 + 20 * number))
        )
        for number, site in enumerate(SITES)
    }


def short(backbone: Path) -> str:
    return card_text(backbone).replace("rounds = 6", f"rounds = {ROUNDS[-1]}")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory, backbone_folder: Path) -> Path:
    folder = tmp_path_factory.mktemp("engines")
    head, *rows = "".join(tables().values()).splitlines()
    (folder / "rows.csv").write_text("\n".join([head, *(row for row in rows if row != head)]) + "\n")
    (folder / "study.toml").write_text(f'schema = 1\n[data]\npath = "rows.csv"\nsite = "place"\n{WORDS}')
    (folder / "card.toml").write_text(short(backbone_folder))
    return folder


def simulate(home: Path, out: Path, *more: str) -> int:
    return promptward.main(["simulate", str(home / "card.toml"), "--data", str(home / "study.toml"), "--out", str(out), *more])


@pytest.fixture(scope="module")
def reference(home: Path) -> Path:
    """The readable twin: every site is a hospital in this process; its second seed is another run."""
    assert simulate(home, home / "reference", "--seeds", "2") == 0
    return home / "reference"


@pytest.fixture(scope="module")
def ray_there() -> Iterator[None]:
    """One Ray for all tests of this file: its start takes seconds."""
    with ray_engine.running(None, 2):
        yield


def updates(transcript: Path) -> dict[tuple[int, str], NDArray[Any]]:
    """Return what each site sent in each round."""
    found = {}
    for number in ROUNDS:
        with np.load(transcript / f"round-{number:05d}.npz") as data:
            found |= {(number, site): data[f"update/{site}"] for site in SITES}
    return found


def same(mine: Path, other: Path) -> bool:
    """Say whether two transcripts hold the same updates: the same patients drawn, the same noise, gradients alike."""
    a, b = updates(mine), updates(other)
    return all(np.abs(a[key].astype(float) - b[key]).max() <= GRID_STEPS for key in a)


def charges(events: list[Event]) -> list[Event]:
    """Return a ledger's events without the run's name and the hashes, which hang on a prompt's last digits."""
    return [replace(event, run="", asked="", payload="") for event in events]


Outcome = tuple[Path, Path, dict[str, list[Event]]]


def simulated(engine: str, home: Path) -> Outcome:
    """Return prompt, transcript and ledgers of `promptward simulate`."""
    out = home / engine
    assert simulate(home, out, "--engine", engine, *(["--actors", "2"] if engine == "ray" else [])) == 0
    assert json.loads((out / "result.json").read_text())["engine"] == engine
    assert promptward.main(["audit", str(out), "--files-only"]) == 0
    ledgers = {site: read_ledger(out / "ledgers" / "seed0" / site / "ledger.jsonl") for site in SITES}
    return out / "prompt", out / "transcript" / "seed0", ledgers


def deployed(home: Path) -> Outcome:
    """Return the same of `promptward serve` and two `promptward join`, which draw as the simulation's first seed does."""
    world = World(home / "grpc", Task.load(str(home / "card.toml")))
    world.folder.mkdir()
    world.build(tables(), f'[data]\npath = "rows.csv"\n{WORDS}')
    try:
        serve = world.serve()
        sites = [world.join(name, SEEDED) for name in SITES]
        assert serve.wait(240) == 0, serve.text()
        assert [site.wait(60) for site in sites] == [0, 0], [site.text() for site in sites]
    finally:
        world.stop()
    assert world.result()["complete"]
    assert world.result()["metrics"] == {}
    assert [site.text().count("model loaded") for site in sites] == [1, 1]  # once a run
    ledgers = {name: world.events(name) for name in SITES}
    for name, events in ledgers.items():
        left = [line.delivered for line in read_transcript(world.home(name) / "ledger.transcript.jsonl") if line.delivered]
        assert left == [event.payload for event in events]
    return world.run / "prompt", world.run / "transcript", ledgers


@pytest.mark.parametrize(
    "engine", ["in-process", "batched", pytest.param("ray", marks=pytest.mark.slow), pytest.param("grpc", marks=pytest.mark.slow)]
)
def test_every_engine_trains_the_same_prompt_with_the_same_draws_and_charges(
    engine: str, home: Path, reference: Path, request: pytest.FixtureRequest
) -> None:
    if engine == "ray":
        request.getfixturevalue("ray_there")
    prompt, transcript, ledgers = deployed(home) if engine == "grpc" else simulated(engine, home)
    np.testing.assert_allclose(load_prompt(prompt)[0], load_prompt(reference / "prompt")[0], atol=2e-4)
    assert same(transcript, reference / "transcript" / "seed0")
    assert not same(transcript, reference / "transcript" / "seed1")  # the comparison tells other draws and noise apart
    for site, events in ledgers.items():
        assert charges(events) == charges(read_ledger(reference / "ledgers" / "seed0" / site / "ledger.jsonl"))
        assert [event.round for event in events] == list(ROUNDS)


@pytest.mark.slow
def test_actors_open_a_run_once_and_go_on_from_the_files_of_other_actors(
    home: Path, backbone_folder: Path, tmp_path: Path, ray_there: None
) -> None:
    quorate = Task.parse(short(backbone_folder).replace("[template]", "quorum = 1\n\n[template]"), "card.toml")
    canaries = new_canaries(quorate.card, "Watch", (4, 16), 64, 2, tmp_path / "watch.canaries")
    task = audited(quorate, card_lines(canaries))
    options = Options(
        data=str(home / "study.toml"), canaries=str(tmp_path / "watch.canaries"), engine="ray", dropout=0.1, stragglers=0.3
    )
    sites = deal_out(options.study(task), task.card, Scheme.parse("natural"), task.card.hospitals, options.split)
    here = prepare(task, sites, True, canaries, options.schedule)
    away = prepare(task, sites, True, canaries, options.schedule, elsewhere)
    expected, paid = federation.run_seed(here, 0, tmp_path / "here", Stopwatch(), lambda _: None)
    out = tmp_path / "away"
    out.mkdir()
    (out / "task.toml").write_text(task.text)
    options.save(out)

    def stop(seen: RoundSeen) -> None:
        if seen.state.round == 2:
            raise KeyboardInterrupt

    with actors(out, 2, None) as pool:
        with pytest.raises(KeyboardInterrupt):
            ray_engine.run_seed(pool, away, 0, out, Stopwatch(), stop)
        watch = Stopwatch()
        prompt, spent = ray_engine.run_seed(pool, away, 0, out, watch, lambda _: None)
        assert list(pool.loaded.values()) == [1, 1]
        assert watch.seconds > 0
        os.kill(int(next(iter(pool.loaded))), signal.SIGKILL)
        with pytest.raises(RunError, match=r"a Ray actor ended .* go on with: promptward simulate --resume"):
            ray_engine.run_seed(pool, away, 1, out, Stopwatch(), lambda _: None)
    np.testing.assert_allclose(prompt, expected, atol=2e-4)
    assert spent == paid
    assert spent["Watch"].releases > 0
    for number in ROUNDS:
        files = [np.load(folder / "transcript" / "seed0" / f"round-{number:05d}.npz").files for folder in (tmp_path / "here", out)]
        assert files[0] == files[1]


def test_an_actor_that_cannot_open_the_run_says_why(tmp_path: Path) -> None:
    for place, why in (
        (Place(tmp_path, tmp_path, "0.0"), "0.0 where the run was started"),
        (Place(tmp_path / "elsewhere", tmp_path, version("promptward")), "a path that every machine shares"),
        (Place(tmp_path, tmp_path, version("promptward")), "this is not a simulation's folder"),
    ):
        where = context(RUN_ID, 1)
        reply = app_of(place, 0)(query(), where)
        assert reply.has_error()
        assert why in str(where.state.config_records[TOLD][WRONG])


def query() -> Message:
    identify(RUN_ID)
    message = Message(RecordDict(), 1, MessageType.QUERY)
    give_id(message, "query")
    return message


def test_a_ray_that_is_not_there_is_one_sentence(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for more, why in (
        (["--actors", "2"], "with --engine ray"),
        (["--engine", "ray", "--actors", "0"], "at least 1"),
        (["--ray-address", "host:6379"], "add that, or leave the address away"),
    ):
        assert simulate(home, tmp_path / "never", *more) == 2
        assert why in capsys.readouterr().err
    for address, why in ((f"127.0.0.1:{free_port()}", "nothing answers there"), ("auto", "give HOST:PORT")):
        with pytest.raises(InputError, match=why):
            ray_engine.require_answer(address)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"pip install 'promptward\[ray\]'"):
        ray_engine.require_ray()
    assert not (tmp_path / "never").exists()
