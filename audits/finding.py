"""What an agreement check can find, and one row of its table."""

from collections.abc import Mapping
from dataclasses import dataclass

CHECKS: Mapping[str, str] = {
    "chain": "Every chained file is whole",
    "coordinator": "The coordinator's own files say the same",
    "payload": "Charged, sent and held are the same bytes",
    "order": "It was charged before it was sent",
    "uncharged": "Nothing left that was not charged",
    "twice": "No round was charged twice and no payload used twice",
    "asked": "Every site was asked with the prompt that the coordinator kept",
    "form": "Whatever left is one of a hospital's calls; a reply is one array or the fixed error code",
    "time": "The compute time that Flower sends is zero",
    "terms": "It was charged with the card's mechanism",
    "epsilon": "Epsilon recomputed from the ledger is the published one",
}


@dataclass(frozen=True)
class Finding:
    """One disagreement: the check that found it, where, and a sentence. `site`, `run` and `round` are None where it has none."""

    check: str
    says: str
    site: str | None = None
    run: str | None = None
    round: int | None = None


@dataclass(frozen=True)
class Row:
    """One site in one round: the payload as the ledger charged it, as it left, as the coordinator holds it; None: not there."""

    site: str
    run: str
    round: int
    charged: str | None
    sent: str | None
    held: str | None
    says: str
