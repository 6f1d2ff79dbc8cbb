"""`promptward keys show FILE`: what a certificate or key file is. Hospitals and coordinators compare what it prints."""

import argparse
import json
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

from shared.certificates import Certificate, read_certificate, read_pem_key
from shared.errors import InputError
from shared.files import read_bytes
from shared.keys import PublicKey, public_key_of, read_public_key, read_site_key


def run(args: argparse.Namespace) -> int:
    """Run the command."""
    found = described(args.file, datetime.now(UTC))
    say(args.json, {"file": str(args.file)} | found, "\n".join(f"{key.replace('_', ' ')}: {_text(found[key])}" for key in found))
    return 0


def say(as_json: bool, found: Mapping[str, object], text: str) -> None:
    """Print what a command of `promptward keys` found, as JSON or as text."""
    print(json.dumps(dict(found), indent=2, ensure_ascii=False) if as_json else text)  # noqa: T201 (the result, on standard output)


def described(path: Path, now: datetime) -> dict[str, object]:
    """Return what a file is, by its content; raise `InputError` when it is neither a certificate nor a key."""
    content = read_bytes(path)
    if b"BEGIN CERTIFICATE" in content:
        return certificate_facts(read_certificate(path), now)
    if b"BEGIN OPENSSH PRIVATE KEY" in content:
        return {"kind": "private key of a hospital; it never leaves the hospital"} | _key_facts(read_site_key(path).public)
    if b"PRIVATE KEY" in content:
        public = public_key_of(read_pem_key(path).public_key())
        return {"kind": "private key of a certificate; it never leaves the coordinator"} | _key_facts(public)
    if not content.startswith((b"ecdsa-", b"ssh-")):
        raise InputError(f"{path}: this is neither a certificate nor a key; name a file that promptward keys made.")
    return {"kind": "public key of a hospital"} | _key_facts(read_public_key(path))


def certificate_facts(certificate: Certificate, now: datetime) -> dict[str, object]:
    """Return what a certificate says, as `--json` prints it; times are UTC."""
    return {
        "kind": "certificate of a federation's CA" if certificate.authority else "certificate of a server",
        "names": list(certificate.names),
        "not_before": certificate.not_before.isoformat(),
        "not_after": certificate.not_after.isoformat(),
        "days_left": certificate.days_left(now),
        "fingerprint": certificate.fingerprint,
    }


def _key_facts(key: PublicKey) -> dict[str, object]:
    return {"fingerprint": key.fingerprint, "openssh": key.openssh_fingerprint}


def _text(value: object) -> str:
    return ", ".join(value) if isinstance(value, list) else str(value)
