import re
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import stats

from shared.privacy.source import KeyStream, SecureSource, SimulationSource, uniform

ROOT = Path(__file__).parents[3]


def test_key_stream_is_chacha20() -> None:
    """RFC 8439, A.1, test vector 1: the all-zero key's first block."""
    first = KeyStream(bytes(32)).words(8).astype("<u8").tobytes()
    assert first.hex().startswith("76b8e0ada0f13d90405d6ae55386bd28bdd219b8a08ded1aa836efcc8b770dc7")


def test_a_stream_goes_on_where_it_stopped() -> None:
    whole = KeyStream(bytes(32)).words(100)
    stream = KeyStream(bytes(32))
    assert (np.concatenate([stream.words(1), stream.words(99)]) == whole).all()


def test_no_seed_reaches_the_default_source() -> None:
    found = []
    for _ in range(2):
        torch.manual_seed(42)
        np.random.seed(42)
        found.append(SecureSource().stream("noise", "North", 1).words(4))
    assert not (found[0] == found[1]).any()


def test_simulated_streams_differ_by_seed_and_by_every_part_of_the_purpose() -> None:
    purposes = [
        ("noise", "North", 1),
        ("draw", "North", 1),
        ("noise", "South", 1),
        ("noise", "North", 2),
        ("noise", "North", "1", 0),
    ]
    words = [SimulationSource(seed).stream(*purpose).words(1)[0] for seed in (0, 1) for purpose in purposes]
    assert len(set(words)) == len(words)


def test_uniforms_are_uniform_and_never_zero_or_one() -> None:
    found = uniform(SimulationSource(0).stream("test"), 200_000)
    assert found.min() > 0
    assert found.max() < 1
    assert stats.kstest(found, "uniform").pvalue > 1e-3


@pytest.mark.parametrize("folder", ["shared", "client", "server"])
def test_no_code_of_a_site_uses_a_global_generator(folder: str) -> None:
    forbidden = re.compile(
        r"torch\.normal|torch\.randn\(|np\.random\.(normal|seed|rand)|random\.seed|import random\b|torch\.manual_seed\("
    )
    public = {"shared/prompt.py"}  # initial rows from a public constant
    for path in (ROOT / folder).rglob("*.py"):
        if str(path.relative_to(ROOT)) not in public:
            assert not forbidden.search(path.read_text()), path
