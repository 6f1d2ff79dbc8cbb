"""TLS certificates: a federation's own authority (CA), and the server certificate that hospitals check by it."""

import ipaddress
import re
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA384
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from shared.errors import InputError
from shared.files import read_bytes, read_private
from shared.keys import CURVE, fingerprint

EVERYWHERE = ("0.0.0.0", "::")  # noqa: S104 (named, not listened on): every address of a machine: a server listens there, nobody can call it
AUTHORITY_DAYS = 3650
HERE = ("localhost", "127.0.0.1", "::1")  # the coordinator's own programs speak to the server by these
SLOW_CLOCK = timedelta(hours=1)  # certificates begin earlier by this, for a hospital whose clock runs behind
HOST = re.compile(
    r"(?=.{1,253}$)([A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?\.)*(?![0-9]+$)[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
)


@dataclass(frozen=True)
class Certificate:
    """What a certificate says.

    Attributes:
        names: the hosts that it is for; of an authority, its own name.
        not_before: when it begins, UTC.
        not_after: when it ends, UTC.
        fingerprint: SHA-256 of the DER bytes in groups of four, as `openssl x509 -fingerprint -sha256` has it with colons.
        authority: whether it may sign others.
    """

    names: tuple[str, ...]
    not_before: datetime
    not_after: datetime
    fingerprint: str
    authority: bool

    def covers(self, host: str) -> bool:
        """Say whether a server at `host`, a DNS name or an IP address, may show this certificate."""
        return not self.authority and _plain(host) in {_plain(name) for name in self.names}

    def days_left(self, now: datetime) -> int:
        """Return the whole days until it ends; below zero when it has ended."""
        return (self.not_after - now).days


@dataclass(frozen=True)
class Issued:
    """A certificate with its private key."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey = field(repr=False)

    @property
    def facts(self) -> Certificate:
        """What the certificate says."""
        return _facts(self.certificate)

    @property
    def certificate_pem(self) -> bytes:
        """The certificate's file; public."""
        return self.certificate.public_bytes(Encoding.PEM)

    @property
    def key_pem(self) -> bytes:
        """The private key's file, PKCS #8, unencrypted."""
        return self.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def make_authority(now: datetime) -> Issued:
    """Return a new authority that may sign server certificates and no further authority, good for ten years."""
    key = ec.generate_private_key(CURVE())
    name = _named("Promptward federation CA")
    begun = _begun(name, name, key, now, AUTHORITY_DAYS)
    usage = begun.add_extension(_usage(signs=True), critical=True)
    built = usage.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
    return Issued(built.sign(key, SHA384()), key)


def make_server(
    authority: Issued, hosts: tuple[str, ...], days: int, now: datetime, key: ec.EllipticCurvePrivateKey | None = None
) -> Issued:
    """Return a server certificate for `hosts` and this machine itself, with a new key unless one is given.

    Raises `InputError` for a host that is no DNS name or IP address, and for days that the authority does not last.
    """
    left = authority.facts.days_left(now)
    if not 1 <= days <= left:
        raise InputError(f"--days {days}: give a number between 1 and {left}, when the federation's CA ends.")
    key = key or ec.generate_private_key(CURVE())
    built = _begun(_named("Promptward coordinator"), authority.certificate.subject, key, now, days)
    names = list(dict.fromkeys(_alternative(host) for host in (*hosts, *HERE)))
    extensions: tuple[tuple[x509.ExtensionType, bool], ...] = (
        (_usage(signs=False), True),
        (x509.BasicConstraints(ca=False, path_length=None), True),
        (x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), False),
        (x509.SubjectAlternativeName(names), False),
        (x509.AuthorityKeyIdentifier.from_issuer_public_key(authority.key.public_key()), False),
    )
    for extension, critical in extensions:
        built = built.add_extension(extension, critical)
    return Issued(built.sign(authority.key, SHA384()), key)


def read_certificate(path: Path) -> Certificate:
    """Read what a certificate says; raise `InputError` when the file is no PEM certificate."""
    return _facts(_load(path))


def read_issued(certificate: Path, key: Path) -> Issued:
    """Read a certificate with its private key.

    Raises `InputError`: a missing file, a key that others can read, or two files that do not belong together.
    """
    loaded, private = _load(certificate), read_pem_key(key)
    if loaded.public_key() != private.public_key():
        raise InputError(f"{key}: this key does not belong to {certificate}; put back the two that were made together.")
    return Issued(loaded, private)


