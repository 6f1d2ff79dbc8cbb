"""Layer L0, conduct: a hospital of made-up patients is asked as a coordinator asks, and everything that it does is looked at.

The hospital lives in a temporary folder with its ledger, outbox and egress log. The numbers that leave are random; their form,
their charges and their order are not, so that nothing here is statistical.
"""

import secrets
from collections.abc import Sequence
from dataclasses import fields, replace

from audits.recorded import first
from audits.section import Section, Table, Verdict, section_of
from audits.subject import Subject, made_up_pool
from audits.visit import ROUNDS, RUN, Left, Visit, prompt_of, visit
from client.ledger import Event, releases
from client.round import Pool
from shared.card import Task
from shared.privacy.accounting import FINE, epsilon_of
from shared.privacy.planned import epsilon_of_plan, releases_of
from shared.wire import sha256

TITLE = "Does a hospital let out one array a round, charged before it leaves, and nothing else?"


def conduct(subject: Subject) -> Section:
    """Ask hospitals of no, one, several and broken made-up patients for rounds, and look at all that they do."""
    seed = secrets.randbelow(2**31)
    several = made_up_pool(subject, 6, seed)
    visits = [
        visit(subject, "several patients", several),
        visit(subject, "one patient", first(several, 1)),
        visit(subject, "nobody", first(several, 0)),
        visit(_changed(subject, rate=1.0), "a patient without numbers, surely drawn", _sick(several)),
        visit(_changed(subject, steps=2), "two local steps", several),
    ]
    verdicts = [
        _one_array(visits),
        _constant(visits),
        _charged_before(visits),
        _terms(visits),
        _books(visits),
        _asked_again(visits, "the same request", "A round that is asked for again gets the same bytes without a new charge"),
        _asked_again(visits, "after a restart", "So it does after a restart, and the ledger is read on"),
        _asked_again(visits, "another prompt", "A round that was answered is not answered for another prompt"),
        _silent(visits),
        _epsilon(visits),
    ]
    return section_of(TITLE, verdicts, tables=(_table(visits),), facts={"seed": seed, "visits": [v.what for v in visits]})


def _sick(pool: Pool) -> Pool:
    """Return the pool with a last patient whose states are not finite."""
    states = pool.hidden.states.clone()
    states[-1] = float("nan")
    return replace(pool, hidden=replace(pool.hidden, states=states))


def _changed(subject: Subject, rate: float | None = None, steps: int | None = None) -> Subject:
    """Return the subject with a card of another rate or number of local steps, and the same noise."""
    card, mechanism = subject.task.card, subject.mechanism
    plan = {"local_steps": steps or card.plan.local_steps, "rounds": ROUNDS}
    terms = {"sample_rate": rate or mechanism.sample_rate, "noise_multiplier": mechanism.noise_multiplier, "epsilon": None}
    privacy = card.privacy.model_copy(update=terms)
    changed = card.model_copy(update={"plan": card.plan.model_copy(update=plan), "privacy": privacy})
    return replace(subject, task=Task(changed, subject.task.text, subject.task.digest))


def _verdict(claim: str, wrong: Sequence[str], right: str, caveat: str = "Seen for made-up patients only.") -> Verdict:
    return Verdict("L0", claim, wrong[0] if wrong else right, right, not wrong, caveat)


def _one_array(visits: Sequence[Visit]) -> Verdict:
    wrong = [f"{left.problem} ({v.what}, round {left.round})" for v in visits for left in v.left if left.problem]
    return _verdict(
        "One array of the card's shape leaves, and nothing beside it", wrong, f"{_count(visits)} replies of one array each"
    )


def _constant(visits: Sequence[Visit]) -> Verdict:
    forms = {left.form for v in visits for left in v.left}
    wrong = [f"{len(forms)} different forms"] if len(forms) > 1 else []
    caveat = "The moment at which a reply comes is not looked at."
    return _verdict("Every reply has the same shape, dtype and size, whoever the patients are", wrong, "one form", caveat)


