"""A throw-away certificate for the wire between a hospital's own SuperNode and its gateway, on loopback.

Flower signs its calls over TLS only, so this wire has TLS too; its keys live as long as `promptward join` runs.
"""

from datetime import datetime
from pathlib import Path

from shared.certificates import make_authority, make_server
from shared.files import write_new, write_private

DAYS = 3650  # longer than any process runs


def write_certificate(authority: Path, certificate: Path, key: Path, now: datetime) -> None:
    """Write a new authority's certificate, a server certificate of it for this machine, and that one's private key."""
    root = make_authority(now)
    server = make_server(root, (), DAYS - 2, now)
    write_new(authority, root.certificate_pem)
    write_new(certificate, server.certificate_pem)
    write_private(key, server.key_pem)
