"""The way to the coordinator: this hospital's key, the federation's certificate, the network, TLS, and Flower's first answer."""

import os
import socket
import ssl
from collections.abc import Iterator
from datetime import UTC, datetime

import grpc
from cryptography import x509
from flwr.proto import node_pb2, run_pb2

from client.checkup import Examined
from client.fleet import SERVICE
from client.site import FederationTable
from client.skew import BEHIND, TAKEN, skew
from shared.certificates import host_and_port, require_valid
from shared.clock import MEND as SET_CLOCK
from shared.clock import clock_findings
from shared.findings import Check, Finding
from shared.flower import signed
from shared.keys import read_site_key

PATIENCE = 5.0  # seconds for one answer of the network
SOON = 21  # days; a certificate that ends earlier is a warning
COMPARE = "compare [federation] address and certificate with your invitation; a proxy that opens TLS on the way looks like this too"
PROXIES = ("grpc_proxy", "https_proxy", "http_proxy")
STALE, STRANGER = "Invalid timestamp", "Invalid node ID"  # Flower 1.39's words (node_auth_server_interceptor.py)
NOBODY = 0  # no node has this id: Flower looks at the signature and goes no further


def link_checks(it: Examined) -> list[Check]:
    """Return the checks of the way to the coordinator."""
    return [
        Check("clock", lambda: clock_findings(datetime.now(UTC), _past(it))),
        Check("federation", lambda: _federation(it)),
        Check("key", lambda: _key(it), needs=("federation",)),
        Check("CA certificate", lambda: _authority(it), needs=("federation",)),
        Check("network", lambda: _network(it), needs=("federation",)),
        Check("TLS", lambda: _tls(it.federation), COMPARE, needs=("CA certificate", "network")),
        Check("coordinator", lambda: _coordinator(it), needs=("key", "TLS")),
    ]


def _past(it: Examined) -> dict[str, float]:
    """Return times that are surely past: the ledger's last charge, the site file's last change, the certificate's begin."""
    past = {f"the site file {it.file}": it.file.stat().st_mtime}
    if it.files.ledger.exists():
        past[f"the ledger {it.files.ledger}"] = it.files.ledger.stat().st_mtime
    if it.site.federation and it.site.federation.certificate.exists():
        past["the arrival of the CA certificate"] = it.site.federation.certificate.stat().st_mtime
    return past


def _federation(it: Examined) -> Iterator[Finding]:
    host_and_port(it.federation.address)
    yield Finding("federation", "ok", f"{it.file}: the coordinator is {it.federation.address}")


def _key(it: Examined) -> Iterator[Finding]:
    public = read_site_key(it.federation.key).public
    said = f"{it.federation.key}: P-384, this user's alone; fingerprint to compare by telephone: {public.fingerprint}"
    yield Finding("key", "ok", said)


def _authority(it: Examined) -> Iterator[Finding]:
    path, now = it.federation.certificate, datetime.now(UTC)
    found = require_valid(path, now)
    if not found.authority:
        yield Finding(
            "CA certificate", "wrong", f"{path}: this is a server's certificate and not the CA's", "name ca.crt of your invitation"
        )
        return
    said = f"{path}: ends in {found.days_left(now)} days, on {found.not_after:%Y-%m-%d}; fingerprint {found.fingerprint}"
    yield _by_days("CA certificate", said, found.days_left(now), "ask the coordinator for the next federation's certificate")


def _network(it: Examined) -> Iterator[Finding]:
    """Open a TCP connection, and say which part of the way is missing."""
    address = it.federation.address
    try:
        with socket.create_connection(host_and_port(address), timeout=PATIENCE):
            yield Finding("network", "ok", f"{address} takes a connection")
    except socket.gaierror as error:
        yield Finding(
            "network", "wrong", f"{address}: nobody knows this name ({error.strerror})", "correct [federation] address, or mend DNS"
        )
    except TimeoutError:
        said = f"{address}: no answer in {PATIENCE:.0f} seconds"
        yield Finding("network", "wrong", said, "open the firewall for this outgoing connection")
    except OSError as error:
        mend = "have the coordinator start promptward serve, or correct [federation] address"
        yield Finding("network", "wrong", f"{address}: {error.strerror or error}", mend)


