"""One hospital in memory: its patients, its ledger and its gate. It lives as long as the run; messages come and go."""

import itertools
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from flwr.app import RecordDict

from client.gate import Gate
from client.ledger import Event, Ledger, releases
from client.outbox import Outbox
from client.round import LocalPlan, Pool, answer
from shared.errors import RefusedError
from shared.privacy.accounting import COARSE, FINE, Release, epsilon_of
from shared.privacy.mechanism import Update
from shared.privacy.source import Source
from shared.scoring import Scorer
from shared.wire import Request, sha256


@dataclass(frozen=True)
class Terms:
    """What the hospital agreed to, from its own files: nothing here comes from a coordinator.

    Attributes:
        task: the digest of the one task card it answers.
        plan: the mechanism and the local work.
        rounds: planned rounds of the task.
        max_records: records of one patient that a step looks at.
        epsilon: the most that this ledger may ever spend, over all tasks and runs.
        delta: the delta of that budget.
    """

    task: str
    plan: LocalPlan
    rounds: int
    max_records: int
    epsilon: float
    delta: float


@dataclass
class Hospital:
    """Answers a coordinator's requests, one a round, within its terms.

    `ledger` is None only in a simulation without privacy, whose noise multiplier is 0. `step` is `client.round.answer`, or
    a twin of it that gives the same numbers.
    """

    name: str
    terms: Terms
    pool: Pool
    scorer: Scorer
    source: Source
    ledger: Ledger | None
    gate: Gate
    outbox: Outbox
    step: Callable[..., Update] = answer
    _cleared: int = field(default=0, init=False)  # the budget is known to hold for this many releases on the ledger

    def __post_init__(self) -> None:
        """Refuse a hospital that would add noise without a ledger, or keep a ledger of releases without noise."""
        if (self.ledger is None) != (self.terms.plan.mechanism.noise_multiplier == 0):
            raise ValueError("a hospital has a ledger if and only if its releases are noised")

    def respond(self, request: Request) -> RecordDict:
        """Return the reply to a request; the ledger is charged before this returns.

        A request that was answered before gets the same bytes again, without a new charge.
        Raises `RefusedError` with the reason, which stays at the site.
        """
        self._check(request)
        asked = sha256(request.prompt)
        earlier = self.ledger.find(request.task_digest, request.run, request.round) if self.ledger else None
        if earlier is not None:
            return self.gate.release(request, self._again(request, earlier, asked))
        self._afford(request.round)
        update = self.step(
            self.pool, request.prompt, self.terms.plan, self.scorer, self.source, request.run, self.name, request.round
        )
        self.outbox.keep(request.run, request.round, update)
        self._charge(request, asked, update)
        return self.gate.release(request, update)

    def _check(self, request: Request) -> None:
        """Refuse what is not this task, this run's plan or a sane prompt."""
        if request.task_digest != self.terms.task:
            raise RefusedError(f"the task's digest is {request.task_digest}, this site agreed to {self.terms.task}")
        if not 1 <= request.round <= self.terms.rounds:
            raise RefusedError(f"round {request.round} is outside the plan of {self.terms.rounds} rounds")
        if not request.run.isalnum():
            raise RefusedError("the run's name is not made of letters and digits")
        prompt, shape = request.prompt, self.scorer.shape.shape
        if prompt.shape != shape or prompt.dtype != np.float32 or not np.isfinite(prompt).all():
            raise RefusedError(f"the prompt is not a finite float32 array of shape {shape}")

    def _afford(self, round_: int) -> None:
        """Refuse before any work when this round would pass the budget.

        The rest of the plan is tried first: where it fits, no round of it needs a computation of its own.
        """
        if self.ledger is None:
            return
        steps, mechanism = self.terms.plan.steps, self.terms.plan.mechanism
        one = Release(mechanism.sample_rate, mechanism.noise_multiplier, mechanism.exact)
        spent = releases(self.ledger.events)
        if len(spent) + steps <= self._cleared:
            return
        for ahead, interval in itertools.product((steps * (self.terms.rounds - round_ + 1), steps), (COARSE, FINE)):
            projected = epsilon_of(spent + [one] * ahead, self.terms.delta, interval)
            if projected <= self.terms.epsilon:
                self._cleared = len(spent) + ahead
                return
        raise RefusedError(
            f"this round would bring epsilon to {projected:.4f} at delta {self.terms.delta:g}; "
            f"the site's budget is {self.terms.epsilon:g}"
        )

    def _again(self, request: Request, earlier: Event, asked: str) -> Update:
        """Return the bytes that were paid for already."""
        if earlier.asked != asked:
            raise RefusedError(f"round {request.round} was answered for another prompt; a round is answered once")
        update = self.outbox.find(request.run, request.round)
        if update is None or sha256(update) != earlier.payload:
            raise RefusedError(f"the payload that the ledger paid for in round {request.round} is gone from the outbox")
        return update

    def _charge(self, request: Request, asked: str, update: Update) -> None:
        if self.ledger is None:
            return
        mechanism = self.terms.plan.mechanism
        self.ledger.charge(
            Event(
                task=request.task_digest,
                run=request.run,
                round=request.round,
                asked=asked,
                payload=sha256(update),
                releases=self.terms.plan.steps,
                sample_rate=mechanism.sample_rate,
                noise_multiplier=mechanism.noise_multiplier,
                clip_norm=mechanism.clip_norm,
                grid=mechanism.grid if mechanism.exact else None,
                max_records=self.terms.max_records,
            )
        )
