"""A coordinator as `promptward doctor coordinator` looks at it: its card, its keys, its roster, its address, its run directory."""

import errno
import math
import socket
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from server.credentials import Credentials, ready
from server.deployment import Deployment
from server.roster import SITES
from shared.card import Task
from shared.certificates import EVERYWHERE, HERE, Certificate, listening_at, read_certificate, require_valid
from shared.clock import clock_findings
from shared.errors import InputError
from shared.findings import Check, Finding, wrong_of
from shared.keys import PublicKey, key_file_name, read_public_key, site_of_file_name
from shared.model_check import file_findings, load_findings
from shared.privacy.planned import epsilon_of_plan, mechanism_of, releases_of
from shared.room import disk_findings, memory_findings
from shared.scoring import build

SOON = 21  # days; a certificate that ends earlier is a warning
STRONG = 10.0  # epsilon; above it the guarantee says little
STATE = 6  # copies of the prompt in a checkpoint, beside one that is broadcast and one of every site
FLOWER = 2_000_000  # bytes of Flower's database and log
RENEW = "run: promptward keys coordinator --renew"


@dataclass(frozen=True)
class Examined:
    """What the checks look at; nothing here is written to."""

    task: Task
    keys: Credentials
    address: str
    out: Path


def coordinator_checks(it: Examined) -> list[Check]:
    """Return the checks of a coordinator, apart from those of its installation."""
    card = it.task.card
    return [
        Check("card", lambda: _card(it.task)),
        Check("quorum", lambda: quorum_findings(len(card.hospitals), card.quorum)),
        Check("privacy", lambda: _privacy(it.task)),
        Check("keys", lambda: _keys(it)),
        Check("certificate", lambda: _certificate(it)),
        Check("roster", lambda: _roster(it)),
        Check("address", lambda: _address(it.address)),
        Check("model files", lambda: file_findings(card)),
        Check("memory", lambda: memory_findings(card), needs=("model files",)),
        Check("model", lambda: load_findings(card), needs=("memory",)),
        Check("run directory", lambda: _run_directory(it)),
        Check("disk", lambda: disk_findings(it.out, bytes_of_run(it.task), "run directory"), needs=("model",)),
        Check("clock", lambda: clock_findings(datetime.now(UTC), _past(it))),
    ]


def _card(task: Task) -> Iterator[Finding]:
    plan = task.card.plan
    yield Finding("card", "ok", f"{task.card.name}, digest {task.digest}: {plan.rounds} rounds with {len(plan.sites)} hospitals")


def quorum_findings(sites: int, quorum: int) -> Iterator[Finding]:
    """Say what a quorum means: with all of them one absence ends the run, with few of them a few hospitals decide."""
    said = f"{quorum} of {sites} hospitals must contribute to a round"
    if sites == 1:
        yield Finding("quorum", "warning", f"{said}: there is nothing to federate", "invite more hospitals")
    elif quorum == sites:
        yield Finding(
            "quorum", "warning", f"{said}: one that is away ends the run", "give [plan] quorum, about two thirds of the roster"
        )
    elif 2 * quorum <= sites:
        yield Finding("quorum", "warning", f"{said}: less than half decide what is learned", "raise [plan] quorum")
    else:
        yield Finding("quorum", "ok", said)


def _privacy(task: Task) -> Iterator[Finding]:
    card, mechanism = task.card, mechanism_of(task.card)
    epsilon, asked = epsilon_of_plan(card), card.privacy.epsilon
    said = (
        f"{releases_of(card)} releases at rate {mechanism.draw_rate:g} and noise multiplier {mechanism.noise_multiplier:.4g} "
        f"spend epsilon {epsilon:.4f} at delta {card.privacy.delta:g} per patient"
    )
    if asked is not None and epsilon > asked:
        yield Finding("privacy", "wrong", f"{said}; the card plans {asked:g}", "tell the developers of Promptward")
    elif epsilon > STRONG:
        yield Finding("privacy", "warning", f"{said}, which protects little", "raise the noise or lower rounds or sample_rate")
    else:
        yield Finding("privacy", "ok", said)


def _keys(it: Examined) -> Iterator[Finding]:
    """See that the folder can serve: each file there, closed to others, valid, and belonging to the others."""
    ready(it.keys.folder, datetime.now(UTC))
    authority = read_certificate(it.keys.authority)
    yield Finding("keys", "ok", f"{it.keys.folder}: the files belong together; fingerprint of ca.crt: {authority.fingerprint}")
    if it.keys.folder.stat().st_mode & 0o077:
        yield Finding("keys", "warning", f"{it.keys.folder}: others can enter this folder", f"run: chmod 700 '{it.keys.folder}'")


def _certificate(it: Examined) -> Iterator[Finding]:
    """See whom the certificates are for and how long they last."""
    now = datetime.now(UTC)
    server = require_valid(it.keys.certificate, now)
    yield from _covers(server, it.address)
    for path, found, mend in (
        (it.keys.certificate, server, RENEW),
        (it.keys.authority, require_valid(it.keys.authority, now), "make a new federation before it ends"),
    ):
        left = found.days_left(now)
        said = f"{path}: ends in {left} days, on {found.not_after:%Y-%m-%d}"
        yield Finding("certificate", "warning", said, mend) if left < SOON else Finding("certificate", "ok", said)


