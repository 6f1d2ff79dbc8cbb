"""What the hospital's processes need of the machine while they run: a port, a private folder with a socket, and disk."""

import math
import os
import socket
import stat
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

from client.agent import Place
from client.checkup import Examined
from shared.findings import Check, Finding
from shared.processes import free_port
from shared.room import disk_findings
from shared.scoring import build

LINES = 12_000  # bytes per round beyond the tensor in ledger, egress log and transcript, measured in a run of two hospitals
BASE64 = 4 / 3
KEPT = 2  # payloads in the outbox
ELSEWHERE = "name another folder in the environment's TMPDIR"


def machine_checks(it: Examined) -> list[Check]:
    """Return the checks of ports, temporary folder and disk."""
    return [
        Check("loopback", _loopback, "let programs of this user listen on 127.0.0.1"),
        Check("temporary folder", _meeting, ELSEWHERE),
        Check(
            "disk",
            lambda: disk_findings(it.files.ledger.parent, bytes_of_run(it), "ledger, transcript and outbox"),
            needs=("model",),
        ),
    ]


def bytes_of_run(it: Examined) -> int:
    """Return about how many bytes the whole plan writes beside the ledger."""
    plan, tensor = it.task.card.plan, math.prod(build(it.task.card, it.site.device)[0].shape.shape) * 4
    return int(plan.rounds * (BASE64 * tensor + LINES) + KEPT * tensor)


def _loopback() -> Iterator[Finding]:
    ports = {free_port(), free_port()}
    yield Finding("loopback", "ok", f"programs can listen on 127.0.0.1 (tried {' and '.join(map(str, sorted(ports)))})")


def _meeting() -> Iterator[Finding]:
    """Make the folder in which the processes meet, as `promptward join` does, try what they do in it, and remove it."""
    with tempfile.TemporaryDirectory(prefix="promptward-") as name:
        folder = Path(name)
        problem = _not_private(folder) or _no_socket(Place(folder).socket) or _not_run(folder / "command")
    yield problem or Finding("temporary folder", "ok", f"{folder.parent}: private, takes a socket, and runs a command")


def _not_private(folder: Path) -> Finding | None:
    above = folder.parent.stat().st_mode
    if stat.S_IMODE(folder.stat().st_mode) & 0o077:
        return Finding("temporary folder", "wrong", f"{folder.parent}: a folder made here is open to others", ELSEWHERE)
    if above & stat.S_IWOTH and not above & stat.S_ISVTX:
        said = f"{folder.parent}: everybody can move everybody's folders here"
        return Finding("temporary folder", "wrong", said, f"run: chmod +t '{folder.parent}'; or {ELSEWHERE}")
    return None


def _no_socket(path: Path) -> Finding | None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        try:
            listener.bind(str(path))
        except OSError as error:
            said = (
                f"{path.parent.parent}: no socket can be made at {len(os.fsencode(path))} bytes of path ({error.strerror or error})"
            )
            return Finding("temporary folder", "wrong", said, f"{ELSEWHERE}, a shorter one")
    return None


def _not_run(path: Path) -> Finding | None:
    """A folder that is mounted noexec would keep Flower from handing messages over."""
    path.write_text("#!/bin/sh\nexit 0\n")
    path.chmod(0o700)
    try:
        subprocess.run([str(path)], check=True)
    except (OSError, subprocess.CalledProcessError) as error:
        said = f"{path.parent.parent}: no command can be run from here ({getattr(error, 'strerror', None) or error})"
        return Finding("temporary folder", "wrong", said, f"mount it without noexec, or {ELSEWHERE}")
    return None
