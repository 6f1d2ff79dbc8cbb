"""The one line from a hospital's edge to its coordinator: what is sent on it is in the transcript before."""

import logging
import threading
from collections.abc import Callable
from typing import Any

from client.fleet import Headers
from client.transcript import Transcript
from shared.errors import RefusedError

Forward = Callable[[str, bytes, Headers], bytes]
log = logging.getLogger("promptward.gateway")


class Line:
    """Sends calls through `forward`, which raises `grpc.RpcError` when the coordinator refuses or cannot be reached."""

    def __init__(self, forward: Forward, transcript: Transcript) -> None:
        """Send nothing yet."""
        self._forward, self._transcript = forward, transcript
        self._lock = threading.Lock()

    def send(self, call: str, raw: bytes, headers: Headers, payload: str | None = None) -> bytes:
        """Return the coordinator's answer to a call; `payload` names the ledger's payload that the call carries."""
        with self._lock:
            self._transcript.sent(call, raw, {name: len(value) for name, value in headers}, payload)
        return self._forward(call, raw, headers)

    def ask(self, call: str, request: Any, headers: Headers, kind: Any, payload: str | None = None) -> Any:
        """Send a protobuf request; return the answer as `kind`."""
        return kind.FromString(self.send(call, request.SerializeToString(), headers, payload))

    def delivered(self, payload: str) -> None:
        """Write down that the coordinator has taken all of a payload."""
        with self._lock:
            self._transcript.delivered(payload)

    def refuse(self, call: str, error: RefusedError) -> None:
        """Write down that something did not leave, or was not let in; the reason stays at the site."""
        log.warning("refused: %s", error)
        with self._lock:
            self._transcript.refused(call, str(error))

    def close(self) -> None:
        """Close the transcript."""
        with self._lock:
            self._transcript.close()
