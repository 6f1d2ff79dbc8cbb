"""A site that is lost, or slower than a round waits, is named and left out, and the run never says that all is well."""

import os
import signal

import pytest

from tests.federation.conftest import Tiny
from tests.federation.test_survive import child

pytestmark = pytest.mark.slow


def test_a_lost_and_a_frozen_site_are_named_and_left_out(tiny: Tiny) -> None:
    world = tiny(rounds=5, sites=("North", "South", "West"), quorum=1)
    serve = world.serve("--deadline", "12")
    running = {name: world.join(name, once=False) for name in ("North", "South", "West")}
    world.until(world.round(1), 180, "the first round")
    running["South"].kill()  # and it never comes back
    frozen = child(running["West"], "client.agent")
    os.kill(frozen, signal.SIGSTOP)
    world.until(world.round(2), 180, "a round without them")
    os.kill(frozen, signal.SIGCONT)
    assert serve.wait(300) == 1
    result = world.result()
    sites = {site["name"]: site for site in result["sites"]}
    assert not result["complete"]
    assert sites["North"]["rounds_contributed"] == 5
    assert set(sites["South"]["rounds_left_out"].values()) == {"it did not reply"}
    assert "2" in sites["West"]["rounds_left_out"]
    assert sites["West"]["rounds_contributed"] >= 2  # it was frozen for a round, and is back for one of three
    assert "Not complete: 5 of 5 rounds were run; left out: South in" in serve.text()
    assert [event.round for event in world.events("North")] == [1, 2, 3, 4, 5]
    charged = [event.round for event in world.events("West")]
    assert charged == sorted(set(charged))  # what it was frozen in is answered late or not at all, and never charged twice