def read_pem_key(path: Path) -> ec.EllipticCurvePrivateKey:
    """Read a certificate's private key; raise `InputError` when others can read it or it is not an EC key in PEM."""
    content = read_private(path)
    try:
        key = load_pem_private_key(content, password=None)
    except (ValueError, TypeError):
        raise InputError(f"{path}: this is no unencrypted private key in PEM; put back what promptward keys made.") from None
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise InputError(f"{path}: this is not an elliptic-curve key; put back what promptward keys made.")
    return key


def require_issued_by(path: Path, authority: Path) -> None:
    """Return when the certificate at `path` was signed by the one at `authority`; raise `InputError` when it was not."""
    try:
        _load(path).verify_directly_issued_by(_load(authority))
    except (ValueError, TypeError, InvalidSignature):
        raise InputError(f"{path}: this was not issued by {authority}; put back the two that were made together.") from None


def require_valid(path: Path, now: datetime) -> Certificate:
    """Return what the certificate says when it is valid at `now` (UTC); raise `InputError` with the dates when it is not."""
    found = read_certificate(path)
    if now < found.not_before:
        times = f"from {found.not_before:%Y-%m-%d %H:%M} UTC, and this machine says {now:%Y-%m-%d %H:%M}"
        raise InputError(f"{path}: this is valid {times}; set the clock.")
    if now > found.not_after:
        mend = "makes a new federation" if found.authority else "runs promptward keys coordinator --renew"
        raise InputError(f"{path}: this ended on {found.not_after:%Y-%m-%d}; the coordinator {mend}.")
    return found


def host_and_port(address: str) -> tuple[str, int]:
    """Split ``HOST:PORT``, an IPv6 host in brackets; raise `InputError` for anything else.

    >>> host_and_port("coordinator.example.org:9092"), host_and_port("[::1]:9092")
    (('coordinator.example.org', 9092), ('::1', 9092))
    """
    host, _, port = address.rpartition(":")
    bare = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    if not port.isascii() or not port.isdigit() or not 1 <= int(port) <= 65535 or (":" in host and bare == host):
        raise InputError(f"address '{address}': give HOST:PORT, such as coordinator.example.org:9092 or [::1]:9092.")
    _alternative(bare)
    return bare, int(port)


def listening_at(address: str) -> tuple[str, int]:
    """Split the HOST:PORT that `serve` listens at, where the host may be every address; raise `InputError` for anything else.

    >>> listening_at("0.0.0.0:9092"), listening_at("[::]:9092"), listening_at("hub.example.org:9092")
    (('0.0.0.0', 9092), ('::', 9092), ('hub.example.org', 9092))
    """
    host, _, port = address.rpartition(":")
    bare = host.removeprefix("[").removesuffix("]")
    return (bare, host_and_port(f"localhost:{port}")[1]) if bare in EVERYWHERE else host_and_port(address)


def _begun(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey, now: datetime, days: int
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - SLOW_CLOCK)
        .not_valid_after(now + timedelta(days=days))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )


def _usage(*, signs: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs,
        crl_sign=signs,
        encipher_only=False,
        decipher_only=False,
    )


def _named(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


def _alternative(host: str) -> x509.GeneralName:
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        if not HOST.fullmatch(host):
            raise InputError(f"host '{host}': give a DNS name or an IP address alone, such as coordinator.example.org.") from None
        return x509.DNSName(host.lower())
    if address.is_unspecified:
        raise InputError(f"host '{host}': a server listens there, but nobody can call it; give the name that hospitals use.")
    return x509.IPAddress(address)


def _plain(host: str) -> str:
    try:
        return str(ipaddress.ip_address(host))
    except ValueError:
        return host.lower()


def _load(path: Path) -> x509.Certificate:
    content = read_bytes(path)
    try:
        return x509.load_pem_x509_certificate(content)
    except ValueError:
        raise InputError(f"{path}: this is no certificate in PEM; put back what promptward keys made.") from None


def _facts(certificate: x509.Certificate) -> Certificate:
    return Certificate(
        names=_names(certificate),
        not_before=certificate.not_valid_before_utc,
        not_after=certificate.not_valid_after_utc,
        fingerprint=fingerprint(certificate.public_bytes(Encoding.DER)),
        authority=_is_authority(certificate),
    )


def _names(certificate: x509.Certificate) -> tuple[str, ...]:
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return tuple(str(part.value) for part in certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME))
    return tuple(str(name.value) for name in names)


def _is_authority(certificate: x509.Certificate) -> bool:
    try:
        return bool(certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca)
    except x509.ExtensionNotFound:
        return False
