"""The ledger: a hospital's append-only record of every release. Epsilon is recomputed from it and never stored.

An event is written, and on the disk, before the bytes it pays for may leave.
"""

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

from client.chain import Chain, Entry, read_chain
from shared.errors import InputError
from shared.privacy.accounting import Release, Spent, spent

TRAINING, METRIC = "training", "metric"


@dataclass(frozen=True)
class Event:
    """One charge: what is needed to recompute epsilon, and which bytes it paid for.

    `kind` is a round of training or a published metric, which has no run and no round. `releases` is the number of noised sums in
    the one payload (the round's local steps), as the accountant takes them: of a banded run every b-th round charges one, and the
    others none (`shared.privacy.banded`). The unit of privacy is the patient, the adjacency is add or remove one patient.
    """

    task: str
    run: str
    round: int
    asked: str  # SHA-256 of the prompt that the coordinator sent, or that was scored
    payload: str  # SHA-256 of the update, or of the noised counts, that may leave
    releases: int
    sample_rate: float
    noise_multiplier: float
    clip_norm: float  # how far one patient moves a sum, in L2 norm
    grid: float | None  # step of the integer grid; None where the update was floating point
    max_records: int
    unit: str = "patient"
    adjacency: str = "add-or-remove-one"
    kind: str = TRAINING  # ledgers from before there were kinds hold training rounds only
    bands: int = (
        1  # a round of a banded run charges one release, or none where its group's charge covers it: `shared.privacy.banded`
    )

    @property
    def release(self) -> Release:
        """One of the noised sums as the accountant takes it; the clip norm is a whole number of grid steps."""
        steps = None if self.grid is None else round(self.clip_norm / self.grid)
        return Release(self.sample_rate, self.noise_multiplier, steps)


def read_ledger(path: Path) -> list[Event]:
    """Read and verify a ledger; raise `InputError` naming file and line where it is broken."""
    return [_event(entry, path) for entry in read_chain(path)]


def releases(events: Iterable[Event]) -> list[Release]:
    """Return every release that the events charge."""
    return [release for event in events for release in [event.release] * event.releases]


class Ledger:
    """An open ledger, written by one process."""

    def __init__(self, chain: Chain) -> None:
        """Read the events that are in the chain."""
        self._chain = chain
        self.events = [_event(entry, chain.path) for entry in chain.entries]

    @property
    def path(self) -> Path:
        """The ledger's file."""
        return self._chain.path

    @property
    def payloads(self) -> set[str]:
        """SHA-256 of every payload that was paid for."""
        return {event.payload for event in self.events}

    @property
    def releases(self) -> list[Release]:
        """Every release that was ever charged."""
        return releases(self.events)

    def close(self) -> None:
        """Let other processes open the ledger."""
        self._chain.close()

    def spent(self, delta: float) -> Spent:
        """Return what all charges together spent, over all tasks, runs and rounds."""
        return spent(releases(self.events), delta)

    def find(self, task: str, run: str, round_: int) -> Event | None:
        """Return the charge of this round, if there is one."""
        wanted = (TRAINING, task, run, round_)
        return next((e for e in reversed(self.events) if (e.kind, e.task, e.run, e.round) == wanted), None)

    def rounds(self, task: str, run: str) -> int:
        """Return how many rounds of a run were charged."""
        return sum((e.kind, e.task, e.run) == (TRAINING, task, run) for e in self.events)

    def find_metric(self, task: str, asked: str) -> Event | None:
        """Return the charge of this prompt's published metric, if there is one."""
        return next((e for e in self.events if (e.kind, e.task, e.asked) == (METRIC, task, asked)), None)

    def covers(self, log: Chain) -> None:
        """Return when everything that left according to the egress log is paid for; raise `InputError` for an older copy."""
        if not {str(entry.body.get("sha256")) for entry in log.entries} <= self.payloads:
            raise InputError(
                f"{self.path}: {log.path.name} shows a payload that left and is not on this ledger; "
                "put the newest copy of the ledger back."
            )

    def charge(self, event: Event) -> None:
        """Write an event; only after this returns may its payload leave."""
        self._chain.append(asdict(event))
        self.events.append(event)


def _event(entry: Entry, path: Path) -> Event:
    try:
        return Event(**entry.body)
    except TypeError:
        raise InputError(f"{path}: line {entry.number} is no ledger event; is this the ledger?") from None
