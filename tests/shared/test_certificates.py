"""Certificates by a real TLS handshake on loopback, and by what readers of their files say."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import grpc
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from shared.certificates import (
    Issued,
    host_and_port,
    make_authority,
    make_server,
    read_certificate,
    read_issued,
    read_pem_key,
    require_issued_by,
    require_valid,
)
from shared.errors import InputError
from shared.files import write_private

NOW = datetime.now(UTC)
HANDSHAKE_DONE, HANDSHAKE_FAILED = grpc.StatusCode.UNIMPLEMENTED, grpc.StatusCode.UNAVAILABLE


@pytest.fixture(scope="module")
def authority() -> Issued:
    return make_authority(NOW)


@pytest.fixture(scope="module")
def server(authority: Issued) -> Issued:
    return make_server(authority, ("Hub.example.org", "10.0.0.5"), 30, NOW)


@pytest.fixture
def folder(tmp_path: Path, authority: Issued, server: Issued) -> Path:
    for name, issued in (("ca", authority), ("server", server)):
        (tmp_path / f"{name}.crt").write_bytes(issued.certificate_pem)
        write_private(tmp_path / f"{name}.key", issued.key_pem)
    return tmp_path


@contextmanager
def listening(key: bytes, chain: bytes) -> Iterator[int]:
    with ThreadPoolExecutor(1) as pool:
        listener = grpc.server(pool)
        credentials = grpc.ssl_server_credentials([(key, chain)])
        port = listener.add_secure_port("127.0.0.1:0", credentials)
        listener.start()
        try:
            yield port
        finally:
            listener.stop(None).wait()


def called(port: int, authority: Issued, host: str = "127.0.0.1", name: str | None = None) -> grpc.StatusCode:
    """Call a method that is not there: only a client that trusts the server hears so."""
    options = [("grpc.ssl_target_name_override", name)] if name else []
    credentials = grpc.ssl_channel_credentials(authority.certificate_pem)
    with grpc.secure_channel(f"{host}:{port}", credentials, options=options) as channel:
        try:
            channel.unary_unary("/promptward/Nothing")(b"", timeout=20)
        except grpc.RpcError as error:
            return error.code()
    raise AssertionError("a method that is not there answered")


def test_a_client_with_the_ca_trusts_the_server_by_its_names_only(authority: Issued, server: Issued) -> None:
    with listening(server.key_pem, server.certificate_pem) as port:
        assert called(port, authority) == HANDSHAKE_DONE
        assert called(port, authority, host="localhost") == HANDSHAKE_DONE
        assert called(port, authority, name="hub.example.org") == HANDSHAKE_DONE
        assert called(port, authority, name="10.0.0.5") == HANDSHAKE_DONE
        assert called(port, authority, name="other.example.org") == HANDSHAKE_FAILED
        assert called(port, authority, name="10.0.0.6") == HANDSHAKE_FAILED


def test_a_client_with_another_ca_does_not(server: Issued) -> None:
    with listening(server.key_pem, server.certificate_pem) as port:
        assert called(port, make_authority(NOW)) == HANDSHAKE_FAILED


def test_a_server_whose_certificate_has_ended_is_not_trusted(authority: Issued) -> None:
    ended = make_server(authority, ("localhost",), 1, NOW - timedelta(days=2))
    with listening(ended.key_pem, ended.certificate_pem) as port:
        assert called(port, authority) == HANDSHAKE_FAILED


def test_a_server_certificate_cannot_sign_another(server: Issued, authority: Issued) -> None:
    rogue = make_server(server, ("localhost",), 1, NOW)
    with listening(rogue.key_pem, rogue.certificate_pem + server.certificate_pem) as port:
        assert called(port, authority) == HANDSHAKE_FAILED


def test_a_renewed_certificate_serves_the_same_hospitals(authority: Issued, server: Issued) -> None:
    renewed = make_server(authority, ("localhost",), 60, NOW, server.key)
    assert renewed.key_pem == server.key_pem
    assert renewed.facts.fingerprint != server.facts.fingerprint
    with listening(renewed.key_pem, renewed.certificate_pem) as port:
        assert called(port, authority) == HANDSHAKE_DONE


def test_what_a_certificate_says(folder: Path) -> None:
    server, authority = read_certificate(folder / "server.crt"), read_certificate(folder / "ca.crt")
    assert server.names == ("hub.example.org", "10.0.0.5", "localhost", "127.0.0.1", "::1")
    assert (server.authority, authority.authority) == (False, True)
    assert server.days_left(NOW) == 29
    assert server.days_left(NOW + timedelta(days=31)) < 0
    assert [server.covers(host) for host in ("HUB.example.org", "::1", "0:0::1", "example.org", "10.0.0.50")] == [True] * 3 + [
        False
    ] * 2
    assert not authority.covers("Promptward federation CA")


def test_the_extensions_are_those_of_an_authority_and_of_a_server(authority: Issued, server: Issued) -> None:
    basic = authority.certificate.extensions.get_extension_for_class(x509.BasicConstraints)
    assert (basic.critical, basic.value.ca, basic.value.path_length) == (True, True, 0)
    usage = authority.certificate.extensions.get_extension_for_class(x509.KeyUsage).value
    assert (usage.key_cert_sign, usage.crl_sign, usage.digital_signature) == (True, True, False)
    assert [str(use._name) for use in server.certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value] == [
        "serverAuth"
    ]
    assert server.certificate.extensions.get_extension_for_class(x509.KeyUsage).value.digital_signature
    with pytest.raises(x509.ExtensionNotFound):
        authority.certificate.extensions.get_extension_for_class(x509.NameConstraints)


@pytest.mark.parametrize(
    "host", ["", "https://x", "a:9092", "a b", "*.example.org", "-a.org", "1.2.3", "münchen.de", "a..b", "a" * 64]
)
def test_what_is_no_host_is_refused(authority: Issued, host: str) -> None:
    with pytest.raises(InputError, match="give a DNS name or an IP address alone"):
        make_server(authority, (host,), 30, NOW)


@pytest.mark.parametrize("host", ["0.0.0.0", "::"])  # noqa: S104
def test_an_address_that_nobody_can_call_is_refused(authority: Issued, host: str) -> None:
    with pytest.raises(InputError, match="give the name that hospitals use"):
        make_server(authority, (host,), 30, NOW)


@pytest.mark.parametrize("days", [0, -1, 3651])
def test_a_certificate_ends_before_its_authority(authority: Issued, days: int) -> None:
    with pytest.raises(InputError, match=rf"--days {days}: give a number between 1 and 36(49|50)"):
        make_server(authority, ("localhost",), days, NOW)


@pytest.mark.parametrize(
    ("address", "split"),
    [
        ("a.org:1", ("a.org", 1)),
        ("10.0.0.5:65535", ("10.0.0.5", 65535)),
        ("[::1]:9092", ("::1", 9092)),
        ("localhost:9092", ("localhost", 9092)),
    ],
)
def test_addresses(address: str, split: tuple[str, int]) -> None:
    assert host_and_port(address) == split


@pytest.mark.parametrize(
    "address",
    ["", "a.org", "a.org:", ":9092", "a.org:0", "a.org:65536", "a.org:x", "a.org:9²", "::1:9092", "http://a:1", "0.0.0.0:1"],
)
def test_what_is_no_address_is_refused(address: str) -> None:
    with pytest.raises(InputError, match=r"^(address|host) '"):
        host_and_port(address)


def test_files_that_belong_together(folder: Path, server: Issued) -> None:
    assert read_issued(folder / "server.crt", folder / "server.key").facts == server.facts
    require_issued_by(folder / "server.crt", folder / "ca.crt")
    with pytest.raises(InputError, match=r"ca.key: this key does not belong to .*server.crt"):
        read_issued(folder / "server.crt", folder / "ca.key")
    (folder / "other.crt").write_bytes(make_authority(NOW).certificate_pem)
    with pytest.raises(InputError, match=r"server.crt: this was not issued by .*other.crt"):
        require_issued_by(folder / "server.crt", folder / "other.crt")


def test_validity_is_said_with_its_dates(folder: Path) -> None:
    assert require_valid(folder / "server.crt", NOW).names
    with pytest.raises(
        InputError, match=r"server.crt: this ended on 20..-..-..; the coordinator runs promptward keys coordinator --renew"
    ):
        require_valid(folder / "server.crt", NOW + timedelta(days=31))
    with pytest.raises(InputError, match=r"ca.crt: this ended on .*makes a new federation"):
        require_valid(folder / "ca.crt", NOW + timedelta(days=3651))
    assert require_valid(folder / "ca.crt", NOW - timedelta(minutes=50)).authority  # a hospital's clock may run behind
    with pytest.raises(InputError, match="set the clock"):
        require_valid(folder / "ca.crt", NOW - timedelta(hours=2))


def test_what_is_no_certificate_or_key_is_refused(folder: Path) -> None:
    with pytest.raises(InputError, match=r"server.key: this is no certificate in PEM"):
        read_certificate(folder / "server.key")
    (folder / "server.crt").chmod(0o600)
    with pytest.raises(InputError, match=r"server.crt: this is no unencrypted private key in PEM"):
        read_pem_key(folder / "server.crt")
    (folder / "server.key").chmod(0o640)
    with pytest.raises(InputError, match=r"server.key: others .* chmod 600"):
        read_issued(folder / "server.crt", folder / "server.key")
    other = rsa.generate_private_key(65537, 2048).private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    write_private(folder / "rsa.key", other)
    with pytest.raises(InputError, match=r"rsa.key: this is not an elliptic-curve key"):
        read_pem_key(folder / "rsa.key")
