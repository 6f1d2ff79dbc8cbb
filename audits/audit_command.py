"""`promptward audit RUN`: audit what was shared, from the files of coordinator and hospitals, and with the installed code."""

import argparse
import json
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich.console import Console

from audits import configuration, recount
from audits.agreement import as_facts, as_section, compare
from audits.alarm import follow
from audits.canary_audit import audit_folder
from audits.coordinator import RunArrays, RunFiles, read_arrays, read_run
from audits.evidence import gather
from audits.installed import installed_sections
from audits.patients import FindPatients, Known, from_site_files
from audits.report import answer, write_report
from audits.section import Section, as_json
from audits.subject import Subject
from shared.errors import InputError
from shared.scoring import build

BANDED = (
    "The card has [privacy] bands: files, books, epsilon and the turns of the installed code were looked at. A hospital's conduct "
    "and the attacks, which are written for rounds with noise of their own, were not."
)
OWN = (
    "The card lets sites take their gradients at prompts of their own, which follow from the transcript. Membership of the run's "
    "own patients was tried there; every other attack was tried on made-up sites at the broadcast prompts."
)


@dataclass
class _Outcome:
    """What the audits found; what was not looked at and why, and who may see the page."""

    sections: list[Section] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict)


def run(args: argparse.Namespace, find_patients: FindPatients) -> int:
    """Run the command; return 0 when every audit passed, 1 when one did not.

    `find_patients` gives the patients of a simulation, which this package knows nothing of.
    """
    if args.self_test:
        from audits.self_test_command import run as self_test  # noqa: PLC0415 (needs no run)

        return self_test(args)
    if args.run is None:
        raise InputError("audit: no run was named; give a run directory, or --self-test.")
    if args.follow:
        if args.canaries is None:
            raise InputError("--follow looks at an audit site; give its canary file with --canaries FILE.")
        return follow(args.run, args.canaries, Console(highlight=False, soft_wrap=True, markup=False).print)
    started, console = time.perf_counter(), Console(stderr=True, highlight=False)
    files, arrays = read_run(args.run), read_arrays(args.run)
    known = from_site_files(args.site_file, files.task)
    agreement = compare(files, gather(files, args.site, args.ledger))
    outcome = _Outcome([as_section(agreement), configuration.audit(files, arrays), recount.audit(files, arrays, agreement)])
    outcome.sections += audit_folder(files.task, files.folder, files.runs, args.canaries) if args.canaries else []
    if args.files_only:
        outcome.notes.append("Only files were looked at (--files-only): the installed code was not put to the test.")
    else:
        if known:
            outcome.notes.append("Membership was tried on real patients, and its figures have no noise: keep this page here.")
        _installed(files, arrays, known or _simulated(find_patients, args.run, outcome), args.thorough, outcome, console)
    facts = _facts(files, outcome) | {"audits": _audits(outcome, as_facts(agreement))}
    facts["seconds"] = {**outcome.seconds, "all": round(time.perf_counter() - started, 1)}
    out: Path = args.out or args.run
    _write(out, outcome, facts, files.task.card.title)
    _say(args.json, facts, outcome, out)
    return 0 if facts["passed"] else 1


def _simulated(find_patients: FindPatients, folder: Path, outcome: _Outcome) -> Mapping[str, Known] | None:
    try:
        return find_patients(folder)
    except InputError as error:
        outcome.notes.append(f"Membership was tried on made-up patients only, because the simulation's cannot be read: {error}")
        return None


def _installed(
    files: RunFiles,
    arrays: Mapping[str, RunArrays],
    known: Mapping[str, Known] | None,
    thorough: bool,
    outcome: _Outcome,
    console: Console,
) -> None:
    """Add what is found by running the installed code; a model that is not here leaves it out, and says so."""
    try:
        scorer, _ = build(files.task.card)
    except InputError as error:
        outcome.notes.append(f"The installed code was not put to the test, because the model cannot be loaded: {error}")
        return
    if files.task.card.plan.personal:
        outcome.notes.append(OWN)
    first = next(iter(arrays.values()))
    subject = Subject(files.task, scorer, first.broadcasts)
    if files.task.card.privacy.bands > 1:
        outcome.notes.append(BANDED)
    for section in _timed(installed_sections(subject, first.updates, known, thorough), outcome, console):
        outcome.sections.append(section)


def _timed(sections: Iterator[Section], outcome: _Outcome, console: Console) -> Iterator[Section]:
    before = time.perf_counter()
    for section in sections:
        now = time.perf_counter()
        outcome.seconds[section.title] = round(now - before, 1)
        console.print(f"{section.title} {section.summary} ({now - before:.1f} s)", soft_wrap=True, markup=False)
        before = now
        yield section


def _facts(files: RunFiles, outcome: _Outcome) -> dict[str, Any]:
    return {
        "schema": 1,
        "task": files.task.card.name,
        "task_digest": files.task.digest,
        "runs": list(files.runs),
        "passed": all(section.passed for section in outcome.sections),
        "answer": answer(outcome.sections),
        "notes": outcome.notes,
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def _audits(outcome: _Outcome, agreement: Mapping[str, Any]) -> dict[str, Any]:
    """Return what each audit found: the agreement in its own form, the others as their sections say it."""
    return {"agreement": agreement} | {section.title: as_json(section) for section in outcome.sections[1:]}


def _write(out: Path, outcome: _Outcome, facts: Mapping[str, Any], title: str) -> None:
    try:
        out.mkdir(parents=True, exist_ok=True)
        (out / "audit.json").write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")
        write_report(outcome.sections, facts, title, out / "audit.html")
    except OSError as error:
        raise InputError(f"{out}: cannot be written ({error.strerror}); name another folder with --out.") from None


def _say(as_text: bool, facts: Mapping[str, Any], outcome: _Outcome, out: Path) -> None:
    if as_text:
        print(json.dumps(facts, indent=2))  # noqa: T201
        return
    console = Console(highlight=False, soft_wrap=True, markup=False)
    for section in outcome.sections:
        console.print(f"{section.title} {section.summary}")
        for finding in section.findings:
            console.print(f"  {finding}")
    for sentence in _sentences(facts):
        console.print(sentence)
    console.print(f"Report: {out / 'audit.html'}")


def _sentences(facts: Mapping[str, Any]) -> Sequence[str]:
    return [*facts["notes"], facts["answer"]]
