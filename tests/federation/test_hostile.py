"""A hostile coordinator, a hospital whose own gates are torn out, and strangers: nothing leaves that should not."""

import hashlib
import json
import os
import sqlite3
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from flwr.cli.build import build_fab_from_files
from flwr.common.serde import fab_to_proto
from flwr.proto.control_pb2 import StartRunRequest
from flwr.supercore.fab import Fab

from client.transcript import read_transcript
from server.credentials import Credentials
from server.flower_link import Control, link_command, link_environment
from server.roster import admitted
from shared.bundle import FILE, bundle, bundle_hash
from shared.keys import key_file_name
from shared.processes import Child, free_port
from shared.wire import FAILED
from simulations.loopback import ROOT, World
from tests.federation.conftest import Tiny
from tests.federation.hostile_serverapp import messages
from tests.federation.leaky_agent import SECRET

LEAKY = (sys.executable, "-P", "-m", "tests.federation.leaky_join")
pytestmark = pytest.mark.slow


class Hostile:
    """Flower's own SuperLink with a ServerApp of the attacker's, for as many runs as it likes."""

    def __init__(self, world: World) -> None:
        self.world, self.home = world, world.folder / "hostile"
        commands = self.home / "commands"
        commands.mkdir(parents=True)
        script = commands / "flwr-serverapp"
        script.write_text(f'#!/bin/sh\nexec "{sys.executable}" -P -m tests.federation.hostile_serverapp "$@"\n')
        script.chmod(0o700)
        self.plan, self.out = self.home / "plan.json", self.home / "out.json"
        given = dict(link_environment(self.home, self.home))
        given |= {"PATH": f"{commands}{os.pathsep}{given['PATH']}", "PYTHONPATH": str(ROOT), "HOSTILE_PLAN": str(self.plan)}
        control = f"127.0.0.1:{free_port()}"
        keys = Credentials(world.keys)
        command = link_command(keys, f"127.0.0.1:{world.port}", control, self.home / "state.db")
        self.link = Child("SuperLink", command, given, self.home, self.home / "flower.log")
        self.link.start()
        self.control = Control(control, keys.authority)
        self.control.wait(lambda: self.link.ended is None)
        self.nodes = self.control.register(admitted(world.keys))

    def online(self) -> set[str]:
        return {node.name for node in self.control.nodes() if node.status == "online"}

    def run(
        self, site: str, send: list[str], rounds: tuple[int, ...] = (), app: bytes | None = None, **settings: float
    ) -> dict[str, Any]:
        """Start a run of a bundle with settings, and return what the ServerApp saw."""
        self.out.unlink(missing_ok=True)
        plan = {"digest": self.world.task.digest, "node": self.nodes[site], "send": send, "rounds": rounds, "out": str(self.out)}
        plan["brief"] = bool(app or settings)  # of such a run nothing may come
        self.plan.write_text(json.dumps(plan))
        content = app or bundle()
        request = StartRunRequest(fab=fab_to_proto(Fab(hashlib.sha256(content).hexdigest(), content, {})))
        self.control._client.StartRun(request)
        if settings:  # Flower's own code would not take settings that the bundle does not have; an attacker's database does
            with sqlite3.connect(self.home / "state.db", timeout=10) as database:
                database.execute("UPDATE run SET override_config = ?", [json.dumps(settings)])
        self.world.until(self.out.exists, 240, f"a hostile run at {site}: {(self.home / 'flower.log').read_text()[-2000:]}")
        found: dict[str, Any] = json.loads(self.out.read_text())
        return found

    def everything(self) -> bytes:
        """Whatever the coordinator could have learned: its database and logs."""
        return b"".join(path.read_bytes() for path in self.home.rglob("*") if path.is_file())


@pytest.fixture
def hostile(tiny: Tiny) -> Iterator[Hostile]:
    world = tiny(sites=("North", "South", "West"))
    (world.keys / "sites" / "West.pub").unlink()  # its key was never admitted
    found = Hostile(world)
    yield found
    found.link.stop()
    found.control.close()


