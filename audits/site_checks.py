"""One hospital's files against the coordinator's: what was charged, what left, what arrived."""

import math
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from typing import Any

from audits.coordinator import Round, RunFiles
from audits.evidence import Charge, Evidence
from audits.finding import Finding, Row
from client.ledger import Event, releases
from shared.privacy.accounting import spent
from shared.privacy.planned import mechanism_of

CLOSE = 1e-9  # epsilon is computed from the same releases by the same accountant


class SiteFiles:
    """All that one hospital showed, of all seeds, as tables to look things up in."""

    def __init__(self, name: str, evidence: Sequence[Evidence]) -> None:
        """Merge the files; `charges` is None where a ledger's chain is broken."""
        self.name, self.evidence = name, evidence
        known = [e.charges for e in evidence if e.charges is not None]
        self.charges: list[Charge] | None = [c for charges in known for c in charges] if len(known) == len(evidence) else None
        self.replies = [r for e in evidence if e.outgoing for r in e.outgoing.replies]
        self.delivered = {p: line for e in evidence if e.outgoing for p, line in e.outgoing.delivered.items()}
        self.let_out = [line for e in evidence for line in e.let_out or ()]
        self.has_transcript = all(e.outgoing is not None for e in evidence)
        self.has_egress = all(e.let_out is not None for e in evidence)
        self.left = {r.payload for r in self.replies if r.payload} if self.has_transcript else {o.payload for o in self.let_out}

    @property
    def shown(self) -> frozenset[str]:
        """The checks that these files allow."""
        found = {"chain", "coordinator"}
        if self.charges is not None:
            found |= {"payload", "twice", "asked", "terms", "epsilon"}
            found |= {"order", "uncharged"} if self.has_transcript or self.has_egress else set()
        return frozenset(found | ({"form", "time"} if self.has_transcript else set()))

    def charge_of(self, task: str, round_: Round) -> Charge | None:
        """Return the first charge of a round."""
        wanted = (task, round_.run, round_.number)
        return next((c for c in self.charges or () if (c.event.task, c.event.run, c.event.round) == wanted), None)


def check_site(files: SiteFiles, run: RunFiles) -> list[Finding]:
    """Return every disagreement of one hospital's files, with themselves and with the coordinator's."""
    name = files.name
    found = [Finding("chain", sentence, name) for e in files.evidence for sentence in e.broken]
    found += [Finding("form", sentence, name) for e in files.evidence if e.outgoing for sentence in e.outgoing.foreign]
    found += _replies(files)
    if files.charges is None:
        return found
    found += [*_twice(files, files.charges), *_terms(files, files.charges, run), *_left(files, files.charges)]
    for round_ in run.rounds:
        found += _round(files, round_, run.task.digest)
    return found + list(_epsilon(files, run))


def rows_of(files: SiteFiles, run: RunFiles) -> list[Row]:
    """Return the table of one hospital, a row a round."""
    return [_row(files, round_, run.task.digest) for round_ in run.rounds]


def _row(files: SiteFiles, round_: Round, task: str) -> Row:
    charge, held = files.charge_of(task, round_), round_.updates.get(files.name)
    charged = charge.event.payload if charge else None
    # Without a charge to name it, what left in this round is known only if it is what the coordinator holds.
    sent = next((payload for payload in (charged, held) if payload in files.left), None)
    if held:
        says = "counted"
    elif sent:
        says = f"sent, left out: {round_.left_out.get(files.name, 'no reason given')}"
    else:
        says = "charged, never sent" if charged else f"did not take part: {round_.left_out.get(files.name, 'no reason given')}"
    return Row(files.name, round_.run, round_.number, charged, sent, held, says)


def _replies(files: SiteFiles) -> Iterator[Finding]:
    """Look at each reply by itself."""
    for reply in files.replies:
        if reply.wrong:
            yield Finding("form", f"the reply of the transcript's line {reply.line}: {reply.wrong}", files.name)
        if any(reply.seconds):
            yield Finding("time", f"line {reply.line} of the transcript told {max(reply.seconds):g} s of compute time", files.name)
        if reply.payload and reply.named - {reply.payload}:
            yield Finding("payload", f"line {reply.line} of the transcript names another payload than its bytes are", files.name)


def _twice(files: SiteFiles, charges: Sequence[Charge]) -> Iterator[Finding]:
    counted = Counter((c.event.task, c.event.run, c.event.round) for c in charges if c.event.run)  # no run: not a round
    for (_, run, round_), times in counted.items():
        if times > 1:
            yield Finding("twice", f"the ledger charged this round {times} times", files.name, run, round_)
    rounds = defaultdict(set)
    for charge in charges:
        rounds[charge.event.payload].add((charge.event.task, charge.event.run, charge.event.round))
    for payload, used in rounds.items():
        if len(used) > 1:
            says = f"payload {payload[:16]} was charged for {len(used)} rounds: its noise was used again"
            yield Finding("twice", says, files.name)


