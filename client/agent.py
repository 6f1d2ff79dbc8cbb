"""The resident agent: one process that holds the model, the patients and the ledger for as long as the hospital takes part.

Started by `promptward join` as ``python -m client.agent SITE_FILE FOLDER``. For every message `client.handover` gives it a
token over a socket in a folder that only its own user can open; model and hidden states are loaded once.
"""

import ctypes
import json
import logging
import os
import resource
import socket
import struct
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from client.app import client_app
from client.flower_node import answer_task
from client.gate import Seal
from client.hospital import Hospital
from client.opening import open_hospital
from client.site import federation_of, load_site
from shared.bundle import bundle_hash
from shared.card import Task
from shared.errors import PromptwardError, RefusedError
from shared.files import write_json
from shared.flower import log_quietly
from shared.logs import speak
from shared.privacy.accounting import epsilon_of
from shared.privacy.source import SecureSource, Source

SOCKET, READY, STUCK = "agent.sock", "agent.ready", "node.stuck"
NOT_DUMPABLE = 4  # prctl's PR_SET_DUMPABLE
log = logging.getLogger("promptward.site")


@dataclass(frozen=True)
class Place:
    """The folder that the hospital's processes share; only their user can open it."""

    folder: Path

    @property
    def socket(self) -> Path:
        """Where the agent listens."""
        return self.folder / SOCKET

    @property
    def ready(self) -> Path:
        """Present while the agent can answer; it holds the public facts that the gateway enforces."""
        return self.folder / READY

    @property
    def stuck(self) -> Path:
        """Present when the SuperNode waits for a reply that will not come, and must be started anew."""
        return self.folder / STUCK


def close_memory() -> None:
    """Keep this process's memory from core dumps and from other processes of the same user."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(NOT_DUMPABLE, 0, 0, 0, 0)


def serve(hospital: Hospital, place: Place, bundle: str) -> None:
    """Answer message after message, for ever."""
    seal = Seal(hospital.scorer.shape, hospital.proposal.plan.mechanism.dtype)
    app = client_app(lambda _context: hospital)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        place.socket.unlink(missing_ok=True)
        listener.bind(str(place.socket))
        listener.listen()
        write_json(place.ready, {"shape": seal.shape.shape, "dtype": seal.dtype.str})
        told = len(hospital.ledger.events) if hospital.ledger else 0
        while True:
            line, _ = listener.accept()
            with line:
                if _same_user(line):
                    _handle(line, lambda runtime, token: answer_task(runtime, token, app, bundle, seal), place)
            told = _tell(hospital, told)


def _handle(line: socket.socket, answer: Callable[[str, str], None], place: Place) -> None:
    try:
        with line.makefile("rb") as lines:
            task = json.loads(lines.readline(4096))
        answer(task["runtime-api-address"], task["token"])
    except Exception as error:  # the agent outlives every message; what went wrong stays in the site's own log
        log.warning("a message could not be answered: %s", error)
        place.stuck.touch()
        word = b"failed\n"
    else:
        word = b"done\n"
    with suppress(OSError):  # whoever handed the message over may be gone
        line.sendall(word)


def _same_user(line: socket.socket) -> bool:
    """Say whether the process at the other end belongs to our user."""
    if not hasattr(socket, "SO_PEERCRED"):
        return True  # the folder's mode is what protects there
    _, user, _ = struct.unpack("3i", line.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i")))
    return bool(user == os.getuid())


def _tell(hospital: Hospital, told: int) -> int:
    """Say in the site's own log where the run and the budget stand, once a charge; return how many charges were told of."""
    if hospital.ledger and len(hospital.ledger.events) > told:
        told = len(hospital.ledger.events)
        event, delta = hospital.ledger.events[-1], hospital.policy.delta
        spent = epsilon_of(hospital.ledger.releases, delta)
        log.info(
            "round %d of %d is charged: epsilon %.3f of %g spent at delta %g, for ever",
            *(event.round, hospital.proposal.rounds, spent, hospital.policy.epsilon, delta),
        )
    return told


def run(site_file: Path, folder: Path, source: Source) -> int:
    """Open the hospital and serve; the source of randomness is an argument, and no file or option can name one."""
    close_memory()
    log_quietly()
    speak()
    try:
        site = load_site(site_file)
        hospital = open_hospital(site, Task.load(federation_of(site, site_file).task), source)
        log.info("%s is open: %d training patients, model loaded", site.site, hospital.pool.patients)
        serve(hospital, Place(folder), bundle_hash())
    except PromptwardError as error:
        print(f"promptward: {error}", file=sys.stderr)  # noqa: T201
        return 2 if isinstance(error, RefusedError) else error.exit_code  # trying again would not change the hospital's mind
    return 0


if __name__ == "__main__":
    sys.exit(run(Path(sys.argv[1]), Path(sys.argv[2]), SecureSource()))
