"""The coordinator's folder of keys: its authority (CA), its server certificate, and the hospitals' public keys in sites/.

ca.crt goes to every hospital. ca.key and server.key never leave the coordinator.
"""

import os
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from server.roster import SITES
from shared.certificates import (
    HERE,
    Certificate,
    Issued,
    make_authority,
    make_server,
    read_issued,
    require_issued_by,
    require_valid,
)
from shared.errors import InputError
from shared.files import write_new, write_private


@dataclass(frozen=True)
class Credentials:
    """Where the files of a coordinator's folder are."""

    folder: Path

    @property
    def authority(self) -> Path:
        """The CA's certificate; public."""
        return self.folder / "ca.crt"

    @property
    def authority_key(self) -> Path:
        """The CA's private key; needed for renewal only."""
        return self.folder / "ca.key"

    @property
    def certificate(self) -> Path:
        """The server's certificate; public."""
        return self.folder / "server.crt"

    @property
    def key(self) -> Path:
        """The server's private key."""
        return self.folder / "server.key"


def fill_folder(folder: Path, hosts: tuple[str, ...], days: int, now: datetime) -> Certificate:
    """Make a federation's authority and server certificate in an empty folder and return what the latter says."""
    files = Credentials(folder)
    authority = make_authority(now)
    server = make_server(authority, hosts, days, now)
    for path, issued in ((files.authority, authority), (files.certificate, server)):
        write_new(path, issued.certificate_pem)
    for path, issued in ((files.authority_key, authority), (files.key, server)):
        write_private(path, issued.key_pem)
    (folder / SITES).mkdir(mode=0o700)
    return server.facts


def renew(folder: Path, hosts: tuple[str, ...], days: int, now: datetime) -> Certificate:
    """Put a new server certificate of the same authority into place; without hosts it is for those of the old one.

    Raises `InputError` when the folder is no coordinator's or its files do not belong together; then nothing was changed.
    """
    files = Credentials(folder)
    authority, old = read_authority(folder), read_issued(files.certificate, files.key)
    require_valid(files.authority, now)
    named = hosts or tuple(name for name in old.facts.names if name not in HERE)
    # The key stays: one file is replaced, so that a crash cannot leave two that do not fit. Whoever holds a stolen server.key
    # holds it with the old certificate too; the mend for that is a new federation, not a renewal.
    server = make_server(authority, named, days, now, old.key)
    beside = files.certificate.with_suffix(".new")
    beside.unlink(missing_ok=True)
    write_new(beside, server.certificate_pem)
    os.replace(beside, files.certificate)
    return server.facts


def read_authority(folder: Path) -> Issued:
    """Read the authority of a coordinator's folder; raise `InputError` when this is none or its files do not fit."""
    files = Credentials(folder)
    if not files.authority.is_file():
        raise InputError(
            f"{folder}: this is no coordinator's folder, ca.crt is not there; make one with promptward keys coordinator."
        )
    return read_issued(files.authority, files.authority_key)


def ready(folder: Path, now: datetime) -> Certificate:
    """Return what the server certificate says when the folder can serve hospitals at `now` (UTC); ca.key is not needed.

    Raises `InputError` naming the first file that is missing, open to others, not valid now or does not fit the others.
    """
    files = Credentials(folder)
    require_valid(files.authority, now)
    require_issued_by(files.certificate, files.authority)
    read_issued(files.certificate, files.key)
    return require_valid(files.certificate, now)
