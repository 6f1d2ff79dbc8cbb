"""`python -m tests.mutation [TABLE]`: put every bug into a copy of the tree, say which test caught it, and write the table.

Exit code 1 where the tests fail on a copy without a bug, or a bug gets past them.
"""

import sys
import tempfile
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.context import ForkServerContext
from pathlib import Path

from tests.mutation.bugs import ROOT, Bug, bugs, copy_tree, inject, named_files
from tests.mutation.forks import Verdict, judge, server
from tests.mutation.table import line, table

AT_ONCE = 2


def control(context: ForkServerContext, clean: Path, file: str) -> Verdict:
    """Return what a test file says of a copy without a bug: every one of its tests must pass."""
    with tempfile.TemporaryDirectory(dir=clean.parent) as folder:
        found = judge(context, copy_tree(clean, Path(folder)), [file], until_first=False)
    if found.failed or found.broken or not found.passed:
        print(f"without a bug, tests/{file} fails: {found}", flush=True)
    return found


def convict(context: ForkServerContext, clean: Path, bug: Bug) -> Verdict:
    """Return what the tests say of a copy with this bug in it."""
    with tempfile.TemporaryDirectory(dir=clean.parent) as folder:
        tree = copy_tree(clean, Path(folder))
        inject(bug, tree)
        found = judge(context, tree, list(bug.tests), until_first=True)
    print(line(bug, found), flush=True)
    return found


def run(every: Sequence[Bug]) -> tuple[list[Verdict], list[Verdict]]:
    """Return the verdicts on the copies without a bug, by file, and on every bug."""
    context, files = server(), named_files(every)
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(AT_ONCE) as workers:
        clean = Path(folder).resolve() / "clean"
        copy_tree(ROOT, clean)

        def started(work: Callable[..., Verdict], argument: object) -> Callable[[], Verdict]:
            return workers.submit(work, context, clean, argument).result

        controls, convictions = [started(control, file) for file in files], [started(convict, bug) for bug in every]
        return [found() for found in controls], [found() for found in convictions]


def main(arguments: Sequence[str]) -> int:
    """Run everything."""
    every = bugs()
    controls, verdicts = run(every)
    past = [bug.what for bug, found in zip(every, verdicts, strict=True) if not found.failed]
    wrong = [found for found in controls if found.failed or found.broken or not found.passed]
    print(f"{len(every) - len(past)} of {len(every)} bugs caught; {sum(c.passed for c in controls)} tests pass without a bug")
    if past or wrong:
        return 1
    Path(arguments[0] if arguments else ROOT / "docs/mutations.md").write_text(table(every, verdicts), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
