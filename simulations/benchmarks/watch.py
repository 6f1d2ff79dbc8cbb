"""A command and all processes that it starts: how long they take, their processor time and their memory at its highest."""

import os
import secrets
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

MARK = "PROMPTWARD_BENCHMARK"
QUIET = {"HF_HUB_OFFLINE": "1", "FLWR_TELEMETRY_ENABLED": "0", "FLWR_DISABLE_UPDATE_CHECK": "1", "RAY_USAGE_STATS_ENABLED": "0"}


@dataclass(frozen=True)
class Cost:
    """What a command took.

    Attributes:
        wall: seconds by the clock.
        cpu: seconds of processor time of all its processes, as last seen.
        memory: the most bytes that its processes held at one time; a page that several share counts once (PSS).
        output: what it printed.
    """

    wall: float
    cpu: float
    memory: int
    output: str


def cost(command: Sequence[str], env: Mapping[str, str] | None = None, every: float = 0.25) -> Cost:
    """Run a command to its end; raise `RuntimeError` with its last words where it fails.

    Its processes, also those that part from it, are known by a mark in their environment. Memory is looked at `every` seconds.
    """
    mark = secrets.token_hex(8)
    given = os.environ | QUIET | {MARK: mark} | dict(env or {})
    began, most, used = time.perf_counter(), 0, dict[int, float]()
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
        child = subprocess.Popen(list(command), env=given, stdout=out, stderr=err)
        while child.poll() is None:
            family = _family(mark)
            most = max(most, sum(_shared_bytes(pid) for pid in family))
            used |= {pid: _seconds(pid) for pid in family}
            time.sleep(every)
        wall = time.perf_counter() - began
        out.seek(0), err.seek(0)
        if child.returncode:
            raise RuntimeError(f"{command} failed: {err.read()[-2000:]}")
        return Cost(wall, sum(used.values()), most, out.read())


def python(*words: str) -> list[str]:
    """Return the command that runs this Python with `words`."""
    return [sys.executable, "-W", "ignore", *words]


def _family(mark: str) -> list[int]:
    wanted, found = f"{MARK}={mark}".encode(), []
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit() and wanted in _bytes(folder / "environ").split(b"\0"):
            found.append(int(folder.name))
    return found


def _shared_bytes(pid: int) -> int:
    lines = _bytes(Path(f"/proc/{pid}/smaps_rollup")).splitlines()
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith(b"Pss:"))


def _seconds(pid: int) -> float:
    fields = _bytes(Path(f"/proc/{pid}/stat")).rpartition(b")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK") if fields else 0.0


def _bytes(path: Path) -> bytes:
    """Return a file of /proc, or nothing where its process is gone or another user's."""
    try:
        return path.read_bytes()
    except OSError:
        return b""
