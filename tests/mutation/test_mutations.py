"""Every bug of mechanism.toml and hospital.toml is caught, and docs/mutations.md says by which test."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.mutation.bugs import ROOT, Bug, bugs, copy_tree, inject
from tests.mutation.table import row, told

PAGE = (ROOT / "docs/mutations.md").read_text(encoding="utf-8")


def heads(page: str) -> list[str]:
    return [head for head, _ in told(page)]


@pytest.mark.parametrize("bug", bugs(), ids=lambda bug: bug.what)
def test_a_bug_fits_the_code_it_is_put_into(bug: Bug) -> None:
    text = (ROOT / bug.file).read_text(encoding="utf-8")
    assert text.count(bug.old) == 1, f"{bug.file} was changed: write the bug anew"
    compile(text.replace(bug.old, bug.new), bug.file, "exec")
    assert all((ROOT / "tests" / name).is_file() for name in bug.tests)


def test_the_page_lists_exactly_the_bugs_and_tests_that_exist() -> None:
    assert heads(PAGE) == [row(bug, "").removesuffix(" `` |") for bug in bugs()], "run make mutations"
    for bug, (_, caught) in zip(bugs(), told(PAGE), strict=True):
        assert any(f"def {caught}(" in (ROOT / "tests" / name).read_text() for name in bug.tests), caught


def test_most_pitfalls_are_covered() -> None:
    assert len({bug.pitfall for bug in bugs()}) >= 24


def test_a_bug_that_does_not_fit_is_said(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"holds 0 times, not once: 'nowhere'; mend the bug 'w'"):
        inject(Bug(1, "w", "shared/wire.py", "nowhere", "", ()), copy_tree(ROOT, tmp_path))


@pytest.mark.slow
def test_every_bug_is_caught(tmp_path: Path) -> None:
    found = subprocess.run(
        [sys.executable, "-m", "tests.mutation", str(tmp_path / "page.md")], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert found.returncode == 0, found.stdout + found.stderr
    assert heads((tmp_path / "page.md").read_text()) == heads(PAGE)
