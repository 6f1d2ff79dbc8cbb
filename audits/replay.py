"""Layer L1, neighbour replay: the same step on patients and on the same patients with one more, under equal randomness.

Recorded streams give both runs the same coins and the same noise, so the difference of what they send is the difference of the
clipped sums, in whole grid steps exactly: nothing statistical is left (Re:cord-play, arXiv 2602.17454). Most cases use known
gradients, with which a right step is exact; some use the card's own model, whose floating point may move other patients'
gradients by a last digit when the batch changes.

With several local steps, the learning rate of the local move is set to 0 here: else one patient moves what all others send in the
next step, which composition allows and replay cannot tell from a bug. `audits.residual` looks at the local move.
"""

import secrets
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from audits.neighbours import Case, cases, coins
from audits.recorded import DRAW, Asked, Purpose, Recorded, first, last
from audits.section import Section, Table, Verdict, section_of
from audits.subject import SITE, Subject
from client.round import LocalPlan, Pool
from shared.privacy.clip import STEPS
from shared.privacy.mechanism import Update
from shared.scoring import Scorer

TITLE = "Can one patient move an update by more than the clip norm?"
RUN = "replay"
LOOSE = 1e-5  # what floating point may add to the clip norm, relative; privacy.md §4.8
FLOAT_PATH = 1e-3  # the same where what leaves is float32: its last digits hold noise of several clip norms
COMPANY = 1e-3  # how far the card's model may move other patients' gradients through padding and batching, in clip norms


@dataclass(frozen=True)
class Sent:
    """What one run of the step showed: the update, or the error's kind; and the streams that it asked for."""

    update: Update | None
    asked: tuple[Asked, ...]
    error: str = ""

    @property
    def facts(self) -> tuple[object, ...]:
        """What may not depend on a patient. Only a draw may take more words when there are more patients."""
        words = tuple((a.purpose, None if a.purpose[0] == DRAW else tuple(a.words)) for a in self.asked)
        shape = None if self.update is None else (self.update.shape, self.update.dtype.str)
        return (self.error, shape, words)


@dataclass(frozen=True)
class Outcome:
    """One case in one round: `moved` and `company` are in clip norms; NaN where a step gave no update of the card's shape."""

    case: str
    same_facts: bool
    error: str
    moved: float
    company: float
    allowed: float
    allowed_company: float

    @property
    def bounded(self) -> bool:
        """Whether the patient moved the update by at most the clip norm."""
        return self.moved <= self.allowed

    @property
    def alone(self) -> bool:
        """Whether nobody else's contribution changed."""
        return self.company <= self.allowed_company


def replay(subject: Subject) -> Section:
    """Replay the subject's step on neighbouring made-up patients, made up anew every time."""
    seed = secrets.randbelow(2**31)
    outcomes = [outcome for case in cases(subject, seed) for outcome in _outcomes(subject, case, seed)]
    verdicts = [*_of_outcomes(outcomes), _repeatable(subject, seed), _own_streams(subject, seed)]
    rows = [(o.case, "yes" if o.same_facts else "no", f"{o.moved:.6f}", f"{o.company:.2g}", o.error or "–") for o in outcomes]
    columns = ("last patient", "public facts equal", "moved (clip norms)", "others moved", "error")
    return section_of(
        TITLE,
        verdicts,
        tables=(Table("What the last patient changes, under equal randomness", columns, rows),),
        facts={"seed": seed, "cases": [vars(o) for o in outcomes]},
    )


def _outcomes(subject: Subject, case: Case, seed: int) -> Iterator[Outcome]:
    """Replay a case in each of its rounds; what the last patient adds by itself, without company, is the same in all."""
    plan = replace(subject.plan, mechanism=replace(subject.mechanism, sample_rate=case.rate), learning_rate=0.0)
    surely = replace(plan, mechanism=replace(plan.mechanism, sample_rate=1.0), steps=1)
    nobody, alone, others = first(case.pool, 0), last(case.pool), first(case.pool, case.pool.patients - 1)
    one, none = (_sent(subject, patients, surely, case.scorer, _purpose(0), seed) for patients in (alone, nobody))
    for round_ in case.rounds:
        more, less = (_sent(subject, patients, plan, case.scorer, _purpose(round_), seed) for patients in (case.pool, others))
        yield _compared(subject, case, plan.steps, (more, less), (one, none))


def _compared(subject: Subject, case: Case, steps: int, company: tuple[Sent, Sent], alone: tuple[Sent, Sent]) -> Outcome:
    moved, own = _difference(subject, *company), _difference(subject, *alone)
    loose, loose_company = _loose(subject, case)
    return Outcome(
        case.name,
        all(more.facts == less.facts for more, less in (company, alone)),
        next((sent.error for sent in (*company, *alone) if sent.error), ""),
        float(np.linalg.norm(moved)),
        min(float(np.linalg.norm(moved - times * own)) for times in range(steps + 1)),
        steps * (1 + loose),
        steps * loose_company,
    )


