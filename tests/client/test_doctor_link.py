"""`promptward doctor site` on the way to the coordinator: real listeners on loopback, and the arithmetic of two clocks."""

import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from client.skew import skew
from shared.certificates import make_authority, make_server
from shared.findings import Finding
from simulations.loopback import World
from tests.client.test_doctor import edit, look, world

__all__ = ["world"]  # a fixture


@contextmanager
def listening(wrap: Callable[[socket.socket], socket.socket], host: str = "127.0.0.1") -> Iterator[int]:
    """A TCP listener that lets `wrap` say what it speaks, and closes every line afterwards."""
    stop = threading.Event()
    with socket.create_server((host, 0)) as server:
        server.settimeout(0.1)

        def serve() -> None:
            while not stop.is_set():
                try:
                    line, _ = server.accept()
                    line.settimeout(2)
                    wrap(line).close()
                except OSError:
                    continue

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield server.getsockname()[1]
        finally:
            stop.set()
            thread.join()


def speaks_tls(certificate: Path, key: Path) -> Callable[[socket.socket], socket.socket]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    return lambda line: context.wrap_socket(line, server_side=True)


def speaks_words(line: socket.socket) -> socket.socket:
    line.sendall(b"220 hello\r\n")
    return line


def at(world: World, port: int, host: str = "127.0.0.1") -> dict[str, Finding]:
    edit(f'"127.0.0.1:{world.port}"', f'"{host}:{port}"')(world)
    return {finding.check: finding for finding in look(world)}


def test_a_coordinator_of_another_authority_does_not_prove_itself(world: World, tmp_path: Path) -> None:
    now = datetime.now(UTC)
    foreign = make_server(make_authority(now), ("127.0.0.1",), 30, now)
    (tmp_path / "crt").write_bytes(foreign.certificate_pem)
    (tmp_path / "key").write_bytes(foreign.key_pem)
    with listening(speaks_tls(tmp_path / "crt", tmp_path / "key")) as port:
        found = at(world, port)
    assert found["network"].state == "ok"
    assert found["TLS"].state == "wrong"
    assert "does not prove to be the federation's coordinator" in found["TLS"].said
    assert "compare [federation] address and certificate with your invitation" in found["TLS"].mend
    assert found["coordinator"].said == "not looked at"


def test_a_certificate_for_another_host(world: World, tmp_path: Path) -> None:
    with listening(speaks_tls(world.keys / "server.crt", world.keys / "server.key"), "127.0.0.2") as port:
        found = at(world, port, "127.0.0.2")
    assert "IP address mismatch" in found["TLS"].said


def test_a_port_that_speaks_something_else(world: World) -> None:
    with listening(speaks_words) as port:
        found = at(world, port)
    assert "does not answer in TLS" in found["TLS"].said
    assert "correct the port" in found["TLS"].mend


def test_a_port_that_speaks_tls_and_no_grpc(world: World, tmp_path: Path) -> None:
    with listening(speaks_tls(world.keys / "server.crt", world.keys / "server.key")) as port:
        found = at(world, port)
    assert found["TLS"].state == "ok"
    assert "no answer to a gRPC call" in found["coordinator"].said


@pytest.mark.parametrize("ahead", [0.0, -4.0, 3.0, 120.0, 304.0, -60.0, 3000.0, 7200.0, -5.5 * 3600, None])
def test_the_clocks_are_compared_by_which_times_are_taken(ahead: float | None) -> None:
    now = datetime(2027, 1, 1, tzinfo=UTC)

    def takes(when: datetime) -> bool:
        return ahead is not None and -5 < (now + timedelta(seconds=ahead) - when).total_seconds() < 305

    found = skew(takes, lambda: now)
    assert found == (None if ahead is None else pytest.approx(ahead, abs=0.3))
