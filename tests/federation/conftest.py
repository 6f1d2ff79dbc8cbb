from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from shared.card import Task
from simulations.loopback import World
from tests.conftest import card_text

DATA = '[data]\npath = "rows.csv"\nlabel = "dx"\nlabels = { neg = "well", pos = "sick" }\npatient = "who"\nsplit = "part"\n'
Tiny = Callable[..., World]


def table(patients: int) -> str:
    rows = [f"p{n},{25 + n},{60 + n},{'pos' if n > 20 else 'neg'},train" for n in range(patients)]
    return "who,age,pulse,dx,part\n" + "\n".join(rows) + "\n"


@pytest.fixture
def tiny(tmp_path: Path, backbone_folder: Path) -> Iterator[Tiny]:
    """Return a function that builds a federation on the tiny task; whatever was started in it ends with the test."""
    worlds: list[World] = []

    def built(rounds: int = 6, sites: tuple[str, ...] = ("North", "South"), quorum: int | None = None, **more: Any) -> World:
        text = card_text(backbone_folder).replace("rounds = 6", f"rounds = {rounds}")
        text = text.replace('sites = ["North", "South"]', f"sites = {list(sites)}".replace("'", '"'))
        if quorum is not None:
            text = text.replace("[template]", f"quorum = {quorum}\n\n[template]")
        world = World(tmp_path / f"world{len(worlds)}", Task.parse(text, "tiny.toml"), **more)
        world.folder.mkdir()
        worlds.append(world.build({name: table(30 + n) for n, name in enumerate(sites)}, DATA))
        return world

    yield built
    for world in worlds:
        world.stop()
