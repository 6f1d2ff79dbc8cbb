"""A simulated federation with an audit site: the prompt is that of the hospitals alone, and the site's canaries can be opened."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from audits.canary_audit import audit_folder
from client.mystery import MysterySource
from client.round import Pool
from server.strategy import RoundSeen
from shared.canaries import card_lines, new_canaries
from shared.card import Task
from shared.errors import InputError
from shared.privacy.planned import epsilon_of_plan, mechanism_of
from shared.privacy.source import SimulationSource
from shared.prompt import Array
from shared.scoring import Scorer
from simulations import batched, federation
from simulations.federation import Federation, Stopwatch, prepare, run_seed
from simulations.options import Changes, Options, varied
from simulations.pools import together
from simulations.schedule import Schedule
from simulations.study import SitePatients, Study
from tests.conftest import make_cohort
from tests.shared.test_canaries import audited

NO_STUDY = Study([], None, ["North", "South"], "table.csv")  # type: ignore[arg-type]


def test_the_prompt_is_that_of_the_hospitals_alone(
    task: Task, scorer: Scorer, prompt: Array, patients: Pool, tmp_path: Path
) -> None:
    file = tmp_path / "watch.canaries"
    canaries = new_canaries(task.card, "Watch", (4, 16), 64, 2, file)
    card, pools = audited(task, card_lines(canaries)), {"North": patients, "South": patients}
    without = Federation(task, mechanism_of(task.card), epsilon_of_plan(task.card), scorer, prompt, pools, {})
    mine, spent = run_seed(replace(without, task=card, canaries=canaries), 0, tmp_path / "with", Stopwatch(), lambda _: None)
    other, _ = run_seed(without, 0, tmp_path / "without", Stopwatch(), lambda _: None)
    assert mine.tobytes() == other.tobytes()
    assert spent["Watch"].releases == 6
    with np.load(tmp_path / "with/transcript/seed0/round-00001.npz") as data:
        assert "update/Watch" in data.files
    [section] = audit_folder(card, tmp_path / "with", ("seed0",), file)
    assert section.passed, section.findings


def test_the_batched_engine_lets_the_audit_site_answer_as_in_process(
    task: Task, scorer: Scorer, prompt: Array, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(federation, "MysterySource", lambda canaries: MysterySource(canaries, SimulationSource(7)))  # to compare
    file = tmp_path / "watch.canaries"
    canaries = new_canaries(task.card, "Watch", (4, 16), 64, 2, file)
    card = audited(task, card_lines(canaries), more="\nquorum = 1")
    sites = {name: SitePatients(make_cohort(task, 20, n, 2), make_cohort(task, 5, n)) for n, name in enumerate(("North", "South"))}
    schedule = Schedule(stragglers=0.2)
    seen: dict[str, list[RoundSeen]] = {"one": [], "other": []}
    one = prepare(card, sites, True, canaries, schedule)
    expected, paid = run_seed(one, 1, tmp_path / "one", Stopwatch(), seen["one"].append)
    other = prepare(card, sites, True, canaries, schedule, together)

    def stop(found: RoundSeen) -> None:
        if found.state.round == 3:
            raise KeyboardInterrupt
        seen["other"].append(found)

    with pytest.raises(KeyboardInterrupt):
        batched.run_seed(other, 1, tmp_path / "other", Stopwatch(), stop)
    found, spent = batched.run_seed(other, 1, tmp_path / "other", Stopwatch(), seen["other"].append)
    np.testing.assert_allclose(found, expected, atol=2e-4)
    assert spent == paid
    assert spent["Watch"].releases == 6
    sent = [
        [(dict(r.left_out), r.updates["Watch"].tobytes() if "Watch" in r.updates else None) for r in rs] for rs in seen.values()
    ]
    assert sent[0] == sent[1]
    assert 0 < sum(len(left_out) for left_out, _ in sent[0]) < 18
    [section] = audit_folder(card, tmp_path / "other", ("seed1",), file)
    assert section.passed, section.findings


def test_a_card_with_an_audit_site_needs_its_canaries_and_its_noise(task: Task) -> None:
    card = audited(task, f'[audit]\nsite = "Watch"\ncommitment = "{"0" * 64}"\n')
    with pytest.raises(InputError, match="give its --canaries FILE"):
        prepare(card, {}, private=True)


def test_other_hospitals_keep_the_audit_site_on_the_roster(task: Task) -> None:
    card = audited(task, f'[audit]\nsite = "Watch"\ncommitment = "{"0" * 64}"\n')
    assert varied(card, Changes(), Options(), NO_STUDY) is card
    more = varied(card, Changes(sites=3), Options(partition="iid"), NO_STUDY).card
    assert more.plan.sites == ("site-1", "site-2", "site-3", "Watch")
    assert more.hospitals == ("site-1", "site-2", "site-3")
