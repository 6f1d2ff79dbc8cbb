"""L4: is the claimed epsilon true? Canaries in one run, of a shadow run on this machine or of a real run's audit site.

`shadow` is always possible: the installed step answers for a mystery site against what the run broadcast; nothing of it reaches
the released prompt. `audit_site` takes what a real audit site sent, after its canary file was held against the card's commitment.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from audits.alarm import ALPHA, EProcess, alarmed, next_step
from audits.canary_evidence import ABSENT, STRICT, Evidence, Row, evidence_of
from audits.canary_site import Watched, shadow_run, updates_of, watched
from audits.data_canaries import data_canaries
from audits.section import Curve, Mark, Section, Table, Verdict, section_of
from audits.subject import SITE, Subject
from shared.canaries import Canaries, drawn_canaries, read_canaries, require_bound
from shared.card import Task
from shared.privacy.mechanism import Update

CANARIES, SEGMENTS = 2000, 5
TITLE = "Do canaries show more than the claimed epsilon?"
OF_THE_RUN = "Do the audit site's canaries show more than the claimed epsilon ({run})?"
LOW = "a low measured epsilon proves nothing"
CAVEATS = (
    f"The bounds hold with 95 % confidence each, the verdicts with {100 * (1 - STRICT):g} % together; {LOW}.",
    "Canaries of a site see that site's own step, noise and way to the coordinator. They do not see another hospital's noise, and "
    "not draws: who is drawn follows from the canary file. The sampler's own test is another one.",
    "A step that knew canaries by sight could treat them better than patients. Reading the code speaks against that.",
)


def shadow(subject: Subject, canaries: int = CANARIES, segments: int = SEGMENTS, data: int = 64) -> Section:
    """Return what canaries show of the installed step, in a shadow run with coins and draws from the system.

    Args:
        subject: the task, its step and what was broadcast.
        canaries: at most this many, and at most one a coordinate.
        segments: at most one a round.
        data: made-up patients as data canaries beside them; 0 for none.
    """
    card, shape = subject.task.card, subject.scorer.shape.shape
    count = min(canaries, shape[0] * shape[1])
    drawn = drawn_canaries(card, SITE, shape, count, min(segments, card.plan.rounds))
    place = watched(subject.task, drawn, "shadow")
    beside = [data_canaries(subject, place, data)] if data else []
    return _section(place, shadow_run(subject, place), beside, {"kind": "shadow run on the auditor's machine"})


def audit_site(task: Task, canaries: Canaries, run: str, updates: Mapping[int, Update]) -> Section:
    """Return what the audit site of a real run shows.

    Args:
        task: the card, whose table [audit] commits to these canaries.
        canaries: opened by this: the section's facts hold the whole file, from which everybody can recompute coins and draws.
        run: the run's name.
        updates: what the site sent, round -> array (P+L, D); rounds in which it did not count are absent.

    Raises:
        InputError: the card does not commit to these canaries.
    """
    require_bound(canaries, task.card, "the canary file")
    opening = {"opening": canaries.table.model_dump(by_alias=True), "commitment": canaries.commitment}
    return _section(watched(task, canaries, run), updates, [], {"kind": "audit site of the run", "run": run} | opening)


def audit_folder(task: Task, folder: Path, runs: tuple[str, ...], file: Path) -> list[Section]:
    """Return `audit_site` of every run in a run directory; raise `InputError` naming the file that does not fit."""
    canaries = read_canaries(file)
    require_bound(canaries, task.card, str(file))
    return [audit_site(task, canaries, run, updates_of(folder, run, canaries.table.site)) for run in runs]


def _title(facts: Mapping[str, Any]) -> str:
    """Return a title that no other section of the report has: a run may have several, one a seed."""
    return OF_THE_RUN.format(run=facts["run"]) if "run" in facts else TITLE


def _section(place: Watched, updates: Mapping[int, Update], beside: list[Row], facts: dict[str, Any]) -> Section:
    if not updates:
        nothing = Verdict("L4", "The audit site's updates keep the claim", "no update of it", "one at least", None, LOW)
        return section_of(_title(facts), [nothing], caveats=CAVEATS, facts=facts)
    found, process = evidence_of(place, updates), EProcess.start()
    course = []
    for number in sorted(updates):
        process = next_step(process, updates[number], place.clean(number), place.mechanism, place.plan.steps)
        course.append((number, process.log_e))
    numbers = {"estimators": [row.facts for row in found.rows + beside], "log_e": course, "energy": _energy(place)}
    return section_of(
        _title(facts),
        [_there(found), _per_step(found), _one_run([*found.rows, *beside], place), _alarm(process, course, place)],
        tables=(_table(found.rows + beside, place), _energies(place)),
        marks=(_mark(found, place),),
        curves=(_curve(found),),
        caveats=CAVEATS,
        facts=facts | numbers | {"rounds": sorted(updates), "canaries": place.canaries.count},
    )


def _there(found: Evidence) -> Verdict:
    gap, p_value = found.gap
    return Verdict(
        "L4",
        "The canaries were in the updates as their file says",
        f"a drawn canary moved the sum by {gap:.3f} clip norms",
        f"1; fails where chance makes it so small with probability under {ABSENT:g}",
        p_value >= ABSENT,
        "Without it all other verdicts would be empty: a site that sends noise alone looks private.",
    )


def _per_step(found: Evidence) -> Verdict:
    steps = [row for row in found.rows if row.per_step]
    return Verdict(
        "L4",
        "A step shows no more of a canary than the card claims",
        f"epsilon of the whole run at least {max(row.bound for row in steps):.3f}",
        f"claimed {steps[0].claim:.3f} at delta {found.delta:g}",
        not any(row.refuted for row in steps),
        f"Consistent means that no bound is above the claim; {LOW}.",
    )


def _one_run(every: list[Row], place: Watched) -> Verdict:
    rows = [row for row in every if not row.per_step]
    whole = next(row for row in rows if row.composed)
    return Verdict(
        "L4",
        f"Who only sees the updates cannot tell better than claimed which canaries were there in {place.length} rounds",
        f"epsilon of the whole run at least {whole.bound:.3f} (f-DP in one run)",
        f"claimed {whole.claim:.3f} at delta {place.claim.delta:g}",
        not any(row.refuted for row in rows),
        f"One-run bounds reach half to two thirds of the truth; {LOW}.",
    )


def _alarm(process: EProcess, course: list[tuple[int, float]], place: Watched) -> Verdict:
    highest = max(value for _, value in course)
    rung = highest >= -np.log(ALPHA)
    return Verdict(
        "L4",
        "Round by round the audit site's noise is as claimed",
        alarmed(process, place, ALPHA) if rung else f"E at most {np.exp(highest):.3g}",
        f"alarm at E = {1 / ALPHA:g}",
        not rung,
        "It knows the sum before noise at this one site, and nothing of the others.",
    )


def _table(rows: list[Row], place: Watched) -> Table:
    told = [
        [row.name, row.seen, f"{row.claim:.3f}", f"{row.bound:.3f}", f"{100 * row.bound / row.claim:.0f} %", row.word]
        for row in rows
    ]
    caption = (
        f"Lower bounds on epsilon (unit: patient; add or remove one; delta {place.claim.delta:g}; accountant: PLD; each at 95 %). "
        f"A bound of a segment stands against the claim of {place.length} rounds."
    )
    return Table(caption, ("estimator", "seen", "claimed", "at least", "share", ""), told)


def _energy(place: Watched) -> dict[str, float]:
    """Return the canaries' energy as a share of the noise's: in the prompt, at the site, and were the site summed."""
    return {"in_prompt": 0.0, "in_own_update": place.energy, "if_summed": place.energy / (len(place.task.card.hospitals) + 1)}


def _energies(place: Watched) -> Table:
    energy = _energy(place)
    rows = [
        ["in the released prompt, whose sum leaves the site out", f"{100 * energy['in_prompt']:.2f} %"],
        ["in the site's own update: m q / (2 sigma² d) for one step", f"{100 * energy['in_own_update']:.2f} %"],
        ["in the sum, were the site summed with the hospitals", f"{100 * energy['if_summed']:.2f} %"],
    ]
    return Table("What canaries cost: their expected energy as a share of the noise's.", ("where", "share"), rows)


def _mark(found: Evidence, place: Watched) -> Mark:
    measured, low, high = found.accuracy
    return Mark(f"Was a given canary there in {place.length} rounds?", 0.5, measured, low, high, found.ceiling, found.control)


def _curve(found: Evidence) -> Curve:
    fpr, tpr, ceiling = found.roc
    return Curve("Canaries of one segment", tuple(fpr.tolist()), tuple(tpr.tolist()), tuple(ceiling.tolist()))
