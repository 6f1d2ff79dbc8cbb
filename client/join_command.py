"""`promptward join SITE`: take part. It starts the agent, the gateway and Flower's SuperNode, and keeps them running.

    coordinator  <-- TLS -->  gateway  <-- loopback -->  SuperNode  -- a token a message -->  agent (model, patients, ledger)

A process that dies is started anew; a site that was killed and is started again takes its old place over.
"""

import argparse
import json
import logging
import signal
import ssl
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from socket import create_connection
from typing import Any

from client.agent import Place
from client.edge import Settings
from client.flower_node import environment, node_command, write_commands
from client.ledger import read_ledger
from client.loopback import write_certificate
from client.site import FederationTable, SiteFile, federation_of, load_site
from client.transcript import ENDING
from shared.bundle import bundle_hash
from shared.card import Task
from shared.certificates import host_and_port, require_valid
from shared.errors import InputError, RunError
from shared.keys import read_site_key
from shared.logs import speak
from shared.processes import Child, free_port

OPENING = 600.0  # seconds that the hospital may take to read its data and model
LOOK = 0.2  # seconds between two looks at the processes
LINGER = 10.0  # seconds that a site stays after its last reply: Flower forgets the reply of a site that is gone
SOON = 2.0  # seconds before a process that died is started anew
log = logging.getLogger("promptward.join")


@dataclass(frozen=True)
class Files:
    """What a site keeps beside its ledger, and where its processes meet while they run."""

    ledger: Path
    meeting: Path

    @property
    def transcript(self) -> Path:
        """Every byte that left."""
        return self.ledger.with_suffix(ENDING)

    @property
    def node(self) -> Path:
        """The id that the coordinator knows this site by."""
        return self.ledger.with_suffix(".node")

    @property
    def log(self) -> Path:
        """What Flower's own processes say."""
        return self.ledger.with_suffix(".flower.log")


def run(args: argparse.Namespace) -> int:
    """Run the command."""
    speak()
    agent = [sys.executable, "-P", "-m", "client.agent"]
    try:
        return join(args.site, agent, once=args.once)
    except KeyboardInterrupt:
        log.info("stopped; the ledger is whole, and the site can be started again at any time")
        return 0


def join(site_file: Path, agent: Sequence[str], once: bool = False) -> int:
    """Take part until stopped, or, with `once`, until the plan's last round has left; return the exit code.

    Args:
        site_file: the hospital's own file.
        agent: the command that opens the hospital and serves it; site file and folder are added to it.
        once: end after the plan's last round.

    Raises:
        InputError: the site file, the card, the key or the certificate is not as it should be.
    """
    site = load_site(site_file)
    federation = federation_of(site, site_file)
    task = Task.load(federation.task)
    _check(site, federation, task)
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _interrupt)
    with tempfile.TemporaryDirectory(prefix="promptward-") as folder:  # readable by its owner only
        files = Files(site.ledger.path, Path(folder))
        files.ledger.parent.mkdir(parents=True, exist_ok=True)
        children = _Site(site_file.resolve(), federation, files, agent)
        try:
            children.open()
            return children.keep(task if once else None)
        finally:
            children.close()


