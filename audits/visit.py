"""One hospital of made-up patients is asked for rounds as a coordinator asks, and what it does is written down.

It lives in a temporary folder with its ledger, outbox and egress log; `audits.conduct` judges what it did.
"""

import contextlib
import io
import logging
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from flwr.app import RecordDict

from audits.recorded import Quick
from audits.subject import Subject
from client.chain import read_chain
from client.gate import Gate
from client.hospital import Hospital
from client.ledger import Event, read_ledger
from client.round import Pool
from shared.errors import PromptwardError, RefusedError
from shared.privacy.mechanism import Update
from shared.prompt import Array
from shared.wire import UPDATE, Request, sha256, unpack_reply

RUN = "conduct"
ROUNDS = 3
LEDGER, EGRESS = "ledger.jsonl", "egress.jsonl"


@dataclass(frozen=True)
class Left:
    """One reply: the update's facts, or what is wrong with the reply's form; and what had happened when it left."""

    round: int
    problem: str
    dtype: str = ""
    shape: tuple[int, ...] = ()
    wire_bytes: int = 0
    name: str = ""
    charged: bool = False

    @property
    def form(self) -> tuple[object, ...]:
        """What may not depend on round or patients."""
        return (self.problem, self.dtype, self.shape, self.wire_bytes)


@dataclass
class Visit:
    """What a hospital with one pool did.

    Attributes:
        what: whose patients.
        subject: the task that it was asked about.
        left: one reply a round.
        events: its ledger afterwards.
        logged: payloads on its egress log afterwards.
        raised: kinds of the errors that a right request met with.
        printed: whether anything was printed or logged meanwhile.
        again: answers to what is asked a second time, by question.
    """

    what: str
    subject: Subject
    left: list[Left] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)
    logged: list[str] = field(default_factory=list)
    raised: list[str] = field(default_factory=list)
    printed: bool = False
    again: dict[str, bool] = field(default_factory=dict)


@dataclass(frozen=True)
class WatchedGate(Gate):
    """A gate that looks at the ledger on the disk in the moment in which an update reaches it."""

    inner: Gate
    ledger: Path
    charged: dict[str, bool]

    def release(self, request: Request, update: Update) -> RecordDict:
        """Let the update pass, as a gate does."""
        self.charged[sha256(update)] = sha256(update) in _payloads(self.ledger)
        return self.inner.release(request, update)


def visit(subject: Subject, what: str, pool: Pool) -> Visit:
    """Open a hospital in a temporary folder, ask it for rounds, ask again, and read its books."""
    found = Visit(what, subject)
    with tempfile.TemporaryDirectory(prefix="promptward-audit-") as name, _listening() as heard:
        folder = Path(name)
        _ask_all(found, pool, folder)
        found.events = read_ledger(folder / LEDGER) if (folder / LEDGER).exists() else []
        found.logged = (
            [str(entry.body.get("sha256")) for entry in read_chain(folder / EGRESS)] if (folder / EGRESS).exists() else []
        )
        found.printed = bool(heard())
    return found


def _ask_all(found: Visit, pool: Pool, folder: Path) -> None:
    with _opened(found.subject, pool, folder) as hospital:
        charged: dict[str, bool] = {}
        gate = hospital.gate
        hospital.gate = WatchedGate(gate.shape, gate.dtype, gate.log, gate, folder / LEDGER, charged)
        for round_ in range(1, min(ROUNDS, hospital.proposal.rounds) + 1):
            try:
                reply = hospital.respond(_request(found, round_))
            except Exception as error:  # it leaves as one fixed code, but that it came would tell
                found.raised.append(type(error).__name__)
            else:
                found.left.append(_left(found.subject, round_, reply, charged, folder))
        _ask_again(found, hospital, folder)
    try:
        with _opened(found.subject, pool, folder) as hospital:
            found.again["after a restart"] = _same_again(found, hospital, folder)
    except PromptwardError:  # its own books refuse it
        found.again["after a restart"] = False


def _ask_again(found: Visit, hospital: Hospital, folder: Path) -> None:
    found.again["the same request"] = _same_again(found, hospital, folder)
    if found.left:
        request = _request(found, found.left[-1].round)
        found.again["another prompt"] = _refuses(hospital, replace(request, prompt=request.prompt + np.float32(0.5)))


def _same_again(found: Visit, hospital: Hospital, folder: Path) -> bool:
    """Say whether the last round's request gives the same bytes and no charge; nothing that left is nothing to repeat."""
    if not found.left:
        return True
    before, payload = len(_payloads(folder / LEDGER)), found.left[-1]
    try:
        reply = hospital.respond(_request(found, payload.round))
        again = _left(found.subject, payload.round, reply, {}, folder)
    except Exception:
        return False
    return again.name == payload.name and len(_payloads(folder / LEDGER)) == before


def _refuses(hospital: Hospital, request: Request) -> bool:
    try:
        hospital.respond(request)
    except RefusedError:
        return True
    except Exception:
        return False
    return False


def _request(found: Visit, round_: int) -> Request:
    earlier = [left.name for left in found.left if left.round < round_]
    return Request(found.subject.task.digest, RUN, round_, prompt_of(found.subject, round_), earlier[-1] if earlier else "")


def prompt_of(subject: Subject, round_: int) -> Array:
    """Return the prompt (P+L, D) that a round asks with."""
    return subject.prompts[min(round_, len(subject.prompts)) - 1]


def _left(subject: Subject, round_: int, reply: RecordDict, charged: dict[str, bool], folder: Path) -> Left:
    try:
        update = unpack_reply(reply, subject.mechanism.dtype)
    except ValueError as error:
        return Left(round_, str(error))
    if update.shape != subject.scorer.shape.shape:
        return Left(round_, f"its shape is {update.shape}")
    name = sha256(update)
    paid = charged.get(name, True) and name in _payloads(folder / LEDGER)
    return Left(round_, "", update.dtype.str, update.shape, len(reply.array_records[UPDATE][UPDATE].data), name, paid)


def _payloads(ledger: Path) -> list[str]:
    return [event.payload for event in read_ledger(ledger)] if ledger.exists() else []


@contextlib.contextmanager
def _opened(subject: Subject, pool: Pool, folder: Path) -> Iterator[Hospital]:
    hospital = subject.hospital(pool, folder, Quick())
    try:
        yield hospital
    finally:
        hospital.close()


@contextlib.contextmanager
def _listening() -> Iterator[Callable[[], str]]:
    """Catch what is printed or logged; the given function returns it."""
    text, root = io.StringIO(), logging.getLogger()
    handler, level = logging.StreamHandler(text), root.level
    root.addHandler(handler)
    root.setLevel(logging.INFO)
    try:
        with contextlib.redirect_stdout(text), contextlib.redirect_stderr(text):
            yield text.getvalue
    finally:
        root.removeHandler(handler)
        root.setLevel(level)
