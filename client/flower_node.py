"""Flower's SuperNode at a hospital: how it is started, and how a message's task is taken from it and answered.

The SuperNode starts a command by name for every message. The first folder of its PATH is ours: `flwr-clientapp` there hands the
message to the resident agent, and every other command that a coordinator could ask for refuses. The app bundle is never
unpacked. This file depends on Flower 1.39's insides.
"""

import hashlib
import logging
import os
import shlex
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from flwr.app import Context, Message
from flwr.clientapp import ClientApp
from flwr.common.constant import SubStatus
from flwr.proto.runtime_pb2 import SendTaskHeartbeatRequest
from flwr.supercore.constant import TASK_TYPE_TO_COMMAND, TaskType
from flwr.supercore.interceptors import RuntimeTokenHttpInterceptor, RuntimeVersionHttpInterceptor
from flwr.supercore.retry import make_simple_http_retry_invoker
from flwr.supercore.runtime import RuntimeHttpClient
from flwr.supernode.runtime.run_clientapp import pull_task_input, push_message, push_task_output

from client.gate import Seal
from shared import SILENT
from shared.errors import RefusedError

OURS = TASK_TYPE_TO_COMMAND[TaskType.CLIENT_APP]
REFUSED = sorted(set(TASK_TYPE_TO_COMMAND.values()) - {OURS})
BEAT = 10.0  # seconds between two signs of life to the SuperNode
log = logging.getLogger("promptward.site")


def write_commands(folder: Path, agent_socket: Path) -> None:
    """Write the commands that the SuperNode will find first on its PATH."""
    folder.mkdir(mode=0o700)
    python, script = shlex.quote(sys.executable), shlex.quote(str(Path(__file__).with_name("handover.py")))
    _write_command(folder / OURS, f'exec {python} -I -S {script} {shlex.quote(str(agent_socket))} "$@"')
    for name in REFUSED:
        _write_command(folder / name, f"echo 'promptward: refused: a hospital runs no {name}' >&2; exit 1")


def _write_command(path: Path, line: str) -> None:
    path.write_text(f"#!/bin/sh\n{line}\n")
    path.chmod(0o700)


def environment(commands: Path, home: Path) -> Mapping[str, str]:
    """Return the environment of the hospital's processes: nothing phones home, nothing is loaded from a working directory."""
    path = os.pathsep.join([str(commands), str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    fast = {"FLWR_SUPEREXEC_TASK_POLL_INTERVAL": "0.05", "FLWR_LOG_LEVEL": "WARNING"}
    return os.environ | SILENT | fast | {"PATH": path, "FLWR_HOME": str(home), "PYTHONSAFEPATH": "1"}


def node_command(gateway: str, runtime: str, certificate: Path, key: Path) -> list[str]:
    """Return the command that starts the SuperNode, with the gateway as its coordinator."""
    host, port = runtime.rsplit(":", 1)
    return [
        *("flower-supernode", "--superlink", gateway, "--root-certificates", str(certificate)),
        *("--auth-supernode-private-key", str(key), "--host", host, "--port", port),
    ]


def answer_task(runtime: str, token: str, app: ClientApp, bundle: str, seal: Seal) -> None:
    """Take the message that a token stands for, answer it, and hand the reply to the SuperNode.

    Args:
        runtime: HOST:PORT of the SuperNode's Runtime API, on loopback.
        token: of this task.
        app: answers the message; what it raises is not sent.
        bundle: SHA-256 that the run's app bundle must have.
        seal: the last look at a reply before Flower gets it.
    """
    client = RuntimeHttpClient.from_server_address(
        server_address=runtime,
        insecure=True,
        root_certificates=None,
        interceptors=[RuntimeVersionHttpInterceptor(component_name=OURS), RuntimeTokenHttpInterceptor(token)],
        retry_invoker=make_simple_http_retry_invoker(),
    )
    try:
        with _signs_of_life(client):
            message, context, run, fab = pull_task_input(client)
            if not run.fab_hash == hashlib.sha256(fab.content).hexdigest() == bundle:
                raise RefusedError("the run's app bundle is not the pinned one")
            push_message(client, seal.checked(_answer(app, message, context), message), context)
            push_task_output(client, context, SubStatus.COMPLETED, "")
    finally:
        client.close()


def _answer(app: ClientApp, message: Message, context: Context) -> Message:
    """Call the app with a context that carries nothing of the run: no setting of the coordinator reaches it."""
    context.run_config = {}
    reply: Message = app(message, context)
    return reply


@contextmanager
def _signs_of_life(client: Any) -> Iterator[None]:
    """Tell the SuperNode that the task is being worked on; Flower's own sender would end this process when it is not believed."""
    done = threading.Event()

    def beat() -> None:
        while not done.wait(BEAT):
            try:
                client.SendTaskHeartbeat(SendTaskHeartbeatRequest())
            except Exception as error:  # the next beat may do better
                log.debug("a sign of life did not arrive: %s", error)

    thread = threading.Thread(target=beat, daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
