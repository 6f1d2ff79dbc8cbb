"""Neighbour replay: the same step on D and on D with one patient more, less, longer, twice or broken."""

from dataclasses import dataclass, field, replace

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from audits.statistics import LEVEL, shared_stream
from client.records import Cohort
from client.round import LocalPlan, Pool, answer, patient_gradients, pool
from shared.card import Task
from shared.privacy.mechanism import Mechanism, decode
from shared.privacy.sampling import poisson
from shared.privacy.source import SimulationSource, Stream, Words
from shared.prompt import Array
from shared.scoring import Scorer
from tests.conftest import make_cohort

EXACT = LocalPlan(Mechanism(1.0, 0.3, 0.5), 1, 0.1, 5.0)
FLOAT = LocalPlan(Mechanism(1.0, 0.3, 0.5, exact=False), 1, 0.1, 5.0)
both_paths = pytest.mark.parametrize("plan", [EXACT, FLOAT], ids=["exact", "float"])


@dataclass(frozen=True)
class Recorder:
    """A source that writes down which streams were asked for, and how many words of noise each gave."""

    asked: list[tuple[object, ...]] = field(default_factory=list)

    def stream(self, *purpose: str | int) -> Stream:
        inner = SimulationSource(0).stream(*purpose)
        asked = self.asked

        class Counting:
            def words(self, count: int) -> Words:
                asked.append((*purpose, count) if purpose[0] == "noise" else purpose)
                return inner.words(count)

        return Counting()


def replay(cohort: Cohort, scorer: Scorer, prompt: Array, plan: LocalPlan) -> tuple[NDArray[np.float64], list[tuple[object, ...]]]:
    recorder = Recorder()
    sent = answer(pool(cohort, scorer), prompt, plan, scorer, recorder, "run1", "North", 1)  # type: ignore[arg-type]
    return decode(sent, plan.mechanism), recorder.asked


def without_last(cohort: Cohort) -> Cohort:
    keep = [n for n, owner in enumerate(cohort.patients) if owner != cohort.size - 1]
    return Cohort(
        tuple(cohort.texts[n] for n in keep),
        tuple(cohort.labels[n] for n in keep),
        tuple(cohort.patients[n] for n in keep),
        cohort.size - 1,
    )


@both_paths
@pytest.mark.parametrize("patients", [1, 2, 25])
def test_one_patient_more_moves_the_update_by_at_most_the_clip_norm(
    task: Task, scorer: Scorer, prompt: Array, patients: int, plan: LocalPlan
) -> None:
    cohort = make_cohort(task, patients, seed=3, records=2)
    with_, asked = replay(cohort, scorer, prompt, plan)
    without, asked_without = replay(without_last(cohort), scorer, prompt, plan)
    assert asked == asked_without  # the same noise calls in number, size and order, an empty site included
    assert 0 < np.linalg.norm(with_ - without) <= 0.3 * (1 + 1e-5)


@both_paths
def test_a_ten_times_longer_record_and_a_duplicate_stay_within_the_clip_norm(
    task: Task, scorer: Scorer, prompt: Array, plan: LocalPlan
) -> None:
    cohort = make_cohort(task, 8, seed=4)
    longer = replace(cohort, texts=(*cohort.texts[:-1], " ".join(["age high pulse fast"] * 7)))
    twice = Cohort((*cohort.texts, cohort.texts[0]), (*cohort.labels, cohort.labels[0]), (*cohort.patients, 8), 9)
    base, _ = replay(without_last(cohort), scorer, prompt, plan)
    assert np.linalg.norm(replay(longer, scorer, prompt, plan)[0] - base) <= 0.3 * (1 + 1e-5)
    whole, _ = replay(cohort, scorer, prompt, plan)
    assert np.linalg.norm(replay(twice, scorer, prompt, plan)[0] - whole) <= 0.3 * (1 + 1e-5)


