"""What a hospital shows an auditor: its ledger, its edge's transcript, its gate's log. Whose they are, the payloads say."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from audits.coordinator import RunFiles
from audits.replies import Outgoing, outgoing
from client.chain import Entry, read_chain
from client.fleet import Terms
from client.ledger import Event, read_ledger
from client.transcript import ENDING, read_transcript
from shared.errors import InputError
from shared.keys import site_of_file_name
from shared.privacy.planned import mechanism_of

EGRESS = ".egress.jsonl"


@dataclass(frozen=True)
class Charge:
    """One line of a ledger with its time."""

    line: int
    time: float
    event: Event


@dataclass(frozen=True)
class LetOut:
    """One line of the gate's log: a payload that was handed to Flower."""

    line: int
    time: float
    payload: str


@dataclass(frozen=True)
class Evidence:
    """The files of one hospital; None where no file was shown, or its chain is broken.

    `broken` has one sentence for each file whose chain is not whole.
    """

    ledger: Path
    charges: tuple[Charge, ...] | None
    outgoing: Outgoing | None
    let_out: tuple[LetOut, ...] | None
    broken: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Files:
    """Where a hospital's files are."""

    ledger: Path
    transcript: Path | None = None
    egress: Path | None = None


@dataclass
class _Reading:
    """Reads chained files, and remembers those that are broken."""

    broken: list[str] = field(default_factory=list)

    def chain(self, path: Path | None) -> list[Entry] | None:
        try:
            return read_chain(path) if path else None
        except InputError as error:
            self.broken.append(str(error))
            return None


def gather(run: RunFiles, sites: Sequence[Path], ledgers: Sequence[Path]) -> dict[str, list[Evidence]]:
    """Return each roster site's evidence; a simulation's lies in its own directory, one ledger a seed.

    Raises:
        InputError: a path that is not there, nothing to read in it, two hospitals' files that are the same site's, or files
            that are nobody's on the roster.
    """
    found: dict[str, list[Evidence]] = {}
    inside = [] if sites or ledgers else _in_simulation(run.folder)
    for files in inside or _files(sites, ledgers):
        evidence = _read(files, run)
        name = _whose(evidence, run)
        if name in found and not inside:
            raise InputError(f"{files.ledger}: the files of {name} were given twice; give each hospital's once.")
        found.setdefault(name, []).append(evidence)
    if not found:
        raise InputError(f"{run.folder}: no hospital's files were given; add --site FOLDER for each hospital that shows its own.")
    return found


def _in_simulation(folder: Path) -> list[_Files]:
    return [_Files(path, egress=path.with_name("egress.jsonl")) for path in sorted((folder / "ledgers").glob("*/*/ledger.jsonl"))]


def _files(sites: Sequence[Path], ledgers: Sequence[Path]) -> list[_Files]:
    """Pair transcripts with the ledgers beside them."""
    transcripts = [path for site in sites for path in _transcripts(site)]
    found = {}
    for transcript in transcripts:
        ledger = transcript.with_name(transcript.name.removesuffix(ENDING) + ".jsonl")
        given = [path for path in ledgers if path.name == ledger.name and path.parent.name == ledger.parent.name]
        ledger = ledger if ledger.exists() or len(given) != 1 else given[0]
        found[ledger.resolve()] = _Files(ledger, transcript)
    for ledger in ledgers:
        found.setdefault(ledger.resolve(), _Files(ledger))
    for files in found.values():
        if not files.ledger.is_file():
            raise InputError(f"{files.ledger}: there is no such ledger; put it beside the transcript, or give it with --ledger.")
    return [replace(files, egress=_if_there(files.ledger.with_suffix(EGRESS))) for files in found.values()]


def _transcripts(site: Path) -> list[Path]:
    if site.is_file():
        if not site.name.endswith(ENDING):
            raise InputError(f"{site}: a transcript's name ends in {ENDING}; a ledger is given with --ledger.")
        return [site]
    here = sorted(site.glob(f"*{ENDING}"))
    if not here:
        raise InputError(f"{site}: there is no transcript (*{ENDING}) here; give the folder of the hospital's ledger.")
    return here


def _if_there(path: Path) -> Path | None:
    return path if path.is_file() else None


def _read(files: _Files, run: RunFiles) -> Evidence:
    reading = _Reading()
    ledger, transcript, gate = (reading.chain(path) for path in (files.ledger, files.transcript, files.egress))
    return Evidence(
        ledger=files.ledger,
        charges=None if ledger is None else _charges(ledger, files.ledger),
        outgoing=None if transcript is None or files.transcript is None else _apart(transcript, files.transcript, run),
        let_out=None if gate is None else tuple(LetOut(e.number, e.time, str(e.body.get("sha256"))) for e in gate),
        broken=tuple(reading.broken),
    )


def _charges(entries: Sequence[Entry], path: Path) -> tuple[Charge, ...]:
    return tuple(Charge(entry.number, entry.time, event) for entry, event in zip(entries, read_ledger(path), strict=True))


def _apart(entries: Sequence[Entry], path: Path, run: RunFiles) -> Outgoing:
    terms = Terms(run.shape, mechanism_of(run.task.card).dtype, "", lambda _payload: True)
    try:
        lines = read_transcript(path)
    except (KeyError, TypeError, ValueError):
        raise InputError(f"{path}: a line is none of a transcript; is this the file that ends in {ENDING}?") from None
    return outgoing(list(zip(entries, lines, strict=True)), terms)


def _whose(evidence: Evidence, run: RunFiles) -> str:
    """Return the site that the coordinator received these payloads from, or else the one that the folder is named after."""
    mine = set(_payloads(evidence))
    held = [(name, payload) for round_ in run.rounds for name, payload in round_.updates.items()]
    counted = {name: sum(n == name and payload in mine for n, payload in held) for name in run.task.card.plan.sites}
    best = max(counted, key=lambda name: counted[name])
    if counted[best]:
        return best
    folder = site_of_file_name(evidence.ledger.resolve().parent.name)
    if folder in run.task.card.plan.sites:
        return folder
    raise InputError(
        f"{evidence.ledger}: the coordinator holds no payload of this ledger, and its folder is not named after a site of the "
        f"roster ({', '.join(run.task.card.plan.sites)}); name the folder so, if it is one of theirs."
    )


def _payloads(evidence: Evidence) -> Iterable[str]:
    yield from (charge.event.payload for charge in evidence.charges or ())
    if evidence.outgoing:
        yield from (reply.payload for reply in evidence.outgoing.replies if reply.payload)
    yield from (line.payload for line in evidence.let_out or ())
