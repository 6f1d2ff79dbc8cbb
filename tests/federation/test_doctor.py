"""`promptward doctor site` against Flower's real SuperLink: it is found fit, nothing changes there, the clocks are compared."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from socket import create_connection
from typing import Any

import pytest

from client import checkup_link, skew
from client.checkup import Examined
from client.checkup_link import link_checks
from client.site import load_site
from server.credentials import Credentials
from server.flower_link import Control, link_command, link_environment
from server.roster import admitted
from shared.card import Task
from shared.findings import Finding, examine
from shared.processes import Child, free_port
from simulations.loopback import World
from tests.client.test_doctor import DATA, TABLE


@pytest.fixture(scope="module")
def world(task: Task, tmp_path_factory: pytest.TempPathFactory) -> World:
    found = World(tmp_path_factory.mktemp("w"), task)
    return found.build({"North": TABLE, "South": TABLE}, DATA)


@pytest.fixture(scope="module")
def control(world: World) -> Iterator[Control]:
    """A SuperLink as `promptward serve` starts it, with the roster registered."""
    keys, address = Credentials(world.keys), f"127.0.0.1:{free_port()}"
    command = link_command(keys, f"127.0.0.1:{world.port}", address, world.folder / "state.db")
    log = world.folder / "flower.log"
    link = Child("SuperLink", command, link_environment(world.folder, world.folder / "flower"), world.folder, log)
    link.start()
    found = Control(address, keys.authority)
    try:
        found.wait(lambda: link.ended is None)
        found.register(admitted(world.keys))
        world.until(lambda: reachable(world.port), 30, "the Fleet API")
        yield found
    finally:
        found.close()
        link.stop()


def reachable(port: int) -> bool:
    try:
        create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True


def look(world: World) -> dict[str, Finding]:
    file = world.home("North") / "site.toml"
    return {finding.check: finding for finding in examine(link_checks(Examined(file, load_site(file))))}


def nodes(control: Control) -> list[Any]:
    return [(node.node_id, node.status, node.last_activated_at, node.online_until) for node in control.nodes()]


@pytest.mark.slow
def test_a_real_superlink_is_found_fit_and_unchanged(world: World, control: Control) -> None:
    before = nodes(control)
    found = look(world)
    assert {found[name].state for name in ("network", "TLS", "coordinator", "clocks", "key", "CA certificate")} == {"ok"}
    assert found["clocks"].said.startswith(("the coordinator's clock is 0.", "the coordinator's clock is 1."))
    assert nodes(control) == before


@pytest.mark.slow
def test_a_node_id_that_is_remembered_tells_whether_the_key_is_admitted(world: World, control: Control) -> None:
    ids = control.register(admitted(world.keys))
    file = world.home("North") / "ledger.node"
    before = nodes(control)
    for node, state in ((ids["North"], "ok"), (ids["South"], "warning"), (12345, "warning")):
        file.write_text(str(node))
        assert look(world)["admitted"].state == state
    assert nodes(control) == before
    file.unlink()


class Shifted(datetime):
    """A clock that runs eleven minutes behind."""

    @classmethod
    def now(cls, tz: Any = None) -> "datetime":  # type: ignore[override]
        return datetime.now(tz) - timedelta(minutes=11)


@pytest.mark.slow
def test_a_clock_that_flower_would_refuse_is_measured(world: World, control: Control, monkeypatch: pytest.MonkeyPatch) -> None:
    assert Shifted.now(UTC) < datetime.now(UTC)
    monkeypatch.setattr(checkup_link, "datetime", Shifted)
    monkeypatch.setattr(skew, "datetime", Shifted)
    found = look(world)["clocks"]
    assert found.state == "wrong"
    assert found.said.startswith(
        ("the coordinator's clock is 660.", "the coordinator's clock is 661.", "the coordinator's clock is 659.")
    )
    assert "it refuses every call of this site" in found.said
    assert "NTP" in found.mend
