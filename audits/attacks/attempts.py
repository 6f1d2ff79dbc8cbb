"""What a malicious coordinator tries on a hospital of made-up patients, one attempt after the other, and what the hospital did.

Requests that must be refused, rounds asked again, prompts meant to break the arithmetic, cards that promise less, a budget asked
past its end, an older ledger, a site left alone with colluders. `coordinator` judges them.
"""

import re
import shutil
import tempfile
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats

from audits.subject import Subject, made_up_pool
from client.hospital import Hospital
from client.opening import proposal_of
from client.policy import Policy, Proposal, agree
from client.round import Pool
from shared.card import Task
from shared.errors import InputError, PromptwardError, RefusedError
from shared.privacy.accounting import FINE, epsilon_of
from shared.privacy.mechanism import Update, decode
from shared.privacy.source import SimulationSource, Source
from shared.wire import Request, pack_request, sha256, unpack_reply, unpack_request

PATIENTS = 4
LEVEL = 1e-4  # of each look at noise
ROUNDS = 3  # rounds that the budget of the budget attack allows
RUN = "attack"


@dataclass(frozen=True)
class Attempt:
    """One line of the table: what was tried, what the hospital did, and whether it should have."""

    tried: str
    did: str
    holds: bool


@dataclass(frozen=True)
class Reply:
    """What a request came to: an array, or the reason for none, which stays at the site."""

    update: Update | None
    reason: str = ""


def attempts(subject: Subject, seed: int) -> list[Attempt]:
    """Try everything; patients are made up, and noise is seeded where it decides whether an attempt holds."""
    patients = made_up_pool(subject, PATIENTS, seed)
    return [
        *_strange_requests(subject, patients),
        *_same_round_again(subject, patients),
        *_breaking_prompts(subject, patients),
        *changed_cards(subject),
        _past_the_budget(subject, patients),
        *_older_ledger(subject, patients),
        _colluders(subject),
    ]


def _request(subject: Subject, round_: int = 1, run: str = RUN) -> Request:
    return Request(subject.task.digest, run, round_, subject.prompts[0])


def _ask(hospital: Hospital, request: Request) -> Reply:
    """Send a request as it comes over the wire; whatever goes wrong at a site, one fixed code is all that leaves."""
    return _content(hospital, pack_request(request))


def _content(hospital: Hospital, content: Any) -> Reply:
    try:
        reply = hospital.respond(unpack_request(content))
        return Reply(unpack_reply(reply, hospital.gate.dtype))
    except PromptwardError as error:
        return Reply(None, str(error))
    except Exception as error:  # client.app answers with the fixed code, whatever it is
        return Reply(None, type(error).__name__)