def _loose(subject: Subject, case: Case) -> tuple[float, float]:
    """Return what arithmetic may add to the clip norm, and to the others' contribution."""
    if not subject.mechanism.exact:
        return FLOAT_PATH, FLOAT_PATH
    return (LOOSE, COMPANY) if case.scorer is subject.scorer else (0.0, 0.0)


def _sent(subject: Subject, patients: Pool, plan: LocalPlan, scorer: Scorer, purpose: Purpose, seed: int) -> Sent:
    source = Recorded(seed)
    try:
        update = subject.step(patients, subject.prompts[0], plan, scorer, source, *purpose)
    except Exception as error:  # an error that depends on a patient is a signal, whatever it is
        return Sent(None, tuple(source.asked), type(error).__name__)
    return Sent(update, tuple(source.asked))


def _difference(subject: Subject, more: Sent, less: Sent) -> NDArray[np.float64]:
    """Return the difference of two updates in clip norms (P+L, D); whole grid steps below 2^53 stay exact."""
    shape = subject.scorer.shape.shape
    if more.update is None or less.update is None or {more.update.shape, less.update.shape} != {shape}:
        return np.full(shape, np.nan)
    unit = STEPS if subject.mechanism.exact else subject.mechanism.clip_norm
    return (more.update.astype(np.float64) - less.update.astype(np.float64)) / unit


def _purpose(round_: int, site: str = SITE) -> Purpose:
    return (RUN, site, round_)


def _of_outcomes(outcomes: Sequence[Outcome]) -> list[Verdict]:
    furthest = max(outcomes, key=lambda o: o.moved if np.isfinite(o.moved) else np.inf)
    mixed = max(outcomes, key=lambda o: o.company - o.allowed_company if np.isfinite(o.company) else np.inf)
    unequal = [o.case for o in outcomes if not o.same_facts]
    failed = sorted({f"{o.error} ({o.case})" for o in outcomes if o.error})
    made_up_only = "The cases are made up; a right answer on all of them is no proof for others."
    return [
        Verdict(
            "L1",
            "One patient moves an update by at most the clip norm",
            f"at most {furthest.moved:.6f} clip norms in {len(outcomes)} replays ({furthest.case})",
            f"{furthest.allowed:.6g} clip norms",
            all(o.bounded for o in outcomes),
            made_up_only,
        ),
        Verdict(
            "L1",
            "One patient more changes nobody else's contribution",
            f"at most {mixed.company:.2g} clip norms ({mixed.case})",
            f"{mixed.allowed_company:.2g} clip norms",
            all(o.alone for o in outcomes),
            made_up_only,
        ),
        Verdict(
            "L1",
            "Shape, dtype and streams do not depend on a patient",
            "equal in all replays" if not unequal else f"different: {unequal[0]}",
            "equal",
            not unequal,
            made_up_only,
        ),
        Verdict(
            "L1",
            "The step answers whatever the patients are",
            "it always does" if not failed else f"an error: {failed[0]}",
            "no error",
            not failed,
            "An error leaves as one fixed code, but that it came would tell.",
        ),
    ]


def _repeatable(subject: Subject, seed: int) -> Verdict:
    """All randomness comes from the given streams, and nothing is left over from one call for the next."""
    case = next(coins(subject))
    some = [_sent(subject, case.pool, subject.plan, case.scorer, _purpose(round_), seed).update for round_ in (1, 2, 1)]
    same = some[0] is not None and some[2] is not None and np.array_equal(some[0], some[2])
    return Verdict(
        "L1",
        "The same streams give the same update, also after another round",
        "the same bytes" if same else "other bytes",
        "the same bytes",
        same,
        "Whether the streams of a real hospital are secret is not seen here.",
    )


def _own_streams(subject: Subject, seed: int) -> Verdict:
    """Every round, site and local step has a draw and noise of its own."""
    case = next(coins(subject))
    plan = replace(subject.plan, steps=2)
    names = [_purpose(1), _purpose(2), _purpose(1, "Other")]
    asked = [a.purpose for name in names for a in _sent(subject, case.pool, plan, case.scorer, name, seed).asked]
    wanted = 2 * 2 * len(names)
    return Verdict(
        "L1",
        "Every round, site and local step asks for a draw and noise of its own",
        f"{len(set(asked))} different streams in {len(asked)} requests",
        f"{wanted} and {wanted}",
        len(asked) == len(set(asked)) == wanted,
        "A stream that a step keeps beside the given source is not seen here.",
    )