class _Site:
    """The three processes of a hospital."""

    def __init__(self, site_file: Path, federation: FederationTable, files: Files, agent: Sequence[str]) -> None:
        self._files, self._federation = files, federation
        self._place = Place(files.meeting)
        commands = files.meeting / "commands"
        write_commands(commands, self._place.socket)
        given, here = environment(commands, files.meeting / "flower"), files.meeting
        self._gateway_port = f"127.0.0.1:{free_port()}"
        settings = here / "gateway.json"
        node = node_command(self._gateway_port, f"127.0.0.1:{free_port()}", here / "loopback-ca.crt", federation.key)
        self.agent = Child("agent", [*agent, str(site_file), str(here)], given, here)
        self.gateway = Child("gateway", [sys.executable, "-P", "-m", "client.edge", str(settings)], given, here)
        self.node = Child("SuperNode", node, given, here, files.log)
        self._settings = settings

    def open(self) -> None:
        """Start the agent, wait until the hospital is open, then start what connects it."""
        self._start_agent()
        facts = json.loads(self._place.ready.read_text())
        here = self._files.meeting
        write_certificate(here / "loopback-ca.crt", here / "loopback.crt", here / "loopback.key", datetime.now(UTC))
        Settings(
            listen=self._gateway_port,
            server_certificate=str(here / "loopback.crt"),
            server_key=str(here / "loopback.key"),
            coordinator=self._federation.address,
            certificate=str(self._federation.certificate),
            public_key=read_site_key(self._federation.key).public.pem.hex(),
            shape=tuple(facts["shape"]),
            dtype=facts["dtype"],
            bundle=bundle_hash(),
            ledger=str(self._files.ledger),
            transcript=str(self._files.transcript),
            node=str(self._files.node),
        ).save(self._settings)
        self._start_gateway()
        self.node.start()

    def keep(self, task: Task | None) -> int:
        """Keep the processes running; with a task, until its last round has left."""
        while True:
            time.sleep(LOOK)
            self._mend()
            if task and _last_round_left(self._files, task):
                time.sleep(LINGER)
                log.info("the plan's last round has left; see: promptward ledger statement %s", self._files.ledger)
                return 0

    def _mend(self) -> None:
        """Start anew what died, and the SuperNode with it: it forgets what it had taken in, and is asked again when it is back."""
        dead = [child for child in (self.agent, self.gateway, self.node) if child.ended is not None]
        if not dead and not self._place.stuck.exists():
            return
        self._place.stuck.unlink(missing_ok=True)
        for child in dead:
            log.warning("the %s ended (%s); starting it anew", child.name, child.ended)
        self.node.stop()
        time.sleep(SOON)
        if self.agent in dead:
            self._start_agent()
        if self.gateway in dead:
            self._start_gateway()
        self.node.start()

    def close(self) -> None:
        """End all processes, the outermost last, so that nothing is left half said."""
        for child in (self.node, self.agent, self.gateway):
            child.stop()

    def _start_agent(self) -> None:
        self._place.ready.unlink(missing_ok=True)
        self.agent.start()
        give_up = time.monotonic() + OPENING
        while not self._place.ready.exists():
            code = self.agent.ended
            if code is not None and code >= 0:
                raise _EndedError(code)  # it has said why
            if code is not None:
                time.sleep(SOON)
                self.agent.start()
            if time.monotonic() > give_up:
                raise RunError(f"the hospital was not open after {OPENING:.0f} seconds; is the model or the data on a slow disk?")
            time.sleep(LOOK / 4)

    def _start_gateway(self) -> None:
        """Start the gateway and return when it listens."""
        self.gateway.start()
        give_up = time.monotonic() + OPENING
        while self.gateway.ended is None and time.monotonic() < give_up:
            try:
                create_connection(host_and_port(self._gateway_port), timeout=1).close()
            except OSError:
                time.sleep(LOOK / 4)
            else:
                return


class _EndedError(RunError):
    """The agent ended by itself and has said why."""

    def __init__(self, code: int) -> None:
        super().__init__("the hospital did not open; its reason stands above.")
        self.exit_code = code


def _check(site: SiteFile, federation: FederationTable, task: Task) -> None:
    """Say what is wrong before anything is started."""
    if task.digest not in site.policy.tasks:
        raise InputError(
            f"the card {federation.task} has digest {task.digest}, which is not among [policy] tasks; "
            "read the card, and add its digest if the hospital agrees to it."
        )
    require_valid(federation.certificate, datetime.now(UTC))
    read_site_key(federation.key)
    _try_coordinator(federation)


def _try_coordinator(federation: FederationTable) -> None:
    """Refuse a coordinator whose certificate is not the federation's; one that is not there yet is waited for."""
    host, port = host_and_port(federation.address)
    trusted = ssl.create_default_context(cafile=str(federation.certificate))
    try:
        with create_connection((host, port), timeout=5) as bare, trusted.wrap_socket(bare, server_hostname=host):
            pass
    except ssl.SSLCertVerificationError as error:
        raise InputError(
            f"{federation.address} does not prove to be the coordinator ({error.verify_message}); "
            f"compare {federation.certificate} and [federation] address with your invitation."
        ) from None
    except OSError as error:
        log.info("the coordinator at %s cannot be reached yet (%s); waiting for it", federation.address, error)


def _last_round_left(files: Files, task: Task) -> bool:
    """Say whether the coordinator has taken the payload of the plan's last round."""
    if not files.ledger.exists() or not files.transcript.exists():
        return False
    last = [
        event.payload for event in read_ledger(files.ledger) if (event.task, event.round) == (task.digest, task.card.plan.rounds)
    ]
    return bool(last) and f'"delivered": "{last[-1]}"' in files.transcript.read_text()


def _interrupt(_number: int, _frame: Any) -> None:
    raise KeyboardInterrupt
