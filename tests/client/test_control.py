"""SCAFFOLD from noised values, held to the paper's own equations, and what it does when something is gone."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from client.ledger import read_ledger
from client.round import answer, patient_gradients
from shared.card import Task
from shared.errors import InputError
from shared.wire import Request
from simulations.federation import Federation, Stopwatch, books, hospital, prepare, run_seed
from simulations.study import SitePatients
from tests.conftest import card_text, make_cohort

STEPS, RATE, LOCAL, ROUNDS = 3, 0.06, 0.03, 4
EVERYBODY = "sample_rate = 0.5", "sample_rate = 1.0"
DENOMINATOR = 10.0 / 2  # patients_per_round over two hospitals


def controlled(folder: Path, control: str = "scaffold", **more: str) -> Task:
    plan = {"local_steps": STEPS, "local_learning_rate": LOCAL, "optimizer": "'sgd'", "momentum": 0.0, "learning_rate": RATE}
    lines = "\n".join(f"{key} = {value}" for key, value in (plan | {"control": f"'{control}'", "average_last": 0.0} | more).items())
    text = card_text(folder).replace("rounds = 6", f"rounds = {ROUNDS}\n{lines}").replace(*EVERYBODY)
    return Task.parse(text, "controlled.toml")


def federation(task: Task, private: bool = False) -> Federation:
    """Two hospitals as unlike as can be: one has the young, the other the old."""
    sites = {}
    for name, label in (("North", 0), ("South", 1)):
        cohort = make_cohort(task, 40, seed=label)
        mine = [n for n, found in enumerate(cohort.labels) if found == label]
        one = replace(
            cohort,
            texts=tuple(cohort.texts[n] for n in mine),
            labels=tuple(cohort.labels[n] for n in mine),
            patients=tuple(range(len(mine))),
            size=len(mine),
        )
        sites[name] = SitePatients(one, one)
    return prepare(task, sites, private)


def papers(here: Federation) -> torch.Tensor:
    """Karimireddy et al. 2020, algorithm 1 with option II, everybody in every round and no noise: x after all rounds."""
    x = torch.from_numpy(here.initial).double()
    shared, own = torch.zeros_like(x), {name: torch.zeros_like(x) for name in here.pools}
    rate = RATE / (LOCAL * STEPS)  # the paper's global step, of the mean of what hospitals moved
    for _ in range(ROUNDS):
        moved = []
        before = dict(own)
        for name, pool in here.pools.items():
            y = x
            for _ in range(STEPS):
                each = patient_gradients(pool, np.arange(pool.patients), y.float(), here.scorer)
                y = y - LOCAL * (each.double().sum(0) / DENOMINATOR - before[name] + shared)
            own[name] = before[name] - shared + (x - y) / (STEPS * LOCAL)
            moved.append(y - x)
        x = x + rate * torch.stack(moved).mean(0)
        shared = shared + torch.stack([own[name] - before[name] for name in own]).mean(0)
    return x


def trained(here: Federation, out: Path) -> torch.Tensor:
    return torch.from_numpy(run_seed(here, 0, out, Stopwatch(), lambda _: None)[0]).double()


def test_without_noise_it_is_the_papers_algorithm(backbone_folder: Path, tmp_path: Path) -> None:
    here = federation(controlled(backbone_folder))
    expected, found = papers(here), trained(here, tmp_path / "with")
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)
    plain = trained(federation(controlled(backbone_folder, "none")), tmp_path / "without")
    assert (plain - expected).abs().max() > 1e-2  # and the control is what makes it so


def test_it_charges_what_the_same_steps_charge_without_it(backbone_folder: Path, tmp_path: Path) -> None:
    spent = []
    for control in ("scaffold", "none"):
        here = federation(controlled(backbone_folder, control), private=True)
        spent.append(run_seed(here, 0, tmp_path / control, Stopwatch(), lambda _: None)[1]["North"].epsilon)
        events = read_ledger(books(tmp_path / control, 0) / "North/ledger.jsonl")
        assert [event.releases for event in events] == [STEPS] * ROUNDS
    assert spent[0] == spent[1]


@pytest.mark.parametrize("gone", ["payload", "broadcast", "neither"])
def test_a_control_stands_on_paid_payloads_alone(gone: str, backbone_folder: Path, tmp_path: Path) -> None:
    here = federation(controlled(backbone_folder), private=True)
    asked: list[bool] = []

    def step(*given: object) -> object:
        asked.append(given[2].drift is not None)  # type: ignore[attr-defined]
        return answer(*given)  # type: ignore[arg-type]

    home = tmp_path / "again"
    site = hospital(here, "North", 0, home, step)  # type: ignore[arg-type]
    for number in (1, 2):
        kept = {"payload": site.outbox.folder, "broadcast": site.control.broadcasts.folder if site.control else home}
        if number == 2 and gone != "neither":  # what is there is not what was paid for
            np.save(kept[gone] / "r-1.npy", np.load(kept[gone] / "r-1.npy") + 1)
        site.respond(Request(here.task.digest, "r", number, here.initial, ""))
    assert asked == [False, gone == "neither"]


@pytest.mark.parametrize("more", [{"local_steps": "1"}, {"optimizer": "'adam'"}, {"momentum": "0.9"}, {"aggregation": "'median'"}])
def test_a_plan_that_it_does_not_fit_is_refused(more: dict[str, str], backbone_folder: Path) -> None:
    with pytest.raises(InputError, match="control 'scaffold' corrects several local steps"):
        controlled(backbone_folder, **more)
