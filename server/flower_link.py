"""Flower's SuperLink at the coordinator: how it is started, and what its Control API is asked.

The Control API has no authentication of its own: it listens on loopback only. This file depends on Flower 1.39's insides.
"""

import os
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import httpx
from flwr.common.serde import fab_to_proto
from flwr.proto.control_pb2 import (
    ListNodesRequest,
    ListRunsRequest,
    RegisterNodeRequest,
    StartRunRequest,
    StopRunRequest,
    UnregisterNodeRequest,
)
from flwr.supercore.constant import NodeStatus
from flwr.supercore.control import ControlHttpClient
from flwr.supercore.fab import Fab
from flwr.supercore.interceptors import RuntimeVersionHttpInterceptor

from server.credentials import Credentials
from server.deployment import FOLDER
from shared import SILENT
from shared.bundle import bundle, bundle_hash
from shared.errors import RunError
from shared.keys import PublicKey

STARTING = 60.0  # seconds that the SuperLink may take to answer


def link_command(keys: Credentials, fleet: str, control: str, database: Path) -> list[str]:
    """Return the command that starts the SuperLink.

    Args:
        keys: certificate and key for both of its ports.
        fleet: HOST:PORT that the hospitals reach.
        control: HOST:PORT on loopback.
        database: file that keeps nodes and runs over restarts.
    """
    host, port = control.rsplit(":", 1)
    return [
        *("flower-superlink", "--ssl-ca-certfile", str(keys.authority)),
        *("--ssl-certfile", str(keys.certificate), "--ssl-keyfile", str(keys.key)),
        *("--enable-supernode-auth", "--fleet-api-address", fleet, "--host", host, "--port", port),
        *("--database", str(database), "--disable-runtime-dependency-installation"),
    ]


def link_environment(run: Path, home: Path) -> Mapping[str, str]:
    """Return the SuperLink's environment: nothing phones home, and the ServerApp finds the run directory."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    fast = {"FLWR_SUPEREXEC_TASK_POLL_INTERVAL": "0.1", "FLWR_LOG_LEVEL": "WARNING"}
    return os.environ | SILENT | fast | {"PATH": path, "FLWR_HOME": str(home), "PYTHONSAFEPATH": "1", FOLDER: str(run)}


class Control:
    """The SuperLink's Control API, as `serve` needs it."""

    def __init__(self, address: str, authority: Path) -> None:
        """Connect at the first call."""
        self._client = ControlHttpClient.from_server_address(
            server_address=address,
            insecure=False,
            root_certificates=authority.read_bytes(),
            interceptors=[RuntimeVersionHttpInterceptor(component_name="promptward")],
        )

    def wait(self, alive: Callable[[], bool]) -> None:
        """Return when the SuperLink answers; raise `RunError` when it does not, or has ended: `alive` says whether it runs."""
        give_up = time.monotonic() + STARTING
        while True:
            try:
                self.nodes()
            except httpx.HTTPError as error:
                if not alive():
                    raise RunError(
                        "Flower's SuperLink has ended; is the address in use? See flower.log in the run directory."
                    ) from None
                if time.monotonic() > give_up:
                    raise RunError(f"Flower's SuperLink does not answer ({error}); see flower.log in the run directory.") from None
                time.sleep(0.2)
            else:
                return

    def nodes(self) -> list[Any]:
        """Return what the SuperLink knows of each registered node."""
        return list(self._client.ListNodes(ListNodesRequest()).nodes_info)

    def register(self, sites: Mapping[str, PublicKey]) -> dict[str, int]:
        """Register the sites' public keys, and take every other key off; return each site's node id."""
        wanted, known = {key.pem for key in sites.values()}, set()
        for node in self.nodes():
            if node.status == NodeStatus.UNREGISTERED:
                continue
            if node.public_key in wanted:
                known.add(node.public_key)
            else:
                self._client.UnregisterNode(UnregisterNodeRequest(node_id=node.node_id))
        for name, key in sites.items():
            if key.pem not in known:
                self._client.RegisterNode(RegisterNodeRequest(public_key=key.pem, name=name))
        ids = {node.public_key: int(node.node_id) for node in self.nodes() if node.status != NodeStatus.UNREGISTERED}
        return {name: ids[key.pem] for name, key in sites.items()}

    def start_run(self) -> int:
        """Start a run of our bundle, without any setting; return Flower's number of it."""
        app = fab_to_proto(Fab(bundle_hash(), bundle(), {}))
        return int(self._client.StartRun(StartRunRequest(fab=app)).run_id)

    def status(self, run: int) -> str:
        """Return a run's status as `running`, `finished:completed`, `finished:failed`, ..."""
        found = self._client.ListRuns(ListRunsRequest(run_id=run)).run_dict[run].status
        return ":".join(part for part in (found.status, found.sub_status) if part)

    def stop_run(self, run: int) -> None:
        """End a run."""
        self._client.StopRun(StopRunRequest(run_id=run))

    def close(self) -> None:
        """Close the connection."""
        self._client.close()
