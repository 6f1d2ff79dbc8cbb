"""A site that is lost, or slower than a round waits, is named and left out, and the run never says that all is well."""

import os
import signal

import pytest

from tests.federation.conftest import Tiny
from tests.federation.test_survive import child

pytestmark = pytest.mark.slow


def test_a_lost_and_a_frozen_site_are_named_and_left_out(tiny: Tiny) -> None:
    world = tiny(rounds=4, sites=("North", "South", "West"), quorum=1)
    serve = world.serve("--deadline", "12")
    running = {name: world.join(name, once=False) for name in ("North", "South", "West")}
    world.until(world.round(1), 180, "the first round")
    running["South"].kill()  # and it never comes back
    frozen = child(running["West"], "client.agent")
    os.kill(frozen, signal.SIGSTOP)
    world.until(world.round(3), 180, "two rounds without them")
    os.kill(frozen, signal.SIGCONT)
    assert serve.wait(240) == 1
    result = world.result()
    sites = {site["name"]: site for site in result["sites"]}
    assert not result["complete"]
    assert sites["North"]["rounds_contributed"] == 4
    assert set(sites["South"]["rounds_left_out"].values()) == {"it did not reply"}
    assert "2" in sites["West"]["rounds_left_out"]
    assert sites["West"]["rounds_contributed"] >= 2  # it was frozen for some rounds, and is back
    assert "Not complete: 4 of 4 rounds were run; left out: South in" in serve.text()
    assert [event.round for event in world.events("North")] == [1, 2, 3, 4]
    charged = [event.round for event in world.events("West")]
    assert charged == sorted(set(charged))  # what it was frozen in is answered late or not at all, and never charged twice
