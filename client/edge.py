"""The gateway's process: a gRPC server on loopback for the hospital's SuperNode, and one TLS channel to the coordinator.

Started by `promptward join` as ``python -m client.edge SETTINGS.json``; it loads neither the model nor any patient.
"""

import json
import logging
import signal
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import grpc
import numpy as np

from client.chain import Chain, read_chain
from client.fleet import SERVICE, Headers, Terms
from client.gateway import Gateway, Identity
from client.line import Line
from client.transcript import Transcript
from shared.errors import RefusedError
from shared.logs import speak

LONGEST = 60.0  # seconds that one call to the coordinator may take
UNLIMITED = (("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1))
log = logging.getLogger("promptward.gateway")


@dataclass(frozen=True)
class Settings:
    """What the gateway is started with; no secret is among it.

    Attributes:
        listen: 127.0.0.1:PORT for the SuperNode.
        server_certificate, server_key: PEM files for that port.
        coordinator: HOST:PORT.
        certificate: the federation's CA certificate, PEM file. There is no way without TLS.
        public_key: of this site, hex of what Flower sends.
        shape, dtype: of the one tensor.
        bundle: SHA-256 of the app bundle.
        ledger, transcript, node: files.
    """

    listen: str
    server_certificate: str
    server_key: str
    coordinator: str
    certificate: str
    public_key: str
    shape: tuple[int, ...]
    dtype: str
    bundle: str
    ledger: str
    transcript: str
    node: str

    def save(self, path: Path) -> None:
        """Write the settings for the process that is about to start."""
        path.write_text(json.dumps(asdict(self), indent=2))

    @classmethod
    def load(cls, path: Path) -> "Settings":
        """Read what `save` wrote."""
        raw = json.loads(path.read_text())
        return cls(**raw | {"shape": tuple(raw["shape"])})


class _Edge(grpc.GenericRpcHandler):  # type: ignore[misc]  # grpcio is untyped
    """Hands every call's raw bytes to the gateway, and its refusals back as PERMISSION_DENIED without a reason."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway

    def service(self, details: Any) -> Any:
        """Return the handler of one call, whatever its name is."""

        def answer(raw: bytes, context: Any) -> bytes:
            try:
                return self._gateway.call(details.method.removeprefix(SERVICE), raw, context.invocation_metadata())
            except RefusedError:
                context.abort(grpc.StatusCode.PERMISSION_DENIED, "refused by this site's gateway; see its log")
            except grpc.RpcError as error:
                context.abort(error.code(), error.details() or "")
            raise AssertionError  # abort raises

        return grpc.unary_unary_rpc_method_handler(answer)


def serve(settings: Settings, stop: threading.Event) -> None:
    """Run the gateway until `stop` is set."""
    trusted = grpc.ssl_channel_credentials(Path(settings.certificate).read_bytes())
    channel = grpc.secure_channel(settings.coordinator, trusted, options=UNLIMITED)

    def forward(call: str, raw: bytes, headers: Headers) -> bytes:
        return bytes(channel.unary_unary(SERVICE + call)(raw, metadata=headers, timeout=LONGEST))

    line = Line(forward, Transcript(Chain(Path(settings.transcript))))
    gateway = Gateway(_terms(settings), _identity(settings), line, lambda: not stop.is_set())
    server = grpc.server(ThreadPoolExecutor(8), handlers=(_Edge(gateway),), options=UNLIMITED)
    pair = (Path(settings.server_key).read_bytes(), Path(settings.server_certificate).read_bytes())
    server.add_secure_port(settings.listen, grpc.ssl_server_credentials((pair,)))
    server.start()
    log.info("the gateway listens on %s for this site's SuperNode", settings.listen)
    stop.wait()
    server.stop(1.0).wait()
    line.close()


def _terms(settings: Settings) -> Terms:
    ledger = Path(settings.ledger)

    def paid(payload: str) -> bool:
        return any(entry.body.get("payload") == payload for entry in read_chain(ledger))

    return Terms(settings.shape, np.dtype(settings.dtype), settings.bundle, paid)


def _identity(settings: Settings) -> Identity:
    file = Path(settings.node)

    def remembered() -> int | None:
        return int(file.read_text()) if file.exists() else None

    def remember(node: int) -> None:
        file.write_text(str(node))

    return Identity(bytes.fromhex(settings.public_key), remember, remembered)


def main() -> None:
    """Run as a process, until it is told to end."""
    speak("gateway")
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    serve(Settings.load(Path(sys.argv[1])), stop)


if __name__ == "__main__":
    main()
