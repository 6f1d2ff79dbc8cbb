"""What `promptward doctor` found: each finding with its mend, as a table for people and as JSON for programs."""

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Literal

from rich.console import Console
from rich.table import Table
from rich.text import Text

from shared.errors import PromptwardError

State = Literal["ok", "warning", "wrong"]
COLOURS = {"ok": "green", "warning": "yellow", "wrong": "bold red"}
PRIVATE = "* Counts of patients stay on this screen: no message, log or file of Promptward holds them. Do not send them on."
NEWS = "Nothing was changed here or at the other end."


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        check: what was looked at, in a word or two.
        state: `wrong` keeps the run from working or from being safe; a `warning` does not, today.
        said: what was found, a sentence or half of one.
        mend: what to do about it; empty where all is well.
        private: whether `said` counts patients.
    """

    check: str
    state: State
    said: str
    mend: str = ""
    private: bool = False


@dataclass(frozen=True)
class Check:
    """One look at the machine.

    Attributes:
        name: of its findings, unless they have a better one; other checks name it in `needs`.
        look: returns what it found; a `PromptwardError` or `OSError` that it raises becomes a finding too.
        mend: what helps when the error does not say it.
        needs: checks without which this one cannot be made; it is left out, with a warning, when one of them found a wrong.
    """

    name: str
    look: Callable[[], Iterable[Finding]]
    mend: str = ""
    needs: tuple[str, ...] = ()


def examine(checks: Iterable[Check]) -> list[Finding]:
    """Make all checks, whatever they find; nothing that a check raises gets out."""
    found: list[Finding] = []
    broken: set[str] = set()
    for check in checks:
        missing = [name for name in check.needs if name in broken]
        here = [_left_out(check, missing)] if missing else _made(check)
        if missing or any(finding.state == "wrong" for finding in here):
            broken.add(check.name)
        found += here
    return found


def wrong_of(check: str, sentence: str, mend: str = "") -> Finding:
    """Return a finding from an error's sentence; our sentences end with the mend after a semicolon.

    >>> wrong_of("key", "a.key: others can read it; run: chmod 600 a.key.").mend
    'run: chmod 600 a.key'
    """
    said, _, told = sentence.rstrip(".").rpartition("; ")
    return Finding(check, "wrong", said or told, (told if said else "") or mend)


def exit_code(findings: Iterable[Finding]) -> int:
    """Return 1 when something is wrong, else 0."""
    return int(any(finding.state == "wrong" for finding in findings))


def report(title: str, findings: Sequence[Finding], as_json: bool) -> int:
    """Print what was found on standard output and return the exit code."""
    code = exit_code(findings)
    if as_json:
        print(json.dumps({"title": title, "fit": not code, "findings": [asdict(f) for f in findings]}, indent=2))  # noqa: T201
        return code
    console = Console()
    console.print(table_of(title, findings))
    console.print("\n".join(_closing(findings)), highlight=False, markup=False, soft_wrap=True)
    return code


def table_of(title: str, findings: Iterable[Finding]) -> Table:
    """Return the findings as a table, each mend below what it mends."""
    table = Table(title=Text(title), show_lines=False)
    for name in ("", "what", "found"):
        table.add_column(name, overflow="fold")
    for finding in findings:
        said = Text(finding.said + (" *" if finding.private else ""))
        if finding.mend:
            said.append(f"\n-> {finding.mend}", style="bold")
        table.add_row(Text(finding.state, style=COLOURS[finding.state]), Text(finding.check), said)
    return table


def _closing(findings: Sequence[Finding]) -> list[str]:
    count = {state: sum(finding.state == state for finding in findings) for state in COLOURS}
    lines = [PRIVATE] if any(finding.private for finding in findings) else []
    return [*lines, f"{count['ok']} ok, {count['warning']} to think about, {count['wrong']} wrong. {NEWS}"]


def _made(check: Check) -> list[Finding]:
    try:
        return list(check.look())
    except PromptwardError as error:
        return [wrong_of(check.name, str(error), check.mend)]
    except OSError as error:
        return [Finding(check.name, "wrong", f"{error.filename or 'this machine'}: {error.strerror or error}", check.mend)]
    except Exception as error:  # one check that fails must not hide what the others would have found
        said = f"the check itself failed ({type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''})"
        return [Finding(check.name, "wrong", said, check.mend or "tell the developers of Promptward")]


def _left_out(check: Check, missing: Sequence[str]) -> Finding:
    return Finding(check.name, "warning", "not looked at", f"mend first what is wrong with: {', '.join(missing)}")
