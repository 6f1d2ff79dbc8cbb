"""Which simulated sites are there in a round: drop-out, stragglers and late joiners, from a seed and public shares."""

from dataclasses import dataclass
from typing import Literal

from shared.errors import InputError
from shared.privacy.source import SimulationSource, uniform

Presence = Literal["here", "away", "too late"]


@dataclass(frozen=True)
class Schedule:
    """Shares of sites and rounds in which something is missing.

    Attributes:
        dropout: probability that a site is away in a round: it hears nothing and charges nothing.
        stragglers: probability that a site's reply comes too late: it charged its ledger, and does not count.
        late_joiners: share of sites that join when half of the rounds are over.
    """

    dropout: float = 0.0
    stragglers: float = 0.0
    late_joiners: float = 0.0

    def __post_init__(self) -> None:
        """Refuse what is no share."""
        for name, value in vars(self).items():
            if not 0 <= value < 1:
                raise InputError(f"--{name.replace('_', '-')} {value:g}: give a share from 0 to below 1.")

    @property
    def any(self) -> bool:
        """Whether a site may ever be missing."""
        return any(vars(self).values())

    def presence(self, seed: int, site: str, round_: int, rounds: int) -> Presence:
        """Return where a site is in a round, the same at every call.

        >>> Schedule(dropout=0.5).presence(0, "North", 1, 10) in ("here", "away")
        True
        """
        if not self.any:
            return "here"
        joins, away, late = (
            uniform(SimulationSource(seed).stream("schedule", what, site, number), 1)[0]
            for what, number in (("joins", 0), ("away", round_), ("late", round_))
        )
        if away < self.dropout or (joins < self.late_joiners and round_ <= rounds // 2):
            return "away"
        return "too late" if late < self.stragglers else "here"