def _covers(server: Certificate, address: str) -> Iterator[Finding]:
    host, _ = listening_at(address)
    others = [name for name in server.names if name not in HERE]
    if host in EVERYWHERE:
        said = f"hospitals can call {', '.join(others) or 'nothing but this machine'}; it listens on every address"
        mend = f"{RENEW} with --host and the name that hospitals call"
        yield Finding("certificate", "ok", said) if others else Finding("certificate", "warning", said, mend)
    elif server.covers(host):
        yield Finding("certificate", "ok", f"the certificate is for {host}")
    else:
        said = f"the certificate is for {', '.join(server.names)} and not for {host}"
        yield Finding("certificate", "wrong", said, f"{RENEW} --host {host}")


def _roster(it: Examined) -> Iterator[Finding]:
    """Read every admitted key by itself, so that one that is broken does not hide the others."""
    folder, wanted = it.keys.folder / SITES, it.task.card.plan.sites
    if not folder.is_dir():
        raise InputError(f"{folder}: there is no such folder; make a coordinator's with promptward keys coordinator.")
    known: dict[str, PublicKey] = {}
    for path in sorted(folder.glob("*.pub")):
        try:
            known[site_of_file_name(path.name.removesuffix(".pub"))] = read_public_key(path)
        except InputError as error:
            yield wrong_of("roster", str(error))
    yield from _doubles(folder, known)
    for name in wanted:
        if name in known:
            yield Finding("roster", "ok", f"{name}: admitted with the key {known[name].fingerprint}")
        elif not (folder / f"{key_file_name(name)}.pub").exists():
            mend = f"ask for its public key, then run: promptward keys admit {it.keys.folder} FILE.pub --name '{name}'"
            yield Finding("roster", "wrong", f"{name}: no public key is admitted", mend)
    strangers = sorted(set(known) - set(wanted))
    if strangers:
        said = f"admitted, but not on this card's roster, without a part in this run: {', '.join(strangers)}"
        yield Finding("roster", "warning", said, f"is a name misspelt? else remove the file from {folder}")


def _doubles(folder: Path, known: dict[str, PublicKey]) -> Iterator[Finding]:
    for key, count in Counter(known.values()).items():
        if count > 1:
            names = " and ".join(name for name, its in known.items() if its == key)
            yield Finding(
                "roster", "wrong", f"{folder}: {names} have the same key", "every hospital makes a key of its own; remove one file"
            )


def _address(address: str) -> Iterator[Finding]:
    """Listen on the address for a moment."""
    host, port = listening_at(address)
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    mends = {
        errno.EADDRINUSE: "is promptward serve running already? else name another port with --address",
        errno.EACCES: "name a port above 1023 with --address",
        errno.EADDRNOTAVAIL: "name an address of this machine, or 0.0.0.0, with --address",
    }
    with socket.socket(family) as listener:
        try:
            listener.bind((host, port))
        except socket.gaierror as error:
            yield Finding("address", "wrong", f"{address}: nobody knows this name ({error.strerror})", mends[errno.EADDRNOTAVAIL])
        except OSError as error:
            mend = mends.get(error.errno or 0, "name another with --address")
            yield Finding("address", "wrong", f"{address}: cannot be listened on ({error.strerror})", mend)
        else:
            yield Finding("address", "ok", f"{address}: free; hospitals must reach it, and it is the only port that they need")


def _run_directory(it: Examined) -> Iterator[Finding]:
    """See whether `serve --out` would start here, go on here, or refuse."""
    there = Deployment(it.out)
    if it.out.exists() and not it.out.is_dir():
        yield Finding("run directory", "wrong", f"{it.out}: this is a file", "name a folder with --out")
    elif not there.facts.exists():
        yield Finding("run directory", "ok", f"{it.out}: no run to go on with")
    elif not there.card.exists() or there.card.read_text(encoding="utf-8") != it.task.text:
        yield Finding("run directory", "wrong", f"{it.out}: this run is of another task card", "name another folder with --out")
    else:
        latest = there.files.latest(there.run())
        yield Finding("run directory", "ok", f"{it.out}: goes on after round {latest.state.round if latest else 0}")


def bytes_of_run(task: Task) -> int:
    """Return about how many bytes the whole plan writes into the run directory."""
    plan, tensor = task.card.plan, math.prod(build(task.card)[0].shape.shape) * 4
    return int(plan.rounds * tensor * (STATE + 1 + len(plan.sites)) + FLOWER)


def _past(it: Examined) -> dict[str, float]:
    """Return times that are surely past: when the certificate and the newest key came, and the last checkpoint."""
    files = {"the server certificate": it.keys.certificate, "the last run": Deployment(it.out).lines}
    keys = {f"the key {path.name}": path for path in (it.keys.folder / SITES).glob("*.pub")}
    newest = sorted(keys.items(), key=lambda pair: pair[1].stat().st_mtime)[-1:]
    return {what: path.stat().st_mtime for what, path in (*files.items(), *newest) if path.exists()}
