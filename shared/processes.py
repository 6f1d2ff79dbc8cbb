"""Processes that a command of ours starts and keeps running: they end with it, and are started anew when they die."""

import ctypes
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

PARENT_DEATH = 1  # prctl's PR_SET_PDEATHSIG
GRACE = 5.0  # seconds between asking a process to end and ending it


@dataclass
class Child:
    """One process. `log` takes its output; None shows it on our own standard error."""

    name: str
    command: Sequence[str]
    environment: Mapping[str, str]
    folder: Path
    log: Path | None = None
    process: "subprocess.Popen[bytes] | None" = field(default=None, init=False)

    def start(self) -> None:
        """Start, or start anew."""
        out = self.log.open("ab") if self.log else None
        try:
            self.process = subprocess.Popen(
                self.command,
                env=dict(self.environment),
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=out or sys.stderr,
                stderr=out or sys.stderr,
                start_new_session=True,  # Ctrl-C is ours to pass on, in our order
                preexec_fn=_end_with_parent,  # noqa: PLW1509 (our commands start processes from their one thread)
            )
        finally:
            if out:
                out.close()

    @property
    def ended(self) -> int | None:
        """The exit status, negative for a signal's number; None while it runs or before it was started."""
        return self.process.poll() if self.process else None

    def stop(self) -> None:
        """End the process and what it started."""
        if self.process is None:
            return
        _signal_group(self.process.pid, signal.SIGTERM)
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(GRACE)
        _signal_group(self.process.pid, signal.SIGKILL)
        self.process.wait()


def free_port() -> int:
    """Return a TCP port of 127.0.0.1 that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _signal_group(pid: int, number: int) -> None:
    with suppress(ProcessLookupError):
        os.killpg(pid, number)


def _end_with_parent() -> None:
    """In the new process, before it becomes another program: end when the parent is killed, and keep files to our user."""
    os.umask(0o077)
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PARENT_DEATH, signal.SIGKILL, 0, 0, 0)
