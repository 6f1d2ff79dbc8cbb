from pathlib import Path

import numpy as np
import pytest

from shared.card import Task
from simulations.comparison.split import Split, read_split
from simulations.partition import Scheme
from simulations.study import load_study
from tests.conftest import card_text


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory, backbone_folder: Path) -> Path:
    """A card, a study file and a table of two hospitals, in which some patients have two records."""
    home = tmp_path_factory.mktemp("compare")
    random = np.random.default_rng(0)
    lines = []
    for n, age in enumerate(random.integers(20, 80, 80)):
        for _ in range(1 + n % 2):
            lines.append(
                f"p{n},{'North' if n % 4 < 2 else 'South'},{age},{random.integers(50, 110)},{'pos' if age > 50 else 'neg'}"
            )
    (home / "rows.csv").write_text("who,place,age,pulse,dx\n" + "\n".join(lines) + "\n")
    (home / "study.toml").write_text(
        'schema = 1\n[data]\npath = "rows.csv"\nlabel = "dx"\nlabels = { neg = "well", pos = "sick" }\n'
        'patient = "who"\nsite = "place"\n'
    )
    (home / "card.toml").write_text(card_text(backbone_folder))
    return home


@pytest.fixture(scope="session")
def split(folder: Path) -> Split:
    return read_split(Task.load(str(folder / "card.toml")), load_study(folder / "study.toml", 3), Scheme.parse("natural"), 3)
