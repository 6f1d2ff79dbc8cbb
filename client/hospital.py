"""One hospital in memory: its patients, its ledger and its gate. It lives as long as the run; messages come and go."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np
from flwr.app import RecordDict

from client.carry import Carries
from client.control import Control
from client.gate import Gate
from client.ledger import Event, Ledger
from client.outbox import Outbox
from client.personal import State
from client.policy import Policy, Proposal, affordable, agree
from client.round import Gradients, LocalPlan, Pool, answer, answer_in_turn
from client.shelf import Shelf
from shared.errors import RefusedError
from shared.privacy.banded import Carry
from shared.privacy.mechanism import Update
from shared.privacy.source import Source
from shared.wire import Request, sha256

LONGEST_RUN = 100  # letters of a run's name, which becomes a part of a file's name


@dataclass
class Hospital:
    """Answers a coordinator's requests, one a round, within its own policy and the card that it agreed to.

    `ledger` is None only in a simulation without privacy, whose noise multiplier is 0. `step` is `client.round.answer`, or
    a twin of it that gives the same numbers; `turn` is that of a banded run, and `carries` is where what its rounds leave to
    later ones is kept. `own` is where the site's own prompt is kept, where the card wants one, and `control` what its local
    steps add, where they are controlled.
    """

    name: str
    policy: Policy
    proposal: Proposal
    pool: Pool
    scorer: Gradients
    source: Source
    ledger: Ledger | None
    gate: Gate
    outbox: Outbox
    step: Callable[..., Update] = answer
    turn: Callable[..., tuple[Update, Carry]] = answer_in_turn
    own: Shelf | None = None
    control: Control | None = None
    carries: Carries | None = None
    _cleared: int = field(default=0, init=False)  # the budget is known to hold for this many releases on the ledger

    def __post_init__(self) -> None:
        """Refuse what the policy does not allow, noise without a ledger, and a ledger of releases without noise."""
        try:
            self._refuse()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Let other processes open the ledger and the egress log; nothing can be answered any more."""
        self.gate.log.close()
        if self.ledger:
            self.ledger.close()

    def _refuse(self) -> None:
        if (self.carries is None) != (self.proposal.plan.mechanism.bands == 1):
            raise ValueError("a hospital carries something from round to round if and only if its releases are banded")
        if (self.ledger is None) != (self.proposal.plan.mechanism.noise_multiplier == 0):
            raise ValueError("a hospital has a ledger if and only if its releases are noised")
        agree(self.policy, self.proposal, self.pool.patients)
        if self.ledger:
            self.ledger.covers(self.gate.log)

    def respond(self, request: Request) -> RecordDict:
        """Return the reply to a request; the ledger is charged before this returns.

        A request that was answered before gets the same bytes again, without a new charge.
        Raises `RefusedError` with the reason, which stays at the site.
        """
        self._check(request)
        asked = sha256(request.prompt)
        earlier = self.ledger.find(request.task_digest, request.run, request.round) if self.ledger else None
        if earlier is not None:
            if self.carries:
                self.carries.settled(earlier)  # where the process was killed between charge and here
            return self.gate.release(request, self._again(request, earlier, asked))
        turn = self.ledger.rounds(request.task_digest, request.run) if self.ledger else 0
        cost = self.proposal.plan.releases(turn)
        self._afford(request.round, turn, cost)
        charge = self._event(request, asked, cost)
        if self.carries:
            return self.gate.release(request, self._in_turn(request, charge))
        before = self._own_before(request)
        point = self.own.rule.point(before, request.prompt) if self.own else request.prompt  # (P+L, D)
        plan = self._plan(request)
        update = self.step(self.pool, point, plan, self.scorer, self.source, request.run, self.name, request.round)
        self.outbox.keep(request.run, request.round, update)
        if self.own:  # counts from the charge on
            after = self.own.rule.moved(before, request.prompt, update, request.round)
            self.own.keep(request.task_digest, request.run, before, after)
        self._charge(charge, update)
        return self.gate.release(request, update)

    def _in_turn(self, request: Request, charge: Event) -> Update:
        """Take a banded run's next turn: payload, then what it leaves to later ones, then its charge are on the disk."""
        assert self.carries  # noqa: S101 (for the type checker)
        assert self.ledger  # noqa: S101 (bands are for releases with noise)
        carry = self.carries.before(charge, self.ledger.events, request.prompt.size)
        facts = (self.pool, request.prompt, self.proposal.plan, self.scorer, self.source, carry)
        update, after = self.turn(*facts, charge.run, self.name, charge.round)
        self.outbox.keep(request.run, request.round, update)
        self.carries.keep(replace(charge, payload=sha256(update)), after, self.ledger.events)
        self._charge(charge, update)
        self.carries.settled(charge)
        return update

    def _check(self, request: Request) -> None:
        """Refuse what is not this task, this run's plan or a sane prompt."""
        if request.task_digest != self.proposal.task:
            raise RefusedError(f"the task's digest is {request.task_digest}, this site agreed to {self.proposal.task}")
        if not 1 <= request.round <= self.proposal.rounds:
            raise RefusedError(f"round {request.round} is outside the plan of {self.proposal.rounds} rounds")
        if not (request.run.isascii() and request.run.isalnum() and len(request.run) <= LONGEST_RUN):
            raise RefusedError(f"the run's name is not made of at most {LONGEST_RUN} ASCII letters and digits")
        if self.ledger and request.last and request.last not in self.ledger.payloads:
            raise RefusedError("the coordinator holds a payload that this ledger did not pay for; was an older copy put back?")
        prompt, shape = request.prompt, self.scorer.shape.shape
        if prompt.shape != shape or prompt.dtype != np.float32 or not np.isfinite(prompt).all():
            raise RefusedError(f"the prompt is not a finite float32 array of shape {shape}")

    def _plan(self, request: Request) -> LocalPlan:
        if self.control is None:
            return self.proposal.plan
        self.control.keep(request)
        return self.control.plan(self.proposal.plan, request, self.outbox, self.ledger)

    def _own_before(self, request: Request) -> State | None:
        if self.own is None:
            return None
        return self.own.before(request.task_digest, request.run, request.round, self.ledger.events if self.ledger else None)

    def _afford(self, round_: int, turn: int, cost: int) -> None:
        """Refuse before any work when this round would pass a budget."""
        if self.ledger is None:
            return
        charged = sum(event.releases for event in self.ledger.events)
        if charged + cost > self._cleared:
            self._cleared = charged + affordable(self.policy, self.proposal, self.ledger.events, round_, turn)

    def _again(self, request: Request, earlier: Event, asked: str) -> Update:
        """Return the bytes that were paid for already."""
        if earlier.asked != asked:
            raise RefusedError(f"round {request.round} was answered for another prompt; a round is answered once")
        update = self.outbox.find(request.run, request.round)
        if update is None or sha256(update) != earlier.payload:
            raise RefusedError(f"the payload that the ledger paid for in round {request.round} is gone from the outbox")
        return update

    def _event(self, request: Request, asked: str, cost: int) -> Event:
        """Return the round's charge, but for its payload."""
        mechanism = self.proposal.plan.mechanism
        return Event(
            task=request.task_digest,
            run=request.run,
            round=request.round,
            asked=asked,
            payload="",
            releases=cost,
            sample_rate=mechanism.draw_rate,
            noise_multiplier=mechanism.noise_multiplier,
            clip_norm=mechanism.clip_norm,
            grid=mechanism.grid if mechanism.exact else None,
            max_records=self.proposal.max_records,
            bands=mechanism.bands,
        )

    def _charge(self, event: Event, update: Update) -> None:
        if self.ledger is not None:
            self.ledger.charge(replace(event, payload=sha256(update)))