def _with_site(
    subject: Subject, patients: Pool, use: Callable[[Hospital, Path], list[Attempt]], source: Source | None = None
) -> list[Attempt]:
    """Open a hospital in a folder that is gone afterwards, with the system's randomness or a seeded one, and use it."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with closing(subject.hospital(patients, folder, source)) as hospital:
            return use(hospital, folder)


def _books(hospital: Hospital) -> tuple[int, int]:
    """Return how many charges and how many replies are on record."""
    return len(hospital.ledger.events) if hospital.ledger else 0, len(hospital.gate.log.entries)


def _refused(hospital: Hospital, tried: str, content: Any) -> Attempt:
    """Try what must be refused, without a charge and without a line of what left."""
    before = _books(hospital)
    reply = _content(hospital, content)
    quiet = _books(hospital) == before
    did = f"refused: {reply.reason}" if reply.update is None else "answered"
    return Attempt(tried, did + ("" if quiet else "; its books changed"), reply.update is None and quiet)


def _strange_requests(subject: Subject, patients: Pool) -> list[Attempt]:
    """Requests that no honest coordinator sends."""
    rounds, honest = subject.proposal.rounds, _request(subject)
    prompt = np.array(honest.prompt)
    poisoned, endless = prompt.copy(), prompt.copy()
    poisoned[0, 0], endless[-1, -1] = np.nan, -np.inf
    strange: list[tuple[str, dict[str, Any]]] = [
        ("another task's digest", {"task_digest": "0" * 64}),
        (f"round {rounds + 1} of {rounds}", {"round": rounds + 1}),
        ("round 0", {"round": 0}),
        ("a negative round", {"round": -1}),
        ("a run named as a path", {"run": "../../ledger"}),
        ("a run without a name", {"run": ""}),
        ("a run's name of 5,000 letters", {"run": "a" * 5000}),
        ("a prompt with one NaN", {"prompt": poisoned}),
        ("a prompt with one infinity", {"prompt": endless}),
        ("a prompt of another shape", {"prompt": prompt[:, :-1]}),
        ("a prompt with a row more", {"prompt": np.concatenate([prompt, prompt[:1]])}),
        ("a prompt in double precision", {"prompt": prompt.astype(np.float64)}),
        ("a payload that this site never paid for, as after a restored backup", {"last": "f" * 64}),
    ]
    contents = [(tried, pack_request(replace(honest, **change))) for tried, change in strange]
    extra = pack_request(honest)
    extra.config_records["round"]["noise_multiplier"] = 0.0
    contents.append(("a setting of the noise beside the request", extra))
    found = []
    for tried, content in contents:  # each at a hospital of its own, so that no other refusal hides a missing one
        found += _with_site(subject, patients, lambda site, _folder, t=tried, c=content: [_refused(site, t, c)])  # type: ignore[misc]
    return found


def _same_round_again(subject: Subject, patients: Pool) -> list[Attempt]:
    """A second answer to one round would let noise be averaged away, or be a release that nobody counted."""
    honest = _request(subject)

    def use(hospital: Hospital, folder: Path) -> list[Attempt]:
        first, books = _ask(hospital, honest), _books(hospital)[0]
        again = _ask(hospital, honest)
        same = first.update is not None and again.update is not None and sha256(first.update) == sha256(again.update)
        free = _books(hospital)[0] == books
        did = ("the same bytes" if same else again.reason or "other bytes") + (", no charge" if free else ", charged")
        replay = Attempt("the same round again", did, (same and free) or (again.update is None and free))
        other = replace(honest, prompt=honest.prompt + np.float32(0.1))
        swapped = _refused(hospital, "the same round with another prompt", pack_request(other))
        shutil.rmtree(folder / "outbox", ignore_errors=True)
        gone = _refused(hospital, "the same round after the site lost what it had sent", pack_request(honest))
        return [replay, swapped, gone]

    return _with_site(subject, patients, use)


def _breaking_prompts(subject: Subject, patients: Pool) -> list[Attempt]:
    """Finite prompts at the ends of floating point: they may be answered, under all of the noise and within the clip norm."""
    prompt = subject.prompts[0]
    largest = np.float32(np.finfo(np.float32).max)
    ends: list[tuple[str, np.ndarray[Any, Any]]] = [
        ("a prompt of zeros", np.zeros_like(prompt)),
        ("a prompt of the largest numbers", np.full_like(prompt, largest)),
        ("a prompt of norm 1e20", (prompt * np.float32(1e20 / np.linalg.norm(prompt))).astype(np.float32)),
        ("a prompt of the smallest numbers", np.full_like(prompt, np.float32(1e-45))),
    ]

    def use(hospital: Hospital, _folder: Path) -> list[Attempt]:
        found = []
        for number, (tried, value) in enumerate(ends):
            reply = _ask(hospital, replace(_request(subject, run=f"{RUN}{number}"), prompt=value))
            found.append(Attempt(tried, *_under_noise(subject, reply, patients.patients)))
        return found

    if subject.proposal.rounds * subject.plan.steps < len(ends):
        return []  # the plan's budget is not enough to ask
    return _with_site(subject, patients, use, SimulationSource(0))


def _under_noise(subject: Subject, reply: Reply, patients: int) -> tuple[str, bool]:
    """Say whether a reply is as long as its noise, and not longer than noise and the patients' clipped gradients together."""
    if reply.update is None:
        return f"refused: {reply.reason}", True
    mechanism, steps = subject.mechanism, subject.plan.steps
    length = float(np.linalg.norm(decode(reply.update, mechanism)))
    std = mechanism.noise_std * np.sqrt(steps)
    low, high = (std * float(np.sqrt(x)) for x in stats.chi2(reply.update.size).ppf([LEVEL, 1 - LEVEL]))
    holds = low - patients * steps * mechanism.clip_norm <= length <= high + patients * steps * mechanism.clip_norm
    return f"answered, {'within' if holds else 'outside'} what noise and clip norm allow", holds


def changed_cards(subject: Subject) -> list[Attempt]:
    """Cards that promise a patient less: each has another digest, which this site never listed, and its policy has limits."""
    privacy, rounds, mine = subject.task.card.privacy, subject.proposal.rounds, subject.mechanism
    noise = ("noise_multiplier", mine.noise_multiplier / 10) if privacy.epsilon is None else ("epsilon", privacy.epsilon * 10)
    less = replace(mine, noise_multiplier=mine.noise_multiplier / 10)
    changes = [
        (*noise, less),
        ("clip_norm", mine.clip_norm * 10, replace(mine, clip_norm=mine.clip_norm * 10)),
        ("rounds", rounds * 10, mine),
    ]
    if mine.sample_rate < 1:
        changes.append(("sample_rate", 1.0, replace(mine, sample_rate=1.0)))
    found = []
    for key, value, mechanism in changes:
        text = re.sub(rf"(?m)^(\s*{key}\s*=).*$", rf"\g<1> {value}", subject.task.text, count=1)
        other = proposal_of(Task.parse(text, "changed card"), mechanism)
        found.append(_held_to(subject, other, f"a card with {key} {value:g}"))
    return found


