"""`promptward keys coordinator|admit`: the federation's CA and server certificate; a hospital's public key joins the roster."""

import argparse
from datetime import UTC, datetime

from server.credentials import Credentials, fill_folder, renew
from server.roster import admit
from shared.card import Task
from shared.certificates import Certificate, read_certificate
from shared.errors import InputError
from shared.files import new_folder
from shared.keys import read_public_key
from shared.keys_command import certificate_facts, say


def run(args: argparse.Namespace) -> int:
    """Run the command."""
    return _admit(args) if args.action == "admit" else _coordinator(args)


def require_on_roster(task: Task, name: str) -> None:
    """Return when the card names the site; raise `InputError` listing its roster when it does not."""
    sites = task.card.plan.sites
    if name not in sites:
        raise InputError(f"site '{name}' is not on the roster of task {task.card.name}: {', '.join(sites)}.")


def _coordinator(args: argparse.Namespace) -> int:
    now = datetime.now(UTC)
    server = _renewed(args, now) if args.renew else _made(args, now)
    authority = read_certificate(Credentials(args.folder).authority)
    found = {"folder": str(args.folder), "authority": certificate_facts(authority, now), "server": certificate_facts(server, now)}
    text = (
        f"{args.folder}: the server certificate is for {', '.join(server.names)} and ends on {server.not_after:%Y-%m-%d}.\n"
        f"ca.key and server.key are private and never leave the coordinator; ca.crt goes to every hospital.\n"
        f"Fingerprint of ca.crt, to compare by telephone: {authority.fingerprint}"
    )
    say(args.json, found, text)
    return 0


def _made(args: argparse.Namespace, now: datetime) -> Certificate:
    if not args.host:
        raise InputError("--host is missing; give the DNS name or IP address by which hospitals call the coordinator.")
    with new_folder(args.folder) as folder:
        return fill_folder(folder, tuple(args.host), args.days, now)


def _renewed(args: argparse.Namespace, now: datetime) -> Certificate:
    return renew(args.folder, tuple(args.host), args.days, now)


def _admit(args: argparse.Namespace) -> int:
    if args.task is not None:
        require_on_roster(Task.load(args.task), args.name)
    key = read_public_key(args.public)
    new = admit(args.folder, args.name, key)
    found = {"site": args.name, "fingerprint": key.fingerprint, "new": new}
    done = "is admitted" if new else "was admitted before with this very key"
    say(args.json, found, f"{args.name} {done}.\nFingerprint, to compare by telephone: {key.fingerprint}")
    return 0
