"""Everything is killed at some point of a run, and the run ends with every release charged exactly once."""

import os
import random
import signal
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from client.transcript import read_transcript
from shared.wire import sha256
from simulations.loopback import Process, World
from tests.federation.conftest import Tiny

Kill = Callable[[World, dict[str, Process]], None]
PATIENT = ("--deadline", "150")  # a busy machine may take a minute to start a hospital anew
LONG = int(os.environ.get("PROMPTWARD_SOAK_ROUNDS", "0"))


def children_of(pid: int) -> dict[str, int]:
    """Return the processes that a command started: the module or program's name -> its process id."""
    found = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            parent = int((folder / "stat").read_text().rsplit(")", 1)[1].split()[1])
            words = (folder / "cmdline").read_bytes().decode().split("\0")
        except (OSError, ValueError):
            continue
        if parent == pid:
            name = next((w for w in words if w.startswith("client.") or "flower-" in w or "agent" in w), words[0])
            found[name.rsplit("/", 1)[-1]] = int(folder.name)
    return found


def child(process: Process, name: str) -> int:
    found = children_of(process.process.pid)
    return next(pid for who, pid in found.items() if name in who)


def kill_agent(world: World, running: dict[str, Process]) -> None:
    os.kill(child(running["North"], "client.agent"), signal.SIGKILL)


def kill_gateway(world: World, running: dict[str, Process]) -> None:
    os.kill(child(running["South"], "client.edge"), signal.SIGKILL)


def kill_supernode(world: World, running: dict[str, Process]) -> None:
    os.kill(child(running["North"], "flower-supernode"), signal.SIGKILL)


def kill_site(world: World, running: dict[str, Process]) -> None:
    running["South"].kill()
    running["South"].process.wait()
    running["South"] = world.join("South", once=False)


def kill_serverapp(world: World, running: dict[str, Process]) -> None:
    os.kill(world.state()["pid"], signal.SIGKILL)


def kill_superlink(world: World, running: dict[str, Process]) -> None:
    os.kill(child(running["serve"], "flower-superlink"), signal.SIGKILL)


def kill_coordinator(world: World, running: dict[str, Process]) -> None:
    running["serve"].kill()
    running["serve"].process.wait()
    running["serve"] = world.serve(*PATIENT)


def freeze_agent(world: World, running: dict[str, Process]) -> None:
    frozen = child(running["North"], "client.agent")
    os.kill(frozen, signal.SIGSTOP)
    time.sleep(3)
    os.kill(frozen, signal.SIGCONT)


KILLS: tuple[Kill, ...] = (
    *(kill_agent, kill_gateway, kill_supernode, kill_site),
    *(kill_serverapp, kill_superlink, kill_coordinator, freeze_agent),
)


def run_with_kills(world: World, rounds: int, every: int, kills: tuple[Kill, ...]) -> None:
    """Run the plan with one kill every so many rounds, at a random moment of the round."""
    running = {"serve": world.serve(*PATIENT), "North": world.join("North", once=False), "South": world.join("South", once=False)}
    moments = random.Random(1)
    for number, at in enumerate(range(1, rounds - 1, every)):
        world.until(world.round(at), 300, f"round {at} of {rounds}, after {kills[number % len(kills)].__name__}")
        time.sleep(moments.random() * 1.5)
        kills[number % len(kills)](world, running)
    world.until(world.round(rounds), 300, "the last round")
    assert running["serve"].wait(60) == 0, running["serve"].text()


def assert_charged_exactly_once(world: World, rounds: int) -> None:
    """Ledger, transcript and what the coordinator holds say the same of every round."""
    result = world.result()
    assert result["complete"], result
    for name in world.task.card.plan.sites:
        events = world.events(name)
        assert [event.round for event in events] == list(range(1, rounds + 1))
        lines = read_transcript(world.home(name) / "ledger.transcript.jsonl")
        delivered = list(dict.fromkeys(line.delivered for line in lines if line.delivered))
        assert delivered == [event.payload for event in events]
        for event in events:
            with np.load(world.run / "transcript" / f"round-{event.round:05d}.npz") as sent:
                assert sha256(sent[f"update/{name}"]) == event.payload


@pytest.mark.slow
def test_a_run_survives_a_kill_of_every_process(tiny: Tiny, tmp_path: Path) -> None:
    rounds = 18
    world = tiny(rounds)
    run_with_kills(world, rounds, 2, KILLS)
    assert_charged_exactly_once(world, rounds)


@pytest.mark.skipif(not LONG, reason="the long one: make soak")
def test_soak(tiny: Tiny) -> None:
    world = tiny(LONG)
    run_with_kills(world, LONG, 5, KILLS)
    assert_charged_exactly_once(world, LONG)