def _held_to(subject: Subject, other: Proposal, tried: str) -> Attempt:
    """Say whether a policy for the card refuses the changed one, as it stands and with its digest slipped into the site file."""
    mine = subject.mechanism
    listed = Policy(
        epsilon=1e6,
        delta=subject.task.card.privacy.delta,
        tasks=(subject.task.digest,),
        task_epsilon=1e6,
        least_noise=mine.noise_multiplier,
        most_rate=mine.sample_rate,
        most_clip_norm=mine.clip_norm,
        most_rounds=subject.proposal.rounds,
        most_records=subject.proposal.max_records,
    )
    reasons = []
    for policy in (listed, replace(listed, tasks=(other.task,))):
        try:
            agree(policy, other, PATIENTS)
        except RefusedError as error:
            reasons.append(str(error))
    holds = len(reasons) == 2 and other.task != subject.task.digest
    return Attempt(tried, f"refused: another digest; {reasons[-1]}" if holds else "agreed to", holds)


def _past_the_budget(subject: Subject, patients: Pool) -> Attempt:
    """Ask for round 1 in ever new runs, each of which is a release of its own, until the budget of three ends it."""
    delta, one, steps = subject.task.card.privacy.delta, subject.mechanism.spends, subject.plan.steps
    budget = epsilon_of([one] * (ROUNDS * steps), delta, FINE)

    def use(hospital: Hospital, _folder: Path) -> list[Attempt]:
        hospital.policy = replace(hospital.policy, epsilon=budget, task_epsilon=budget)
        answered = sum(_ask(hospital, _request(subject, run=f"{RUN}{n}")).update is not None for n in range(ROUNDS + 3))
        spent = epsilon_of(hospital.ledger.releases, delta, FINE) if hospital.ledger else float("inf")
        holds = answered <= ROUNDS and spent <= budget * (1 + 1e-9)
        did = f"answered {answered}, then refused; epsilon {spent:.3f} of {budget:.3f} spent"
        return [Attempt(f"round 1 in {ROUNDS + 3} new runs, with a budget for {ROUNDS}", did, holds)]

    return _with_site(subject, patients, use)[0]


def _older_ledger(subject: Subject, patients: Pool) -> list[Attempt]:
    """An older copy of the ledger, of which the charges of what left since are missing."""
    if subject.proposal.rounds < 2:
        return []

    def use(hospital: Hospital, folder: Path) -> list[Attempt]:
        _ask(hospital, _request(subject, 1))
        ledger = folder / "ledger.jsonl"
        older = ledger.read_bytes() if ledger.exists() else b""
        _ask(hospital, _request(subject, 2))
        hospital.close()
        ledger.write_bytes(older)
        tried = "the next round, after an older ledger was put back"
        try:
            subject.hospital(patients, folder).close()
        except InputError as error:
            return [Attempt(tried, f"did not open: {str(error).replace(f'{folder}/', '')}", True)]
        return [Attempt(tried, "opened as if nothing had left", False)]

    return _with_site(subject, patients, use)


def _colluders(subject: Subject) -> Attempt:
    """All others collude and subtract what they sent: what is left has this site's own noise in full, here over nobody at all."""
    nobody = made_up_pool(subject, 0, 0)

    def use(hospital: Hospital, _folder: Path) -> list[Attempt]:
        reply = _ask(hospital, _request(subject))
        tried = "all other sites collude and subtract their updates"
        if reply.update is None:
            return [Attempt(tried, f"refused: {reply.reason}", True)]
        flat = decode(reply.update, subject.mechanism).ravel()
        std = subject.mechanism.noise_std * np.sqrt(subject.plan.steps)
        total = float((flat / std) @ (flat / std))
        p_value = 2 * min(stats.chi2(flat.size).cdf(total), stats.chi2(flat.size).sf(total))
        did = f"what is left has {float(np.sqrt(total / flat.size)):.3f} times the stated noise, of the site alone"
        return [Attempt(tried, did, bool(p_value > LEVEL))]

    return _with_site(subject, nobody, use, SimulationSource(0))[0]
