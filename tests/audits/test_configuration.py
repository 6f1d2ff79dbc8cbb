"""L0 and L3 on a run's files: what is right is left alone, and each wrong thing fails the claim that it breaks."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from audits import configuration, recount
from audits.agreement import Agreement, compare
from audits.coordinator import RunArrays, RunFiles, read_arrays, read_run
from audits.evidence import gather
from audits.section import Section
from shared.card import Task
from shared.privacy.mechanism import Update
from tests.books import Files

Changed = Callable[[str, int, Update], Update]


@pytest.fixture(scope="module")
def run(played: Files) -> RunFiles:
    return read_run(played.run)


@pytest.fixture(scope="module")
def arrays(played: Files) -> dict[str, RunArrays]:
    return read_arrays(played.run)


@pytest.fixture(scope="module")
def agreement(run: RunFiles, played: Files) -> Agreement:
    return compare(run, gather(run, [played.site("North"), played.site("South")], []))


def changed(arrays: dict[str, RunArrays], change: Changed) -> dict[str, RunArrays]:
    return {
        name: replace(one, updates={site: {n: change(site, n, u) for n, u in some.items()} for site, some in one.updates.items()})
        for name, one in arrays.items()
    }


def failed(section: Section) -> set[str]:
    assert section.passed == (not section.findings)
    return {verdict.claim for verdict in section.verdicts if verdict.holds is False}


def test_an_honest_run_is_what_its_card_declares(run: RunFiles, arrays: dict[str, RunArrays]) -> None:
    assert not failed(configuration.audit(run, arrays))


@pytest.mark.parametrize(
    ("change", "claim"),
    [
        (lambda _s, _n, u: u.astype(np.int64), "Only the declared tensor"),
        (lambda s, _n, u: u[:-1] if s == "North" else u, "Only the declared tensor"),
        (lambda s, n, u: (u // 64) * 64 if (s, n) == ("North", 2) else u, "Every value is on"),
        (lambda s, n, u: np.full_like(u, np.iinfo(np.int32).max) if (s, n) == ("North", 2) else u, "Every value is on"),
        (lambda _s, n, u: (u * 0.5).astype(np.int32), "No payload has less energy"),
        (lambda s, n, u: np.zeros_like(u) + 1 if (s, n) == ("South", 3) else u, "No payload has less energy"),
    ],
    ids=["wider", "smaller", "coarse", "saturated", "half the noise", "one without noise"],
)
def test_a_payload_that_is_not_as_declared_fails_its_claim(
    run: RunFiles, arrays: dict[str, RunArrays], change: Changed, claim: str
) -> None:
    assert any(found.startswith(claim) for found in failed(configuration.audit(run, changed(arrays, change))))


def test_noise_that_two_payloads_share_fails_its_claim(run: RunFiles, arrays: dict[str, RunArrays]) -> None:
    first = arrays[run.runs[0]].updates["North"][1]
    twice = changed(arrays, lambda s, n, u: first if (s, n) == ("South", 4) else u)
    assert {claim.split()[1] for claim in failed(configuration.audit(run, twice))} == {"payload", "two"}
    nearly = changed(arrays, lambda s, n, u: first + 3 if (s, n) == ("South", 4) else u)
    assert failed(configuration.audit(run, nearly)) == {"No two payloads have their noise in common"}


def test_a_delta_of_one_patient_in_ten_fails_its_claim(run: RunFiles, arrays: dict[str, RunArrays]) -> None:
    card = run.task.card
    crowded = card.model_copy(update={"plan": card.plan.model_copy(update={"patients_per_round": 1e5})})
    found = configuration.audit(replace(run, task=replace(run.task, card=crowded)), arrays)
    assert failed(found) == {"Delta is smaller than one over the patients of a site"}


def test_epsilon_is_recounted_from_the_payloads(run: RunFiles, arrays: dict[str, RunArrays], agreement: Agreement) -> None:
    section = recount.audit(run, arrays, agreement)
    assert not failed(section)
    assert section.facts is not None
    assert section.facts["recounted"] == {site["name"]: pytest.approx(site["epsilon"]) for site in run.result["sites"]}
    assert [row[0] for row in section.tables[1].rows] == ["1", "2", "3", "4", "5", "6"]


def test_too_little_published_and_too_little_charged_fail(
    run: RunFiles, arrays: dict[str, RunArrays], agreement: Agreement
) -> None:
    half = [site | {"epsilon": site["epsilon"] / 2} for site in run.result["sites"]]
    published = recount.audit(replace(run, result={**run.result, "sites": half}), arrays, agreement)
    assert failed(published) == {"The published epsilon is not below what the payloads cost"}
    assert "North, South" in published.findings[0]
    cheap = replace(agreement, accounts=tuple(replace(a, charged=(a.charged or 0) / 2) for a in agreement.accounts))
    assert failed(recount.audit(run, arrays, cheap)) == {"No ledger charged less than what arrived from its hospital"}


def test_an_audit_sites_epsilon_is_published_beside_the_hospitals(
    run: RunFiles, arrays: dict[str, RunArrays], agreement: Agreement
) -> None:
    [north, south] = run.result["sites"]
    beside = replace(run, result={**run.result, "sites": [north], "audit_site": south})
    assert not failed(recount.audit(beside, arrays, agreement))
    low = replace(run, result={**run.result, "sites": [north], "audit_site": south | {"epsilon": 0.1}})
    assert "too little is published for South" in recount.audit(low, arrays, agreement).findings[0]


def test_payloads_of_a_banded_run_with_gaps_are_left_undecided(run: RunFiles, arrays: dict[str, RunArrays]) -> None:
    """Without the rounds before it nothing is known of a payload's own noise: no verdict, and no error."""
    text = run.task.text.replace("sample_rate = 0.5", "sample_rate = 0.25\nbands = 2")
    gaps = {
        name: replace(one, updates={site: {n: u for n, u in some.items() if n == 2} for site, some in one.updates.items()})
        for name, one in arrays.items()
    }
    section = configuration.audit(replace(run, task=Task.parse(text, "card.toml")), gaps)
    [energy] = [verdict for verdict in section.verdicts if "less energy" in verdict.claim]
    assert energy.holds is None
    assert not failed(section)
