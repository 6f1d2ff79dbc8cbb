"""Control variates for hospitals that take several local steps: SCAFFOLD (Karimireddy et al. 2020, option II), from noised values.

In step s of a round hospital k moves its copy y of the prompt by

    y <- y - learning_rate * (g_s / denominator - c_k + c)

where g_s is the step's noised sum, c_k the mean of those quotients in the round before, and c the mean of all hospitals' c_k. A
hospital finds c_k in the payload that it sent, and c in what the coordinator's plain step made of all payloads: the difference of
two broadcasts. So nothing more is sent, and what leaves is the sum of the g_s as ever.

**It costs no epsilon beyond the ledger's** (DP-SCAFFOLD, Noble et al. 2022): both are computed from broadcasts and from a payload
that is on the ledger. Where a round was missed, or a file is gone, the control is zero and the round an ordinary one.

Letters in shape comments: P prompt rows, L label rows, D hidden size.
"""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from client.ledger import Ledger
from client.outbox import Outbox
from client.round import LocalPlan
from shared.card import TaskCard
from shared.privacy.mechanism import Update, decode
from shared.prompt import Array
from shared.wire import Request, sha256


@dataclass(frozen=True)
class Control:
    """Where a hospital keeps the newest broadcasts, and the coordinator's learning rate."""

    broadcasts: Outbox
    learning_rate: float

    def plan(self, plan: LocalPlan, request: Request, sent: Outbox, ledger: Ledger | None) -> LocalPlan:
        """Return the plan of a round with the control that its local steps add.

        Args:
            plan: of every round.
            request: the round that is asked for.
            sent: the kept payloads.
            ledger: says which payload was paid for, and for which broadcast; None in a simulation without privacy.
        """
        before = self.broadcasts.find(request.run, request.round - 1)
        payload = sent.find(request.run, request.round - 1)
        if before is None or payload is None or not _paid(request, before, payload, ledger):
            return plan
        return replace(plan, drift=self.drift(plan, before, request.prompt, payload))

    def drift(self, plan: LocalPlan, before: Array, now: Array, payload: Update) -> torch.Tensor:
        """Return c - c_k (P+L, D), from the broadcasts of two rounds and what the hospital sent in the first of them."""
        everybody = (before.astype(np.float64) - now) / self.learning_rate  # (P+L, D); the coordinator divides by the steps too
        own = decode(payload, plan.mechanism) / (plan.steps * plan.denominator)  # (P+L, D)
        return torch.from_numpy(everybody - own).float()

    def keep(self, request: Request) -> None:
        """Keep a round's broadcast, which is public, for the round after it."""
        self.broadcasts.keep(request.run, request.round, request.prompt)


def control_of(card: TaskCard, ledger: Path, durable: bool = True) -> Control | None:
    """Return the control of the site with this ledger; None where the card wants none."""
    if card.plan.control == "none":
        return None
    return Control(Outbox(ledger.with_suffix(".broadcasts"), durable), card.plan.learning_rate)


def _paid(request: Request, before: Array, payload: Update, ledger: Ledger | None) -> bool:
    if ledger is None:
        return True
    charge = ledger.find(request.task_digest, request.run, request.round - 1)
    return charge is not None and (charge.payload, charge.asked) == (sha256(payload), sha256(before))
