from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from client.chain import Chain
from client.gate import Gate
from client.hospital import Hospital
from client.ledger import Ledger
from client.outbox import Outbox
from client.policy import Policy, Proposal
from client.round import LocalPlan, Pool
from shared.card import Task
from shared.privacy.mechanism import Mechanism
from shared.privacy.source import SecureSource
from shared.prompt import Array
from shared.scoring import Scorer
from shared.wire import Request

Open = Callable[..., Hospital]


class Killed(BaseException):
    """Stands for SIGKILL: nothing catches it."""


def cut_off(hospital: Hospital, request: Request, part: str, method: str, after: bool) -> None:
    """Kill the hospital while it answers, before or after a part of it, such as its ledger, did something."""
    kind = type(getattr(hospital, part))
    whole = getattr(kind, method)

    def cut(self: object, *args: object) -> None:
        if after:
            whole(self, *args)
        raise Killed

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(kind, method, cut)
        with pytest.raises(Killed):
            hospital.respond(request)


@pytest.fixture
def open_hospital(task: Task, scorer: Scorer, patients: Pool, tmp_path: Path) -> Iterator[Open]:
    """Return a function that opens the same hospital on the same files, as after a restart: the one before is closed."""
    living: list[Hospital] = []

    def close() -> None:
        while living:
            living.pop().close()

    def opened(epsilon: float = 100.0, steps: int = 1, source: SecureSource | None = None, home: Path = tmp_path) -> Hospital:
        close()
        proposal = Proposal(task.digest, LocalPlan(Mechanism(0.5, 1.0, 3.0), steps, 0.1, 5.0), 6, 2)
        policy = Policy(epsilon, 1e-4, (task.digest,), epsilon)
        ledger, log = Ledger(Chain(home / "ledger.jsonl")), Chain(home / "egress.jsonl")
        hospital = Hospital(
            name="North",
            policy=policy,
            proposal=proposal,
            pool=patients,
            scorer=scorer,
            source=source or SecureSource(),
            ledger=ledger,
            gate=Gate(scorer.shape, proposal.plan.mechanism.dtype, log),
            outbox=Outbox(home / "outbox"),
        )
        living.append(hospital)
        return hospital

    yield opened
    close()


@pytest.fixture
def ask(task: Task, prompt: Array) -> Callable[..., Request]:
    def asked(round_: int = 1, run: str = "run1", shift: float = 0.0) -> Request:
        return Request(task.digest, run, round_, (prompt + shift).astype(np.float32))

    return asked