def refusals(world: World, site: str) -> str:
    lines = read_transcript(world.home(site) / "ledger.transcript.jsonl")
    return "\n".join(line.refused for line in lines if line.refused)


def code_bundle(mark: Path) -> bytes:
    """A bundle that brings code of its own, under our packages' names too; it leaves a mark where it runs."""
    evil = f"open({str(mark)!r}, 'w').write('ran')\n".encode()
    return build_fab_from_files({"pyproject.toml": FILE.read_bytes(), "client/app.py": evil, "shared/__init__.py": evil})[0]


def test_a_hostile_coordinator_gets_one_paid_array_and_no_word(hostile: Hostile) -> None:
    world, north = hostile.world, hostile.world.join("North", once=False)
    world.until(lambda: "North" in hostile.online(), 120, "North online")
    seen = hostile.run("North", list(messages(world.task.digest)))
    honest, again = seen.pop("honest"), seen.pop("honest again")
    assert honest == again
    assert honest["records"] == ["update"]
    for name, reply in seen.items():
        if reply["kind"] == "error":
            assert (reply["code"], reply["reason"] or "") == (FAILED, ""), name
        else:
            assert reply["kind"] == "nothing", name
    assert [event.round for event in world.events("North")] == [1]
    assert sum("training only" in line for line in refusals(world, "North").splitlines()) == 3

    mark = world.folder / "evil code ran"
    assert hostile.run("North", ["honest"], app=code_bundle(mark))["honest"] == {"kind": "nothing"}
    assert hostile.run("North", ["honest"], noise_multiplier=0.0, epsilon=1e9)["honest"] == {"kind": "nothing"}
    assert not mark.exists()
    assert f"this site has pinned {bundle_hash()}" in refusals(world, "North")
    assert "the run sets epsilon, noise_multiplier; a hospital takes no setting from a run" in refusals(world, "North")
    assert not list(Path(world.home("North")).rglob("*.fab"))
    assert north.process.poll() is None  # it is still there, for the honest


def test_a_hospital_without_its_own_gates_still_leaks_nothing(hostile: Hostile) -> None:
    world = hostile.world
    south, west = world.join("South", LEAKY, once=False), world.join("West", once=False)
    world.until(lambda: "South" in hostile.online(), 120, "South online")
    seen = hostile.run("South", [], rounds=(1, 2, 3, 4, 5, 6))
    assert seen.pop("round 6")["kind"] == "reply"  # the control: an honest reply passes
    assert {reply["kind"] for reply in seen.values()} == {"nothing"}
    said = refusals(world, "South")
    for reason in ("an error with a text", "not the one array", "bytes would leave", "the ledger has not paid"):
        assert reason in said
    assert SECRET.encode() not in hostile.everything()
    assert SECRET not in said
    assert b"num-examples" not in hostile.everything()
    assert south.process.poll() is None

    world.until(lambda: "is its public key admitted there?" in west.text(), 60, "West told")
    assert hostile.online() == {"South"}
    assert {line.call for line in read_transcript(world.home("West") / "ledger.transcript.jsonl")} <= {"ActivateNode"}


def test_a_coordinator_that_cannot_prove_itself_gets_no_connection(hostile: Hostile, tiny: Tiny) -> None:
    other = tiny()  # another federation, with another CA
    other_ca = other.keys / "ca.crt"
    site = hostile.world.home("North") / "site.toml"
    site.write_text(site.read_text().replace(str(hostile.world.keys / "ca.crt"), str(other_ca)))
    north = hostile.world.join("North")
    assert north.wait(60) == 2
    assert "does not prove to be the coordinator" in north.text()
    time.sleep(0.1)
    assert not (site.parent / "ledger.transcript.jsonl").exists()
    assert key_file_name("North") == "North"
