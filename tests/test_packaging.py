"""The lock, the project file and what is installed say the same."""

import re
import tomllib
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import pytest
from packaging.markers import default_environment
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
LOCK = [Requirement(line) for line in (ROOT / "requirements.lock").read_text().splitlines() if line and not line.startswith("#")]
EXTRAS = [text for extra in PROJECT["optional-dependencies"].values() for text in extra]
WANTED = [Requirement(text) for text in [*PROJECT["dependencies"], *EXTRAS]]


@pytest.mark.parametrize("wanted", WANTED, ids=lambda wanted: wanted.name)
def test_the_lock_holds_what_the_project_needs(wanted: Requirement) -> None:
    pins = [pin for pin in LOCK if canonicalize_name(pin.name) == canonicalize_name(wanted.name)]
    assert pins, f"{wanted.name} is not in requirements.lock; run make lock"
    for pin in pins:
        [exact] = pin.specifier
        assert exact.operator == "=="
        assert wanted.specifier.contains(exact.version), f"the lock has {pin}, the project wants {wanted}; run make lock"


def test_what_is_installed_is_what_is_locked() -> None:
    here = default_environment()
    for pin in LOCK:
        if pin.marker is None or pin.marker.evaluate(dict(here)):
            try:
                found = version(pin.name)
            except PackageNotFoundError:
                pytest.fail(f"{pin.name} is locked but not installed; run make install")
            assert pin.specifier.contains(found.split("+")[0]), f"{pin} is locked, {found} is installed; run make install"


def test_changelog_and_version_agree() -> None:
    newest = re.search(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert newest
    assert newest[1] == PROJECT["version"]


def test_the_readmes_commands_are_the_makefiles() -> None:
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = set(re.findall(r"^make ([a-z]+)", (ROOT / "README.md").read_text(), re.MULTILINE))
    assert {"demo", "test", "install"} <= named <= targets


def test_the_architecture_names_every_file_of_a_role() -> None:
    told = (ROOT / "ARCHITECTURE.md").read_text()
    for folder in ("shared", "shared/privacy", "client", "server", "simulations", "audits"):
        for path in (ROOT / folder).glob("*.py"):
            if path.name != "__init__.py":
                assert f"`{path.stem}`" in told, f"ARCHITECTURE.md does not name {path.relative_to(ROOT)}"


def test_the_pitfalls_name_tests_that_exist() -> None:
    written = "".join(path.read_text() for path in (ROOT / "tests").rglob("test_*.py"))
    named = set(re.findall(r"`(test_\w+)`", (ROOT / "docs/pitfalls.md").read_text()))
    assert len(named) > 30
    assert [name for name in named if f"def {name}(" not in written] == []
