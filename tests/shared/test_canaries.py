"""The canary file: bound by its hash, private, and everything in it follows from its secret."""

import hashlib
import re
import tomllib
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from shared.canaries import card_lines, drawn_canaries, new_canaries, read_canaries, require_bound
from shared.card import Task
from shared.errors import InputError


def audited(task: Task, lines: str, sites: str = '["North", "South", "Watch"]', more: str = "") -> Task:
    """Return the tiny card with an audit site."""
    text = task.text.replace('sites = ["North", "South"]', f"sites = {sites}{more}")
    return Task.parse(text + "\n" + lines, "tiny.toml")


def test_the_file_is_private_and_its_hash_is_the_commitment(task: Task, tmp_path: Path) -> None:
    path = tmp_path / "watch.canaries"
    canaries = new_canaries(task.card, "Watch", (4, 16), 40, 3, path)
    assert path.stat().st_mode & 0o777 == 0o600
    assert canaries.commitment == hashlib.sha256(path.read_bytes()).hexdigest()
    assert read_canaries(path) == canaries
    assert tomllib.loads(card_lines(canaries))["audit"] == {"site": "Watch", "commitment": canaries.commitment}
    assert canaries.table.secret not in card_lines(canaries)
    with pytest.raises(InputError, match="not overwritten"):
        new_canaries(task.card, "Watch", (4, 16), 40, 3, path)
    path.chmod(0o644)
    with pytest.raises(InputError, match="chmod 600"):
        read_canaries(path)


def test_coins_are_fair_directions_distinct_and_draws_foretold_by_the_file_alone(task: Task) -> None:
    one, other = (drawn_canaries(task.card, "Watch", (100, 40), 4000, 5) for _ in range(2))
    assert one.coins.shape == (5, 4000)
    for coins in (one.coins.ravel(), one.signs > 0, one.coins[0] == one.coins[1], one.coins.ravel() == other.coins.ravel()):
        assert stats.binomtest(int(coins.sum()), coins.size).pvalue > 1e-4
    assert sorted(one.coordinates) == list(range(4000))
    assert (one.coordinates != other.coordinates).any()
    again = type(one)(one.table, one.commitment)
    assert (again.coins == one.coins).all()
    words = one.stream("draw", "run", "Watch", 1, 0).words(8)
    assert (words == again.stream("draw", "run", "Watch", 1, 0).words(8)).all()
    assert (words != one.stream("draw", "run", "Watch", 2, 0).words(8)).any()
    assert (words != other.stream("draw", "run", "Watch", 1, 0).words(8)).any()


def test_segments_are_equally_long_and_the_rest_belongs_to_the_last(task: Task) -> None:
    canaries = drawn_canaries(task.card, "Watch", (4, 16), 8, 3)
    assert [canaries.segment(n, 11) for n in range(1, 12)] == [0, 0, 0, 1, 1, 1, 2, 2, 2, 2, 2]
    assert (canaries.inside(4, 11) == np.flatnonzero(canaries.coins[1])).all()


@pytest.mark.parametrize(("count", "segments", "said"), [(65, 3, "64 coordinates"), (2, 3, "4 to 64"), (8, 7, "1 to 6")])
def test_what_does_not_fit_is_refused_in_a_sentence(task: Task, tmp_path: Path, count: int, segments: int, said: str) -> None:
    with pytest.raises(InputError, match=said):
        new_canaries(task.card, "Watch", (4, 16), count, segments, tmp_path / "f")
    assert not (tmp_path / "f").exists()


def test_a_changed_file_a_foreign_card_and_a_card_without_audit_are_refused(task: Task, tmp_path: Path) -> None:
    canaries = new_canaries(task.card, "Watch", (4, 16), 8, 3, tmp_path / "f")
    card = audited(task, card_lines(canaries)).card
    require_bound(canaries, card, "f")
    with pytest.raises(InputError, match=re.escape("table [audit] is missing")):
        require_bound(canaries, task.card, "f")
    with pytest.raises(InputError, match="is not the card's"):
        require_bound(drawn_canaries(task.card, "Watch", (4, 16), 8, 3), card, "f")
    other = audited(task, card_lines(canaries).replace("Watch", "North")).card
    with pytest.raises(InputError, match="made for site 'Watch'"):
        require_bound(canaries, other, "f")
    (tmp_path / "f").write_text((tmp_path / "f").read_text().replace("count = 8", "count = 9"))
    with pytest.raises(InputError, match="is not the card's"):
        require_bound(read_canaries(tmp_path / "f"), card, "f")


def test_the_card_counts_hospitals_without_the_audit_site(task: Task) -> None:
    lines = f'[audit]\nsite = "Watch"\ncommitment = "{"0" * 64}"\n'
    card = audited(task, lines).card
    assert card.hospitals == ("North", "South")
    assert card.quorum == 2
    assert task.card.hospitals == task.card.plan.sites
    assert audited(task, lines, more="\nquorum = 1").card.quorum == 1
    with pytest.raises(InputError, match="quorum 3 is outside 1 to 2"):
        audited(task, lines, more="\nquorum = 3")
    with pytest.raises(InputError, match="'Watch' is not on the roster"):
        audited(task, lines, '["North", "South"]')
    with pytest.raises(InputError, match="needs 1 sites beside the audit site and has 0"):
        audited(task, lines, '["Watch"]')
    with pytest.raises(InputError, match="needs 3 sites beside the audit site and has 2"):
        audited(task, lines, more='\naggregation = "median"')