@both_paths
def test_a_patient_whose_states_are_not_finite_changes_nothing(task: Task, scorer: Scorer, prompt: Array, plan: LocalPlan) -> None:
    cohort = make_cohort(task, 6, seed=5)
    sick = pool(cohort, scorer)
    sick.hidden.states[5] = float("nan")
    found = decode(answer(sick, prompt, plan, scorer, SimulationSource(0), "run1", "North", 1), plan.mechanism)
    base, _ = replay(without_last(cohort), scorer, prompt, plan)
    np.testing.assert_allclose(found, base, atol=1e-6)


def test_a_patients_gradient_is_the_mean_over_its_records(patients: Pool, scorer: Scorer, prompt: Array) -> None:
    given = torch.from_numpy(prompt)
    drawn = np.array([3, 17])
    found = patient_gradients(patients, drawn, given, scorer)
    for row, patient in enumerate(drawn):
        records = patients.records[patient]
        each = scorer.record_gradients(patients.hidden[records], patients.labels[records], given)
        torch.testing.assert_close(found[row], each.mean(0), atol=1e-5, rtol=1e-4)


@both_paths
def test_several_local_steps_release_several_sums(task: Task, scorer: Scorer, prompt: Array, plan: LocalPlan) -> None:
    cohort = make_cohort(task, 6, seed=6)
    _, asked = replay(cohort, scorer, prompt, replace(plan, steps=3))
    assert len(asked) == len(set(asked)) == 6  # a stream of its own for every draw and every noise
    assert sum(purpose[0] == "noise" for purpose in asked) == 3


@both_paths
def test_every_round_and_site_has_its_own_noise(task: Task, scorer: Scorer, prompt: Array, plan: LocalPlan) -> None:
    nobody = pool(without_last(make_cohort(task, 1, seed=0)), scorer)
    names = [("run1", site, round_) for site in ("North", "South") for round_ in range(1, 13)]
    sent = np.stack([answer(nobody, prompt, plan, scorer, SimulationSource(0), *name) for name in names])
    assert shared_stream(sent.reshape(2, 2, -1)[0]) > LEVEL  # the rounds of one site, six after six
    assert shared_stream(sent.reshape(2, -1)) > LEVEL  # the two sites
    assert shared_stream(np.stack([sent[:12], sent[:12]]).reshape(2, -1)) < LEVEL


@both_paths
def test_one_patient_more_changes_nobody_elses_coin(task: Task, scorer: Scorer, prompt: Array, plan: LocalPlan) -> None:
    """The rate is public: where the new patient is not drawn, the update is the same to the last bit."""
    half = replace(plan, mechanism=replace(plan.mechanism, sample_rate=0.5))
    cohort = make_cohort(task, 25, seed=3)
    more, less = pool(cohort, scorer), pool(without_last(cohort), scorer)
    came = set()
    for round_ in range(8):
        source = SimulationSource(0)
        sent = [decode(answer(each, prompt, half, scorer, source, round_), half.mechanism) for each in (more, less)]
        drawn = 24 in poisson(25, 0.5, source.stream("draw", round_, 0))
        assert np.array_equal(*sent) != drawn
        assert np.linalg.norm(sent[0] - sent[1]) <= 0.3 * (1 + 1e-5)
        came.add(drawn)
    assert came == {True, False}


@pytest.mark.parametrize("proximal", [0.0, 0.4])
def test_the_answer_is_the_slow_formula(task: Task, scorer: Scorer, prompt: Array, proximal: float) -> None:
    """Three local steps without noise, written out; with FedProx's pull back to the broadcast prompt and without."""
    plan = LocalPlan(Mechanism(1.0, 0.3, 0.0, exact=False), 3, 0.5, 4.0, proximal)
    cohort = make_cohort(task, 5, seed=7)
    everybody, here, total = pool(cohort, scorer), torch.from_numpy(prompt), torch.zeros(4, 16)
    for _ in range(3):
        each = patient_gradients(everybody, np.arange(5), here, scorer)
        clipped = sum(g * min(1.0, 0.3 / (float(g.norm()) + 1e-6)) for g in each)
        total, here = total + clipped, here - 0.5 * (clipped / 4.0 + proximal * (here - torch.from_numpy(prompt)))
    found = answer(everybody, prompt, plan, scorer, SimulationSource(0), "r")
    np.testing.assert_allclose(found, total.numpy(), atol=1e-5)
