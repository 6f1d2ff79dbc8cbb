"""`promptward predict PROMPT... INPUT`: read the rows of a table, or pictures, with one or several prompts."""

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from client.occlusion import Explanation
from client.patches import PictureExplanation
from client.predict_outcome import Outcome, Wish, outcome_of
from client.predict_report import write_report
from client.prediction import Question
from client.questions import questions_of
from client.site import ImagesTable, load_site
from shared.errors import InputError

SHOWN = 20  # rows of the table on screen
KINDS = (".csv", ".json", ".parquet")


def run(args: argparse.Namespace) -> int:
    """Run the command."""
    if args.out and args.out.suffix.lower() not in KINDS:
        raise InputError(f"{args.out}: predictions are written as {', '.join(KINDS)}; choose one of these endings.")
    if args.why_rows < 1:
        raise InputError(f"--why-rows {args.why_rows}: explain one row or more.")
    questions = _questions(args)
    found = outcome_of(questions, args.input, _wish(args))
    if args.why:
        write_report(found.reasons, len(found.lines) - len(found.broken), args.why)
    _say(Console(stderr=True), questions, found)
    if args.out:
        _write(args.out, found.lines)
    if args.json:
        print(json.dumps(_report(questions, found), indent=2))  # noqa: T201
    elif not args.out:
        Console().print(_shown(found.lines))
    return 0


def _questions(args: argparse.Namespace) -> list[Question]:
    if args.calibrate and args.site and args.site != args.calibrate:
        raise InputError("--site and --calibrate name two sites; give one of them.")
    return questions_of(args.prompts, args.calibrate or args.site, args.library, fit=args.calibrate is not None)


def _wish(args: argparse.Namespace) -> Wish:
    where = args.calibrate or args.site
    table = None if where is None else load_site(where).data
    return Wish(args.id, args.why_rows if args.why else 0, args.skip_broken, table if isinstance(table, ImagesTable) else None)


def _say(console: Console, questions: Sequence[Question], found: Outcome) -> None:
    """Say in one sentence each what a reader of the numbers has to know."""
    for question in questions:
        name = question.reader.name
        if missing := found.missing.get(name):
            console.print(f"{name}: the table has no column {', '.join(missing)}; every row says 'missing' there.", soft_wrap=True)
        if cut := found.cut.get(name):
            said = f"{name}: {cut} rows are longer than this prompt's model reads; some of their words were left out."
            console.print(said, soft_wrap=True)
        if question.temperature == 1.0:
            console.print(f"{name}: probabilities are not calibrated at a site; use --calibrate SITE.", soft_wrap=True)
    for why, names in found.left_out.items():
        told = f"{len(names)} files were not read ({why}): {', '.join(names)}"
        console.print(told, markup=False, highlight=False, soft_wrap=True)


def _report(questions: Sequence[Question], found: Outcome) -> dict[str, Any]:
    prompts = [
        {
            "name": question.reader.name,
            "task": question.reader.task.card.name,
            "task_digest": question.reader.task.digest,
            "prompt_sha256": question.reader.digest,
            "labels": question.reader.labels,
            "temperature": question.temperature,
            "missing_columns": list(found.missing.get(question.reader.name, ())),
            "rows_cut": found.cut.get(question.reader.name, 0),
        }
        for question in questions
    ]
    broken = [{"file": name, "reason": reason} for name, reason in found.broken]
    out = {"schema": 1, "prompts": prompts, "predictions": list(found.lines), "why": [_why(said) for said in found.reasons]}
    return out | {"broken": broken, "left_out": {why: list(names) for why, names in found.left_out.items()}}


def _why(said: Explanation) -> dict[str, Any]:
    pictures = said.heats if isinstance(said, PictureExplanation) else ()
    reasons = [{"field": r.field, "said": r.said, "change": r.change} for r in said.reasons]
    return {
        "row": said.row,
        "prompt": said.prompt,
        "label": said.prediction.label,
        "probability": said.prediction.probability,
        "reasons": reasons,
        "pictures": [
            {"file": heat.file, "changes": heat.changes.tolist(), "evidence": heat.evidence.tolist()} for heat in pictures
        ],
    }


def _write(path: Path, table: Sequence[Mapping[str, Any]]) -> None:
    import pandas as pd  # noqa: PLC0415 (a second to import)

    frame = pd.DataFrame(list(table))
    try:
        if path.suffix.lower() == ".csv":
            frame.to_csv(path, index=False)
        elif path.suffix.lower() == ".parquet":
            frame.to_parquet(path, index=False)
        else:
            path.write_text(json.dumps(list(table), indent=2) + "\n")
    except OSError as error:
        raise InputError(f"{path}: cannot be written ({error.strerror}); mend --out.") from None


def _shown(table: Sequence[Mapping[str, Any]]) -> Table:
    rest = len(table) - SHOWN
    shown = Table(title="Predictions", caption=f"{rest} more rows; use --out or --json" if rest > 0 else None)
    names = list(dict.fromkeys(name for line in table for name in line))
    for name in names:
        shown.add_column(name)
    for line in table[:SHOWN]:
        shown.add_row(*(_cell(line.get(name)) for name in names))
    return shown


def _cell(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.3f}"
    return "" if value is None else str(value)
