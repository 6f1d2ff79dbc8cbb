"""`promptward predict PROMPT... INPUT`: read the rows of a table with one or several prompts."""

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from client.occlusion import Explanation, explain
from client.predict_report import write_report
from client.prediction import Prediction, Question, absent_columns, predict, unread
from client.questions import questions_of
from client.records import Row, read_rows
from shared.errors import InputError

SHOWN = 20  # rows of the table on screen
KINDS = (".csv", ".json", ".parquet")


def run(args: argparse.Namespace) -> int:
    """Run the command."""
    if args.out and args.out.suffix.lower() not in KINDS:
        raise InputError(f"{args.out}: predictions are written as {', '.join(KINDS)}; choose one of these endings.")
    rows, source = read_rows(args.input), str(args.input)
    questions = _questions(args)
    absent = {q.reader.name: absent_columns(rows, q, source) for q in questions}
    _require_column(rows, args.id, source)
    found = list(predict(questions, rows, source))
    table = [_line(n, row, args.id, questions, said) for n, (row, said) in enumerate(zip(rows, found, strict=True), start=1)]
    reasons = _reasons(args, questions, rows, source)
    cut = {q.reader.name: unread(q, rows, source) for q in questions}
    _say(Console(stderr=True), questions, absent, cut)
    if args.out:
        _write(args.out, table)
    if args.json:
        print(json.dumps(_report(questions, absent, cut, table, reasons), indent=2))  # noqa: T201
    elif not args.out:
        Console().print(_shown(table))
    return 0


def _questions(args: argparse.Namespace) -> list[Question]:
    if args.calibrate and args.site and args.site != args.calibrate:
        raise InputError("--site and --calibrate name two sites; give one of them.")
    return questions_of(args.prompts, args.calibrate or args.site, args.library, fit=args.calibrate is not None)


def _require_column(rows: Sequence[Row], column: str | None, source: str) -> None:
    if column is not None and all(column not in row for row in rows):
        raise InputError(f"{source}: there is no column '{column}' to repeat; mend --id.")


def _line(number: int, row: Row, key: str | None, questions: Sequence[Question], said: Sequence[Prediction]) -> dict[str, Any]:
    line: dict[str, Any] = {"row": number} | ({key: row.get(key)} if key else {})
    for question, prediction in zip(questions, said, strict=True):
        name = question.reader.name
        line[f"{name}.label"] = prediction.label
        line |= {f"{name}.{label}": round(share, 6) for label, share in prediction.probabilities.items()}
    return line


def _reasons(args: argparse.Namespace, questions: Sequence[Question], rows: Sequence[Row], source: str) -> list[Explanation]:
    if args.why is None:
        return []
    if args.why_rows < 1:
        raise InputError(f"--why-rows {args.why_rows}: explain one row or more.")
    found = [said for n, row in enumerate(rows[: args.why_rows], start=1) for said in explain(questions, row, source, n)]
    write_report(found, len(rows), args.why)
    return found


def _say(console: Console, questions: Sequence[Question], absent: Mapping[str, Sequence[str]], cut: Mapping[str, int]) -> None:
    """Say in one sentence each what a reader of the numbers has to know."""
    for question in questions:
        name = question.reader.name
        if missing := absent[name]:
            console.print(f"{name}: the table has no column {', '.join(missing)}; every row says 'missing' there.", soft_wrap=True)
        if cut[name]:
            said = f"{name}: {cut[name]} rows are longer than this prompt's model reads; some of their words were left out."
            console.print(said, soft_wrap=True)
        if question.temperature == 1.0:
            console.print(f"{name}: probabilities are not calibrated at a site; use --calibrate SITE.", soft_wrap=True)


def _report(
    questions: Sequence[Question],
    absent: Mapping[str, Sequence[str]],
    cut: Mapping[str, int],
    table: Sequence[Mapping[str, Any]],
    reasons: Sequence[Explanation],
) -> dict[str, Any]:
    prompts = [
        {
            "name": question.reader.name,
            "task": question.reader.task.card.name,
            "task_digest": question.reader.task.digest,
            "prompt_sha256": question.reader.digest,
            "labels": question.reader.labels,
            "temperature": question.temperature,
            "missing_columns": list(absent[question.reader.name]),
            "rows_cut": cut[question.reader.name],
        }
        for question in questions
    ]
    why = [
        {
            "row": said.row,
            "prompt": said.prompt,
            "label": said.prediction.label,
            "probability": said.prediction.probability,
            "reasons": [{"field": r.field, "said": r.said, "change": r.change} for r in said.reasons],
        }
        for said in reasons
    ]
    return {"schema": 1, "prompts": prompts, "predictions": list(table), "why": why}


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
    for name in table[0]:
        shown.add_column(name)
    for line in table[:SHOWN]:
        shown.add_row(*(f"{value:.3f}" if isinstance(value, float) else str(value) for value in line.values()))
    return shown