def _tls(federation: FederationTable) -> Iterator[Finding]:
    """Let the coordinator prove itself, as the gateway will."""
    host, port = host_and_port(federation.address)
    trusted = ssl.create_default_context(cafile=str(federation.certificate))
    trusted.set_alpn_protocols(["h2"])
    try:
        with (
            socket.create_connection((host, port), timeout=PATIENCE) as bare,
            trusted.wrap_socket(bare, server_hostname=host) as line,
        ):
            shown, version = x509.load_der_x509_certificate(line.getpeercert(binary_form=True) or b""), line.version()
    except ssl.SSLCertVerificationError as error:
        said = f"{federation.address} does not prove to be the federation's coordinator ({error.verify_message})"
        yield Finding("TLS", "wrong", said, COMPARE)
        return
    except (ssl.SSLError, ConnectionError, TimeoutError) as error:
        said = f"{federation.address} does not answer in TLS ({getattr(error, 'reason', None) or error})"
        yield Finding("TLS", "wrong", said, "correct the port in [federation] address")
        return
    left = (shown.not_valid_after_utc - datetime.now(UTC)).days
    said = f"{version}: {host} has a certificate of {federation.certificate}, which ends in {left} days"
    yield _by_days("TLS", said, left, "remind the coordinator of promptward keys coordinator --renew")


def _coordinator(it: Examined) -> Iterator[Finding]:
    """Make one signed call as the gateway would, which Flower answers without doing anything, and compare the clocks by it."""
    key = read_site_key(it.federation.key).private
    node = int(it.files.node.read_text()) if it.files.node.exists() else NOBODY
    trusted = grpc.ssl_channel_credentials(it.federation.certificate.read_bytes())
    with grpc.secure_channel(it.federation.address, trusted) as channel:

        def ask(when: datetime, who: int) -> tuple[grpc.StatusCode, str]:
            raw = run_pb2.GetRunRequest(node=node_pb2.Node(node_id=who)).SerializeToString()
            try:
                channel.unary_unary(f"{SERVICE}GetRun")(raw, metadata=signed(key, when), timeout=PATIENCE)
            except grpc.RpcError as error:
                return error.code(), error.details() or ""
            return grpc.StatusCode.OK, ""

        code, words = ask(datetime.now(UTC), NOBODY)
        if code != grpc.StatusCode.UNAUTHENTICATED:
            yield _unexpected(it.federation, code, words)
            return
        yield Finding(
            "coordinator", "ok", "Flower's Fleet API answers a signed call (it was sent this site's public key and the time)"
        )
        yield _clocks(skew(lambda when: ask(when, NOBODY)[1] != STALE))
        if node != NOBODY and words != STALE:
            yield _known(node, ask(datetime.now(UTC), node)[1])


def _unexpected(federation: FederationTable, code: grpc.StatusCode, words: str) -> Finding:
    """Say what an answer means that is not Flower's refusal of a node that nobody is."""
    proxies = [name for name in PROXIES if os.environ.get(name) or os.environ.get(name.upper())]
    if code in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED):
        mend = (
            f"gRPC goes through the proxy of {proxies[0]}; name the coordinator in no_proxy"
            if proxies
            else "is a firewall cutting HTTP/2?"
        )
        return Finding("coordinator", "wrong", f"{federation.address}: no answer to a gRPC call ({words})", mend)
    if code == grpc.StatusCode.UNIMPLEMENTED:
        return Finding(
            "coordinator", "wrong", f"{federation.address} is no Fleet API of Flower", "correct the port in [federation] address"
        )
    said = f"{federation.address} answers a call of nobody with {code.name}: it does not ask who calls"
    return Finding("coordinator", "wrong", said, "the coordinator must run promptward serve, which asks for every hospital's key")


def _clocks(seconds: float | None) -> Finding:
    if seconds is None:
        return Finding("clocks", "wrong", "the coordinator's clock and this machine's are far apart", SET_CLOCK)
    said = f"the coordinator's clock is {abs(seconds):.1f} seconds {'ahead of' if seconds >= 0 else 'behind'} this machine's"
    if not -BEHIND < seconds < TAKEN:
        return Finding("clocks", "wrong", f"{said}; it refuses every call of this site", SET_CLOCK)
    if not -BEHIND / 2 < seconds < TAKEN / 10:
        return Finding("clocks", "warning", f"{said}; it takes calls from {BEHIND:g} behind to {TAKEN:g} ahead", SET_CLOCK)
    return Finding("clocks", "ok", f"{said}; it takes calls from {BEHIND:g} behind to {TAKEN:g} ahead")


def _known(node: int, words: str) -> Finding:
    if words == STRANGER:
        said = f"the coordinator does not know this site's key as node {node}, as it did before"
        return Finding(
            "admitted", "warning", said, "ask whether the public key is still admitted; a new run directory is a reason too"
        )
    return Finding("admitted", "ok", f"the coordinator knows this site's key as node {node}")


def _by_days(check: str, said: str, left: int, mend: str) -> Finding:
    return Finding(check, "warning", said, mend) if left < SOON else Finding(check, "ok", said)
