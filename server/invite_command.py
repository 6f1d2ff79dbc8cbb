"""`promptward keys invite|trial`: a folder for every hospital of the roster; for trials, with all keys on one machine."""

import argparse
import ipaddress
import shutil
from datetime import UTC, datetime
from pathlib import Path

from server.credentials import Credentials, fill_folder, ready
from server.invitation import Invitation, files_for, next_steps, suggested_epsilon
from server.roster import admit
from shared.card import Task
from shared.certificates import host_and_port, read_certificate
from shared.errors import InputError
from shared.files import new_folder, read_bytes, write_new
from shared.keys import key_file_name, make_site_key, write_site_key
from shared.keys_command import say

COORDINATOR = "coordinator"
TRIAL = """FOR TRIALS ON THIS MACHINE ONLY.
The private keys of all hospitals and of the coordinator lie here side by side, so none of them proves who somebody is.
For a real federation every hospital makes its own key (promptward keys site): see docs/keys.md.
"""


def run(args: argparse.Namespace) -> int:
    """Run the command."""
    return _trial(args) if args.action == "trial" else _invite(args)


def _invite(args: argparse.Namespace) -> int:
    task = Task.load(args.task)
    _require_covered(args.folder, args.address)
    out = args.out or Path(f"{task.card.name}-invitations")
    invitation = _invitation(task, args.address, args.folder)
    with new_folder(out) as folder:
        for site in task.card.plan.sites:
            inside = folder / key_file_name(site)
            _write(inside, files_for(invitation, site) | {"README.txt": next_steps(invitation, site)})
            shutil.make_archive(str(inside), "zip", root_dir=folder, base_dir=inside.name)
    folders = {site: str(out / key_file_name(site)) for site in task.card.plan.sites}
    authority = read_certificate(Credentials(args.folder).authority).fingerprint
    text = "\n".join(f"{site}: {path} and {path}.zip" for site, path in folders.items())
    text += (
        "\nHand each hospital its own; nothing in them is secret. Compare by telephone:\n"
        f"  the task's digest      {task.digest}\n  fingerprint of ca.crt  {authority}"
    )
    found = {"task_digest": task.digest, "authority_fingerprint": authority, "suggested_epsilon": invitation.epsilon}
    say(args.json, found | {"sites": folders}, text)
    return 0


def _require_covered(folder: Path, address: str) -> None:
    host, _ = host_and_port(address)
    server = ready(folder, datetime.now(UTC))
    if not server.covers(host):
        certificate, names = Credentials(folder).certificate, ", ".join(server.names)
        raise InputError(
            f"{certificate}: this is for {names}, not for '{host}'; give one of them, or --renew it with --host {host}."
        )


def _trial(args: argparse.Namespace) -> int:
    task, (host, _) = Task.load(args.task), host_and_port(args.address)
    if not _loopback(host):
        raise InputError(f"--address {args.address}: a trial is for this machine alone; give 127.0.0.1:PORT or localhost:PORT.")
    if COORDINATOR in task.card.plan.sites:
        raise InputError(
            f"a site of task {task.card.name} is called '{COORDINATOR}', the name of a folder here; rename it in the card."
        )
    with new_folder(args.folder) as folder:
        _fill_trial(folder, task, args.address, host)
    folders = {site: str(args.folder / key_file_name(site)) for site in task.card.plan.sites}
    coordinator = str(args.folder / COORDINATOR)
    lines = [TRIAL, f"{COORDINATOR}: {coordinator}", *(f"{site}: {path}" for site, path in folders.items())]
    say(args.json, {"trial": True, "coordinator": coordinator, "sites": folders, "task_digest": task.digest}, "\n".join(lines))
    return 0


def _fill_trial(folder: Path, task: Task, address: str, host: str) -> None:
    coordinator = folder / COORDINATOR
    coordinator.mkdir(mode=0o700)
    fill_folder(coordinator, (host,), 30, datetime.now(UTC))
    write_new(folder / "README.txt", TRIAL.encode())
    invitation = _invitation(task, address, coordinator)
    for site in task.card.plan.sites:
        inside = folder / key_file_name(site)
        _write(inside, files_for(invitation, site))
        key = make_site_key()
        write_site_key(inside, site, key)
        admit(coordinator, site, key.public)


def _invitation(task: Task, address: str, coordinator: Path) -> Invitation:
    return Invitation(task, address, read_bytes(Credentials(coordinator).authority), suggested_epsilon(task))


def _write(folder: Path, files: dict[str, bytes]) -> None:
    folder.mkdir(mode=0o700)
    for name, content in files.items():
        write_new(folder / name, content)


def _loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"
