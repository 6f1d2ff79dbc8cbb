"""The table of docs/mutations.md, written and read."""

import re
from collections.abc import Sequence

from tests.mutation.bugs import Bug
from tests.mutation.forks import Verdict

HEAD = """# Bugs put in on purpose, and the tests that catch them

`make mutations` puts each bug into a copy of the tree, alone, runs the test files that should convict it, and writes this table:
the test is the first that failed. On copies without a bug the same files pass. Numbers are those of [pitfalls.md](pitfalls.md);
{count} bugs of {pitfalls} of its 34 pitfalls. Not put in are {missing}: pitfalls.md says why no code here does them.

| # | bug | file | caught by |
|---|---|---|---|
"""


def function_of(verdict: Verdict) -> str:
    """Return the name of the test function that failed first.

    >>> function_of(Verdict(3, "tests/client/test_round.py::test_that[exact-1]", None))
    'test_that'
    """
    return re.sub(r"\[.*", "", str(verdict.failed).rpartition("::")[2], flags=re.DOTALL)


def line(bug: Bug, verdict: Verdict) -> str:
    """Return one bug's line as text."""
    caught = function_of(verdict) if verdict.failed else f"NOT CAUGHT by {verdict.passed} tests ({verdict.broken})"
    return f"{bug.pitfall:>2}  {bug.what}: {caught}"


def row(bug: Bug, caught: str) -> str:
    """Return one bug's row of the table."""
    return f"| {bug.pitfall} | {bug.what} | `{bug.file}` | `{caught}` |"


def table(every: Sequence[Bug], verdicts: Sequence[Verdict]) -> str:
    """Return the page."""
    found = {bug.pitfall for bug in every}
    missing = ", ".join(str(number) for number in range(1, 35) if number not in found)
    rows = [row(bug, function_of(verdict)) for bug, verdict in zip(every, verdicts, strict=True)]
    return HEAD.format(count=len(every), pitfalls=len(found), missing=missing) + "\n".join(rows) + "\n"


def told(page: str) -> list[tuple[str, str]]:
    """Return each row of a page as (what stands before the test, the test)."""
    return re.findall(r"^(\| \d+ \| .* \|) `(\w+)` \|$", page, re.MULTILINE)
