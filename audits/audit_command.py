"""`promptward audit RUN`: audit what was shared, from the coordinator's files and what the hospitals show of theirs."""

import argparse
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich.console import Console

from audits.agreement import as_facts, as_section, compare
from audits.alarm import follow
from audits.canary_audit import audit_folder
from audits.coordinator import read_run
from audits.evidence import gather
from audits.report import write_report
from audits.section import as_json
from shared.errors import InputError


def run(args: argparse.Namespace) -> int:
    """Run the command; return 0 when every audit passed, 1 when one did not."""
    if args.follow:
        if args.canaries is None:
            raise InputError("--follow looks at an audit site; give its canary file with --canaries FILE.")
        return follow(args.run, args.canaries, Console(highlight=False, soft_wrap=True, markup=False).print)
    files = read_run(args.run)
    agreement = compare(files, gather(files, args.site, args.ledger))
    canaries = audit_folder(files.task, files.folder, files.runs, args.canaries) if args.canaries else []
    sections = [as_section(agreement), *canaries]
    facts: dict[str, Any] = {
        "schema": 1,
        "task": files.task.card.name,
        "task_digest": files.task.digest,
        "runs": list(files.runs),
        "passed": all(section.passed for section in sections),
        "audits": {"agreement": as_facts(agreement)}
        | ({"canaries": [as_json(section) for section in canaries]} if canaries else {}),
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    out: Path = args.out or args.run
    try:
        out.mkdir(parents=True, exist_ok=True)
        (out / "audit.json").write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")
        write_report(sections, facts, files.task.card.title, out / "audit.html")
    except OSError as error:
        raise InputError(f"{out}: cannot be written ({error.strerror}); name another folder with --out.") from None
    if args.json:
        print(json.dumps(facts, indent=2))  # noqa: T201
    for section in [] if args.json else sections:
        console = Console(highlight=False, soft_wrap=True, markup=False)
        console.print(f"{section.title} {section.summary}")
        for finding in section.findings:
            console.print(f"  {finding}")
        console.print(f"Report: {out / 'audit.html'}")
    return 0 if facts["passed"] else 1
