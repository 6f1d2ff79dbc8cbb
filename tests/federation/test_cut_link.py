"""The cable between hospitals and coordinator is pulled out in the middle of a run and put back: two networks on one machine."""

import os
import shutil
import subprocess
import time
from collections.abc import Iterator

import pytest

from tests.federation.conftest import Tiny
from tests.federation.test_survive import assert_charged_exactly_once

HERE, THERE = "10.213.7.1", "10.213.7.2"
NAME = f"pw{os.getpid() % 100_000}"
pytestmark = pytest.mark.slow


def ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True)  # noqa: S607


@pytest.fixture
def network() -> Iterator[str]:
    """A network namespace for the hospitals, joined to this one by a pair of virtual cards."""
    if shutil.which("ip") is None or os.geteuid() != 0:
        pytest.skip("needs root and iproute2 to make a network namespace")
    try:
        ip("netns", "add", NAME)
    except subprocess.CalledProcessError as error:
        pytest.skip(f"no network namespace can be made here: {error.stderr.decode().strip()}")
    try:
        ip("link", "add", f"{NAME}a", "type", "veth", "peer", "name", f"{NAME}b", "netns", NAME)
        ip("addr", "add", f"{HERE}/30", "dev", f"{NAME}a")
        ip("link", "set", f"{NAME}a", "up")
        ip("-n", NAME, "addr", "add", f"{THERE}/30", "dev", f"{NAME}b")
        ip("-n", NAME, "link", "set", f"{NAME}b", "up")
        ip("-n", NAME, "link", "set", "lo", "up")
        yield NAME
    finally:
        ip("netns", "del", NAME)


def test_a_run_survives_a_cut_link(tiny: Tiny, network: str) -> None:
    rounds = 6
    world = tiny(rounds, host=HERE, around=("ip", "netns", "exec", network))
    serve = world.serve()
    for name in ("North", "South"):
        world.join(name)
    world.until(world.round(2), 180, "two rounds")
    ip("link", "set", f"{NAME}a", "down")
    time.sleep(8)
    assert not world.round(rounds)()
    ip("link", "set", f"{NAME}a", "up")
    assert serve.wait(180) == 0, serve.text()
    assert_charged_exactly_once(world, rounds)