def _terms(files: SiteFiles, charges: Sequence[Charge], run: RunFiles) -> Iterator[Finding]:
    card, mechanism = run.task.card, mechanism_of(run.task.card)
    wanted: dict[str, Any] = {
        "sample_rate": mechanism.draw_rate,
        "noise_multiplier": mechanism.noise_multiplier,
        "clip_norm": mechanism.clip_norm,
        "grid": mechanism.grid if mechanism.exact else None,
        "bands": mechanism.bands,
        "max_records": card.privacy.max_records,
        "unit": card.privacy.unit,
        "adjacency": card.privacy.adjacency,
    }
    turns: Counter[str] = Counter()  # run -> rounds charged before
    for event in (c.event for c in charges if c.event.task == run.task.digest and c.event.run in run.runs):
        wanted["releases"] = mechanism.releases(card.plan.local_steps, turns[event.run])
        turns[event.run] += 1
        for key, value in wanted.items():
            if getattr(event, key) != value:
                says = f"the ledger charged {key} {getattr(event, key)}, the card says {value}"
                yield Finding("terms", says, files.name, event.run, event.round)


def _left(files: SiteFiles, charges: Sequence[Charge]) -> Iterator[Finding]:
    """Compare everything that left, of this run and of others, with the charges."""
    first: dict[str, Charge] = {}
    for charge in charges:
        first.setdefault(charge.event.payload, charge)
    exits = [(r.payload, r.time, f"the transcript's line {r.line}") for r in files.replies if r.payload]
    exits += [(line.payload, line.time, f"the gate's line {line.line}") for line in files.let_out]
    late = set()
    for payload, time, where in exits:
        paid = first.get(payload)
        if paid is None:
            yield Finding("uncharged", f"payload {payload[:16]} of {where} is on no line of the ledger", files.name)
        elif paid.time > time and payload not in late:
            late.add(payload)
            says = f"{where} is {paid.time - time:.3f} s older than the charge (or the clock was set back)"
            yield Finding("order", says, files.name, paid.event.run, paid.event.round)
    for payload, line in files.delivered.items():
        if payload not in first:
            says = f"the transcript's line {line} says that payload {payload[:16]} was delivered; it is on no line of the ledger"
            yield Finding("uncharged", says, files.name)
        if payload not in files.left:
            says = f"the transcript's line {line} says that payload {payload[:16]} was delivered; its bytes are nowhere in it"
            yield Finding("payload", says, files.name)


def _round(files: SiteFiles, round_: Round, task: str) -> Iterator[Finding]:
    def says(check: str, sentence: str) -> Finding:
        return Finding(check, sentence, files.name, round_.run, round_.number)

    held, charge = round_.updates.get(files.name), files.charge_of(task, round_)
    if charge and charge.event.asked != round_.broadcast:
        yield says("asked", "the hospital was sent another prompt than the one in the coordinator's transcript")
    if held is None:
        return
    if charge is None:
        yield says("uncharged", "the coordinator holds an update, and the ledger has no charge of this round")
    elif charge.event.payload != held:
        yield says("payload", "the coordinator holds other bytes than the ledger charged")
    if files.has_transcript and held not in files.left:
        yield says("payload", "the coordinator holds bytes that are in no reply of the hospital's transcript")
    elif not files.has_transcript and files.has_egress and held not in files.left:
        yield says("payload", "the coordinator holds bytes that the hospital's gate did not let out")


def epsilons(files: SiteFiles, run: RunFiles) -> tuple[float, float]:
    """Return epsilon by the ledger: of what the coordinator holds, and of all that was charged for the run.

    Of several seeds the one that spent most counts, as in a simulation's `result.json`: each is a run of its own.
    """
    delta = run.task.card.privacy.delta
    held = {round_.updates.get(files.name) for round_ in run.rounds}
    events = [c.event for c in files.charges or () if c.event.task == run.task.digest and c.event.run in run.runs]
    by_run: dict[str, list[Event]] = defaultdict(list)
    for event in events:
        by_run[event.run].append(event)
    counted = [spent(releases(e for e in some if e.payload in held), delta).epsilon for some in by_run.values()]
    charged = [spent(releases(some), delta).epsilon for some in by_run.values()]
    return max(counted, default=0.0), max(charged, default=0.0)


def _epsilon(files: SiteFiles, run: RunFiles) -> Iterator[Finding]:
    """Compare with result.json: the coordinator counts what arrived, a simulation what was charged."""
    site = run.told.get(files.name)
    if site is None:
        return  # said by the coordinator's check
    counted, charged = epsilons(files, run)
    expected = counted if run.result.get("engine") == "grpc" else charged
    if not math.isclose(float(site["epsilon"]), expected, rel_tol=CLOSE, abs_tol=CLOSE):
        yield Finding("epsilon", f"result.json says {site['epsilon']:.6g}, the ledger gives {expected:.6g}", files.name)
    if site["delta"] != run.task.card.privacy.delta:
        yield Finding(
            "epsilon", f"result.json's delta is {site['delta']:g}, the card's {run.task.card.privacy.delta:g}", files.name
        )
