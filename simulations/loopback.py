"""A federation of real processes on this machine, for tests, benchmarks and trials, with keys as `promptward keys` makes them."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from client.ledger import Event, read_ledger
from server.credentials import fill_folder
from server.roster import admit
from shared.card import Task
from shared.errors import RunError
from shared.keys import key_file_name, make_site_key, write_site_key
from shared.processes import free_port

ROOT = Path(__file__).parents[1]
PROMPTWARD = (sys.executable, "-P", "-m", "promptward")


@dataclass
class Process:
    """One command of ours with everything it started."""

    name: str
    log: Path
    process: "subprocess.Popen[bytes]"

    def text(self) -> str:
        """What it said so far."""
        return self.log.read_text(errors="replace")

    def kill(self, number: int = signal.SIGKILL) -> None:
        """Send a signal to the command itself; what it started ends with it, as on a real machine."""
        os.kill(self.process.pid, number)

    def wait(self, seconds: float = 120.0) -> int:
        """Return its exit code."""
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            raise RunError(f"{self.name} did not end in {seconds:.0f} seconds:\n{self.text()}") from None


@dataclass
class World:
    """Folders of a coordinator and of every site, and the processes that were started in them.

    `host` is where the sites reach the coordinator; `around` is put before a site's command, to run it in a network of its own.
    """

    folder: Path
    task: Task
    host: str = "127.0.0.1"
    around: Sequence[str] = ()
    port: int = field(default_factory=free_port)
    started: list[Process] = field(default_factory=list)

    def build(self, tables: Mapping[str, str], data: str, epsilon: float = 50.0) -> "World":
        """Write keys, card, site files and tables; `data` is the site file's [data] table."""
        self.keys.mkdir(mode=0o700)
        fill_folder(self.keys, (self.host,), 365, datetime.now(UTC))
        self.card.write_text(self.task.text)
        for name, table in tables.items():
            home = self.home(name)
            home.mkdir(parents=True)
            key = make_site_key()
            private, _ = write_site_key(home, name, key)
            admit(self.keys, name, key.public)
            (home / "rows.csv").write_text(table)
            (home / "site.toml").write_text(
                f'schema = 1\nsite = "{name}"\n{data}\n[ledger]\npath = "ledger.jsonl"\n'
                f'[policy]\nepsilon = {epsilon}\ndelta = 1e-4\ntasks = ["{self.task.digest}"]\nleast_patients = 1\n'
                f'[federation]\ntask = "{self.card}"\naddress = "{self.host}:{self.port}"\n'
                f'certificate = "{self.keys}/ca.crt"\nkey = "{private.name}"\n'
            )
        return self

    @property
    def keys(self) -> Path:
        """The coordinator's folder of keys."""
        return self.folder / "keys"

    @property
    def card(self) -> Path:
        """The task card."""
        return self.folder / "task.toml"

    @property
    def run(self) -> Path:
        """The run directory."""
        return self.folder / "run"

    def home(self, name: str) -> Path:
        """A site's folder."""
        return self.folder / "sites" / key_file_name(name)

    def start(self, name: str, command: Sequence[str]) -> Process:
        """Start a command; its output goes to a file of its name."""
        log = self.folder / f"{key_file_name(name)}.log"
        with log.open("ab") as out:
            environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
            process = subprocess.Popen(command, cwd=self.folder, stdout=out, stderr=out, env=environment, start_new_session=True)
        found = Process(name, log, process)
        self.started.append(found)
        return found

    def serve(self, *options: str) -> Process:
        """Start the coordinator, or start it anew on the same run directory."""
        where = ("--keys", str(self.keys), "--address", f"{self.host}:{self.port}", "--out", str(self.run))
        return self.start("serve", [*PROMPTWARD, "serve", str(self.card), *where, *options])

    def join(self, name: str, command: Sequence[str] = (*PROMPTWARD, "join"), once: bool = True) -> Process:
        """Start a site."""
        return self.start(name, [*self.around, *command, str(self.home(name) / "site.toml"), *(["--once"] if once else [])])

    def result(self) -> dict[str, Any]:
        """The run's result."""
        found: dict[str, Any] = json.loads((self.run / "result.json").read_text())
        return found

    def state(self) -> dict[str, Any]:
        """What the coordinator shows; empty before it shows anything."""
        try:
            found: dict[str, Any] = json.loads((self.run / "state.json").read_text())
        except (OSError, ValueError):
            return {}
        return found

    def events(self, name: str) -> list[Event]:
        """A site's charges; the ledger is verified."""
        return read_ledger(self.home(name) / "ledger.jsonl")

    def until(self, condition: Callable[[], object], seconds: float = 120.0, what: str = "") -> None:
        """Wait for a condition; on a time-out, fail with everything that the processes said."""
        give_up = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > give_up:
                said = "\n".join(f"---- {p.name}\n{p.text()[-3000:]}" for p in self.started)
                raise RunError(f"not within {seconds:.0f} seconds: {what}\n{said}\n---- flower.log\n{self._flower()}")
            time.sleep(0.05)

    def round(self, number: int) -> Callable[[], bool]:
        """Return a condition: this round has a checkpoint."""
        return (self.run / "checkpoints" / f"round-{number:05d}.npz").exists

    def _flower(self) -> str:
        log = self.run / "flower.log"
        return log.read_text()[-3000:] if log.exists() else ""

    def stop(self) -> None:
        """End every process."""
        for process in self.started:
            if process.process.poll() is None:
                process.kill(signal.SIGTERM)
        for process in self.started:
            try:
                process.process.wait(15)
            except subprocess.TimeoutExpired:
                os.killpg(process.process.pid, signal.SIGKILL)
                process.process.wait()
