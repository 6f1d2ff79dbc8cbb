"""Is this installation the one that was tested: packages, our own folders, the processes that will be started, the app bundle."""

import importlib.metadata
import io
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterable, Iterator
from pathlib import Path

from packaging.markers import default_environment
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from shared.bundle import bundle, bundle_hash
from shared.findings import Check, Finding

HOME = Path(__file__).resolve().parents[1]
LOCK = HOME / "requirements.lock"
REINSTALL = "install it again with: make install"
STARTING = 30.0  # seconds that a bare Python may take to start
WHERE = "import importlib.util as u; print(*(u.find_spec(name).origin for name in ('shared', {role!r})), sep='\\n')"


def installation_checks(role: str, command: str) -> list[Check]:
    """Return the checks of the installation that both parties make.

    Args:
        role: the package whose processes will be started, `client` or `server`.
        command: Flower's command that is started, by name.
    """
    return [
        Check("packages", lambda: package_findings(LOCK), REINSTALL),
        Check("our packages", lambda: origin_findings(role), REINSTALL),
        Check("Flower's command", lambda: command_findings(command), REINSTALL),
        Check("app bundle", bundle_findings, REINSTALL),
    ]


def package_findings(lock: Path) -> Iterator[Finding]:
    """Compare what is installed with what Promptward declares, and with the lock where there is one."""
    problems = [*_python_problems(), *_declared_problems()]
    drift = [finding for finding in _lock_drift(lock) if finding.check not in {problem.check for problem in problems}]
    yield from problems
    yield from drift
    if not problems and not drift:
        told = "as locked" if lock.exists() else "as declared; this installation carries no requirements.lock to compare with"
        yield Finding("packages", "ok", f"flwr {importlib.metadata.version('flwr')} and all others are {told}")


def origin_findings(role: str) -> Iterator[Finding]:
    """Start Python as our commands do and see where our packages come from there."""
    with tempfile.TemporaryDirectory(prefix="promptward-") as elsewhere:
        code = WHERE.format(role=role)
        started = subprocess.run(  # the very options with which `serve` and `join` start their processes
            [sys.executable, "-P", "-c", code], cwd=elsewhere, capture_output=True, text=True, timeout=STARTING, check=False
        )
    found = [Path(line).resolve() for line in started.stdout.split("\n") if line]
    foreign = [path for path in found if not path.is_relative_to(HOME)]
    if started.returncode or foreign:
        said = f"a new process would load {foreign[0]}" if foreign else "a new process does not find our packages"
        yield Finding("our packages", "wrong", f"{said} instead of those in {HOME}", f"unset PYTHONPATH, or {REINSTALL}")
    else:
        yield Finding(
            "our packages", "ok", f"promptward {importlib.metadata.version('promptward')} in {HOME}, in new processes too"
        )


def command_findings(command: str) -> Iterator[Finding]:
    """See that Flower's command is where our processes look for it."""
    path = Path(sys.executable).parent / command
    if path.is_file():
        yield Finding("Flower's command", "ok", str(path))
    else:
        yield Finding("Flower's command", "wrong", f"{path}: {command} is not there", REINSTALL)


def bundle_findings() -> Iterator[Finding]:
    """Build the app bundle twice: the same bytes, and no code in them."""
    first, second = bundle(), bundle()
    with zipfile.ZipFile(io.BytesIO(first)) as archive:
        names = sorted(archive.namelist())
    if first != second:
        yield Finding("app bundle", "wrong", "built twice, it is not the same: no hospital could pin it", REINSTALL)
    elif any(name.endswith(".py") for name in names):
        yield Finding("app bundle", "wrong", f"it holds code: {', '.join(names)}", REINSTALL)
    else:
        yield Finding("app bundle", "ok", f"SHA-256 {bundle_hash()}, the same when built twice; it holds {', '.join(names)}")


def _python_problems() -> list[Finding]:
    wanted = importlib.metadata.metadata("promptward")["Requires-Python"]
    have = ".".join(map(str, sys.version_info[:3]))
    if SpecifierSet(wanted).contains(have):
        return []
    return [Finding("Python", "wrong", f"this is Python {have}; Promptward needs {wanted}", "name one: make install PYTHON=...")]


def _declared_problems() -> list[Finding]:
    """Compare with what Promptward needs to run; extras are not needed."""
    declared = [Requirement(text) for text in importlib.metadata.requires("promptward") or []]
    return [finding for wanted in declared if _applies(wanted, {"extra": ""}) for finding in _compared(wanted, "wrong")]


def _lock_drift(lock: Path) -> list[Finding]:
    """Compare with the exact versions that were tested; what is not installed was not needed."""
    lines = lock.read_text(encoding="utf-8").splitlines() if lock.exists() else []
    pins = [Requirement(line) for line in lines if line and not line.startswith("#")]
    return [finding for pin in pins if _applies(pin, {}) and _version(pin.name) for finding in _compared(pin, "warning")]


def _compared(wanted: Requirement, state: str) -> Iterable[Finding]:
    have = _version(wanted.name)
    if have is None:
        return [Finding(wanted.name, "wrong", f"{wanted.name} is not installed; {wanted} is needed", REINSTALL)]
    if wanted.specifier.contains(have.split("+")[0], prereleases=True):  # 2.13.0+cpu is torch 2.13.0
        return []
    if state == "wrong":
        return [Finding(wanted.name, "wrong", f"{wanted.name} {have} is installed; {wanted} is needed", REINSTALL)]
    return [Finding(wanted.name, "warning", f"{wanted.name} {have} is installed; {wanted} was tested", REINSTALL)]


def _applies(wanted: Requirement, extra: dict[str, str]) -> bool:
    return wanted.marker is None or wanted.marker.evaluate({**{k: str(v) for k, v in default_environment().items()}, **extra})


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None
