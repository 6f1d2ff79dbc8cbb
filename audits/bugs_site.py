"""Bugs of a hospital around its private step: ledger, outbox, gate, reply. Each is one change of a right hospital."""

import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from flwr.app import ConfigRecord, RecordDict

from audits.subject import Subject, open_site
from client.gate import Gate
from client.hospital import Hospital
from client.ledger import Event, Ledger
from client.round import Pool
from shared.privacy.mechanism import Update
from shared.privacy.source import Source
from shared.wire import Request, pack_reply

Change = Callable[[Hospital], None]
OpenSite = Callable[[Subject, Pool, Path, Source], Hospital]


def site_with(change: Change) -> OpenSite:
    """Return what opens a hospital with this change."""

    def opened(subject: Subject, pool: Pool, folder: Path, source: Source) -> Hospital:
        hospital = open_site(subject, pool, folder, source)
        change(hospital)
        return hospital

    return opened


def _ledger(hospital: Hospital) -> Ledger:
    if hospital.ledger is None:
        raise ValueError("a site under test has a ledger")
    return hospital.ledger


def charging(charge: Callable[[Ledger, Event], None]) -> Change:
    """Charge otherwise than the ledger does."""

    def change(hospital: Hospital) -> None:
        ledger = _ledger(hospital)
        vars(ledger)["charge"] = lambda event: charge(ledger, event)

    return change


def terms(**changes: Any) -> Change:
    """Charge an event whose numbers are changed: a function of each."""

    def charge(ledger: Ledger, event: Event) -> None:
        Ledger.charge(ledger, replace(event, **{name: change(getattr(event, name)) for name, change in changes.items()}))

    return charging(charge)


def no_charge(_ledger: Ledger, _event: Event) -> None:
    """Charge nothing."""


def every_other(ledger: Ledger, event: Event) -> None:
    """Charge odd rounds only."""
    if event.round % 2:
        Ledger.charge(ledger, event)


def charge_late(hospital: Hospital) -> None:
    """Charge after the reply has passed the gate."""
    waiting: list[Event] = []
    vars(_ledger(hospital))["charge"] = waiting.append

    def respond(request: Request) -> RecordDict:
        reply = Hospital.respond(hospital, request)
        while waiting:
            Ledger.charge(_ledger(hospital), waiting.pop())
        return reply

    vars(hospital)["respond"] = respond


def anew(hospital: Hospital) -> None:
    """Answer what was answered before with fresh noise on a fresh draw, for nothing and for any prompt."""

    def again(request: Request, _earlier: Event, _asked: str) -> Update:
        purpose = (request.run, hospital.name, request.round)
        return hospital.step(hospital.pool, request.prompt, hospital.proposal.plan, hospital.scorer, hospital.source, *purpose)

    vars(hospital)["_again"] = again


def any_prompt(hospital: Hospital) -> None:
    """Answer a round again for another prompt; a true resend is right."""

    def again(request: Request, earlier: Event, asked: str) -> Update:
        if asked == earlier.asked:
            return Hospital._again(hospital, request, earlier, asked)
        purpose = (request.run, hospital.name, request.round)
        return hospital.step(hospital.pool, request.prompt, hospital.proposal.plan, hospital.scorer, hospital.source, *purpose)

    vars(hospital)["_again"] = again


def with_metrics(hospital: Hospital) -> None:
    """Put a count of patients beside the update."""

    def respond(request: Request) -> RecordDict:
        reply = Hospital.respond(hospital, request)
        reply["metrics"] = ConfigRecord({"num-examples": hospital.pool.patients})
        return reply

    vars(hospital)["respond"] = respond


@dataclass(frozen=True)
class ChangingGate(Gate):
    """A gate that lets something else out than what it was handed, and logs it."""

    change: Callable[[Update], Update]

    def release(self, request: Request, update: Update) -> RecordDict:
        """Let the changed update out."""
        return Gate.release(self, request, self.change(update))


@dataclass(frozen=True)
class UnloggedGate(Gate):
    """A gate that logs nothing."""

    def release(self, request: Request, update: Update) -> RecordDict:
        """Let the update out."""
        return pack_reply(update)


def weighted(hospital: Hospital) -> None:
    """Multiply what leaves with the number of patients, after it was charged."""
    gate, patients = hospital.gate, hospital.pool.patients
    hospital.gate = ChangingGate(gate.shape, gate.dtype, gate.log, lambda update: update * patients)


def unlogged(hospital: Hospital) -> None:
    """Write no egress log."""
    gate = hospital.gate
    hospital.gate = UnloggedGate(gate.shape, gate.dtype, gate.log)


def logs_counts(hospital: Hospital) -> None:
    """Log the number of patients whenever the coordinator asks."""

    def respond(request: Request) -> RecordDict:
        logging.getLogger("promptward.site").warning("round %d: %d patients", request.round, hospital.pool.patients)
        return Hospital.respond(hospital, request)

    vars(hospital)["respond"] = respond


def forgetful(subject: Subject, pool: Pool, folder: Path, source: Source) -> Hospital:
    """Open with empty books: a restart resets the ledger."""
    for path in (*folder.glob("*.jsonl"), *folder.glob("outbox/*")):
        path.unlink()
    return open_site(subject, pool, folder, source)
