"""The auditor audited: every layer on a right hospital and on every bug of `audits.bugs`; which layer found which.

A layer is a name and an entry that takes a `Subject` and returns a `Section`; another layer is another line of `LAYERS`.
"""

import contextlib
import io
import logging
import multiprocessing
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch

from audits.bugs import BUGS, Bug
from audits.conduct import conduct
from audits.inclusion import inclusion
from audits.replay import replay
from audits.residual import residual
from audits.section import Section
from audits.subject import Subject
from shared.card import Task
from shared.scoring import build


@dataclass(frozen=True)
class Layer:
    """One audit as the self-test runs it.

    Attributes:
        name: in the matrix.
        entry: the audit; on a bug it may leave out what no verdict needs.
        whole: the audit with everything that it measures.
        site: whether it opens a hospital; else it sees the private step alone, and a bug around the step is not its business.
    """

    name: str
    entry: Callable[[Subject], Section]
    whole: Callable[[Subject], Section]
    site: bool = False


LAYERS = (
    Layer("L0 conduct", conduct, conduct, site=True),
    Layer("L1 replay", replay, replay),
    Layer("L2 noise", partial(residual, proven=False), residual),
    Layer("L2 draw", inclusion, inclusion),
)


@dataclass(frozen=True)
class Row:
    """What each layer said of one bug: layer -> the claims that it refuted; a layer that does not see it is absent."""

    what: str
    pitfall: int
    severity: str
    refuted: dict[str, list[str]]

    @property
    def found(self) -> bool:
        """Whether some layer refuted some claim."""
        return any(self.refuted.values())


@dataclass(frozen=True)
class Clean:
    """Every layer once on a right hospital: layer -> refuted claims, all false alarms; epsilon's lower bound over the claim."""

    refuted: dict[str, list[str]]
    ratio: float


@dataclass(frozen=True)
class SelfTest:
    """The outcome: the matrix, and what was said of right hospitals."""

    rows: tuple[Row, ...]
    clean: tuple[Clean, ...]

    @property
    def missed(self) -> list[str]:
        """Bugs that no layer found."""
        return [row.what for row in self.rows if not row.found]

    @property
    def alarms(self) -> list[str]:
        """Every false alarm: layer and claim."""
        return [f"{layer}: {claim}" for run in self.clean for layer, claims in run.refuted.items() for claim in claims]

    @property
    def passed(self) -> bool:
        """Whether every bug was found, and of right hospitals, however often, at most one in twenty was accused.

        A single one must not be accused at all.
        """
        accused = sum(any(run.refuted.values()) for run in self.clean)
        return not self.missed and accused <= len(self.clean) // 20


def self_test(task: Task, runs: int = 1, processes: int = 1, bugs: Sequence[int] | None = None) -> SelfTest:
    """Run the layers on bugs, given by their numbers in `BUGS` (default: all), and `runs` times on the right hospital.

    With one process everything happens here; with more, each loads the backbone for itself.
    """
    jobs: list[int | None] = [*(range(len(BUGS)) if bugs is None else bugs), *[None] * runs]
    if processes == 1:
        subject = subject_of(task)
        found = [_examined(subject, job) for job in jobs]
    else:
        context = multiprocessing.get_context("spawn")  # a fork would inherit torch's threads
        with ProcessPoolExecutor(processes, context, _load, (task,)) as pool:
            found = list(pool.map(_examined_there, jobs))
    return SelfTest(tuple(f for f in found if isinstance(f, Row)), tuple(f for f in found if isinstance(f, Clean)))


def subject_of(task: Task) -> Subject:
    """Return the code as installed, on the card's backbone, with the initial prompt."""
    scorer, prompt = build(task.card)
    return Subject(task, scorer, (prompt,))


def examine(subject: Subject, bug: Bug, layers: Sequence[Layer] = LAYERS) -> Row:
    """Run those layers on a bug that can see it."""
    buggy = bug.put(subject)
    refuted = {layer.name: _refuted(layer.entry, buggy) for layer in layers if layer.site or bug.step}
    return Row(bug.what, bug.pitfall, bug.severity, refuted)


def accuse(subject: Subject, layers: Sequence[Layer] = LAYERS) -> Clean:
    """Run every layer on a right hospital."""
    ratios: list[float] = []

    def whole(layer: Layer, subject: Subject) -> Section:
        section = layer.whole(subject)
        facts = section.facts or {}
        ratios.extend([facts["proven"] / facts["claimed"]] if facts.get("proven") else [])
        return section

    refuted = {layer.name: _refuted(partial(whole, layer), subject) for layer in layers}
    return Clean(refuted, max(ratios, default=float("nan")))


def _refuted(entry: Callable[[Subject], Section], subject: Subject) -> list[str]:
    with _quiet():
        try:
            section = entry(subject)
        except Exception as error:  # a step that ends an audit is convicted; of a right one, that is a false alarm
            return [f"the audit ended with {type(error).__name__}"]
    return [verdict.claim for verdict in section.verdicts if verdict.holds is False]


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep what a bug prints or logs off the screen."""
    handlers, logging.root.handlers = logging.root.handlers, [logging.NullHandler()]
    try:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            yield
    finally:
        logging.root.handlers = handlers


_SUBJECT: list[Subject] = []  # a worker's own


def _load(task: Task) -> None:
    torch.set_num_threads(1)
    _SUBJECT.append(subject_of(task))


def _examined_there(job: int | None) -> Row | Clean:
    return _examined(_SUBJECT[0], job)


def _examined(subject: Subject, job: int | None) -> Row | Clean:
    return accuse(subject) if job is None else examine(subject, BUGS[job])


def as_facts(found: SelfTest, task: Task) -> dict[str, Any]:
    """Return what `--json` prints and `self-test.json` holds."""
    ratios = [run.ratio for run in found.clean]
    return {
        "schema": 1,
        "task": task.card.name,
        "task_digest": task.digest,
        "passed": found.passed,
        "layers": [layer.name for layer in LAYERS],
        "bugs": [{**vars(row), "found": row.found} for row in found.rows],
        "missed": found.missed,
        "clean": {
            "runs": len(found.clean),
            "accused": sum(any(run.refuted.values()) for run in found.clean),
            "alarms": dict(Counter(found.alarms)),
            "residual_ratio": {"median": float(np.median(ratios)), "over_the_claim": int(sum(r > 1 for r in ratios))},
        },
    }