def _charged_before(visits: Sequence[Visit]) -> Verdict:
    wrong = [f"{v.what}, round {left.round}: no charge yet" for v in visits for left in v.left if not left.charged]
    return _verdict("A reply is charged before it is handed out", wrong, "a charge on the disk before every reply")


def _terms(visits: Sequence[Visit]) -> Verdict:
    wrong = []
    for v in visits:
        expected = [_expected(v, left) for left in v.left]
        if len(v.events) != len(expected):
            wrong.append(f"{v.what}: {len(v.events)} charges for {len(expected)} replies")
        wrong += [f"{v.what}: {_off(e, x)}" for e, x in zip(v.events, expected, strict=False) if e != x]
    return _verdict(
        "Every round is charged once, with the card's mechanism", wrong, "releases, rate, sigma, clip norm and grid of the card"
    )


def _expected(v: Visit, left: Left) -> Event:
    plan, mechanism = v.subject.plan, v.subject.mechanism
    return Event(
        task=v.subject.task.digest,
        run=RUN,
        round=left.round,
        asked=sha256(prompt_of(v.subject, left.round)),
        payload=left.name,
        releases=plan.steps,
        sample_rate=mechanism.sample_rate,
        noise_multiplier=mechanism.noise_multiplier,
        clip_norm=mechanism.clip_norm,
        grid=mechanism.grid if mechanism.exact else None,
        max_records=v.subject.proposal.max_records,
    )


def _off(event: Event, expected: Event) -> str:
    name = next(f.name for f in fields(Event) if getattr(event, f.name) != getattr(expected, f.name))
    return f"{name} {getattr(event, name)} instead of {getattr(expected, name)}"


def _books(visits: Sequence[Visit]) -> Verdict:
    wrong = []
    for v in visits:
        names = [left.name for left in v.left]
        if [e.payload for e in v.events] != names:
            wrong.append(f"{v.what}: the ledger names other payloads than those that left")
        if list(dict.fromkeys(v.logged)) != names:
            wrong.append(f"{v.what}: the egress log names other payloads than those that left")
    return _verdict("Ledger and egress log name the bytes that left", wrong, "the same payloads in the same order")


def _asked_again(visits: Sequence[Visit], question: str, claim: str) -> Verdict:
    wrong = [v.what for v in visits if not v.again.get(question, True)]
    return _verdict(claim, wrong, f"so at {len(visits)} hospitals")


def _silent(visits: Sequence[Visit]) -> Verdict:
    wrong = [f"{v.what}: {kind}" for v in visits for kind in v.raised]
    wrong += [f"{v.what}: something was printed" for v in visits if v.printed]
    return _verdict("A right request meets with no error and no printed line, whoever the patients are", wrong, "no error, no line")


def _epsilon(visits: Sequence[Visit]) -> Verdict:
    """The plan's epsilon, computed from what the ledger's last charge says of one round."""
    card = visits[0].subject.task.card
    planned, events = epsilon_of_plan(card), visits[0].events[-1:]
    rounds = releases_of(card) // card.plan.local_steps
    found = epsilon_of(releases(events * rounds), card.privacy.delta, FINE)
    wrong = [] if abs(found - planned) < 1e-6 * planned else [f"epsilon {found:.6f}"]
    return _verdict(
        "Charges like these add up to the plan's epsilon", wrong, f"epsilon {planned:.6f}", f"At delta {card.privacy.delta:g}."
    )


def _count(visits: Sequence[Visit]) -> int:
    return sum(len(v.left) for v in visits)


def _table(visits: Sequence[Visit]) -> Table:
    columns = ("patients", "replies", "bytes of an array", "charges", "errors")
    rows = [
        (
            v.what,
            str(len(v.left)),
            ", ".join(sorted({str(left.wire_bytes) for left in v.left})),
            str(len(v.events)),
            str(len(v.raised)),
        )
        for v in visits
    ]
    return Table("Hospitals of made-up patients", columns, rows)
