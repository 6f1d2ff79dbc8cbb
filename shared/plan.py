"""The training plan in a task card: rounds, steps, who takes part, and how updates become one prompt."""

from typing import Annotated, Literal

from pydantic import Field, StringConstraints, field_validator, model_validator

from shared.personal import PersonalTable
from shared.toml import Table

SiteName = Annotated[str, StringConstraints(min_length=1, max_length=64, pattern=r"^[^/\\\x00-\x1f.][^/\\\x00-\x1f]*$")]
Positive = Annotated[float, Field(gt=0)]
Aggregation = Literal["sum", "trimmed-mean", "median", "krum"]
NEED_TOLERATE = ("trimmed-mean", "krum")


class PlanTable(Table):
    """The training plan; every number here is public."""

    rounds: Annotated[int, Field(ge=1, le=100_000)]
    patients_per_round: Positive  # public denominator of the sum over all sites, never a count of real patients
    local_steps: Annotated[int, Field(ge=1, le=1000)] = 1
    local_learning_rate: Positive = 0.1
    local_proximal: Annotated[float, Field(ge=0)] = 0.0  # FedProx: how strongly local steps are drawn back to the broadcast prompt
    control: Literal["none", "scaffold"] = "none"  # SCAFFOLD: local steps are corrected for how unlike the sites are
    optimizer: Literal["sgd", "adam", "yogi"] = "adam"
    learning_rate: Positive = 0.05
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.9
    average_last: Annotated[float, Field(ge=0, le=1)] = 0.3  # share of late rounds whose prompts are averaged
    sites: tuple[SiteName, ...]
    quorum: Annotated[int, Field(ge=1)] | None = None  # sites that must contribute to a round; default: all
    aggregation: Aggregation = "sum"  # how the sites' updates become one; docs/robustness.md
    tolerate: Annotated[int, Field(ge=0)] | None = None  # f, lying sites that trimmed-mean and krum withstand
    personal: PersonalTable | None = None

    @field_validator("sites")
    @classmethod
    def _distinct(cls, sites: tuple[str, ...]) -> tuple[str, ...]:
        if not sites:
            raise ValueError("the roster is empty; name at least one site")
        twice = sorted({site for site in sites if sites.count(site) > 1})
        if twice:
            raise ValueError(f"site '{twice[0]}' is listed twice; list each site once")
        return sites

    @model_validator(mode="after")
    def _quorum_fits(self) -> "PlanTable":
        if self.quorum is not None and self.quorum > len(self.sites):
            raise ValueError(f"quorum {self.quorum} is more than the {len(self.sites)} sites of the roster; lower it")
        return self

    @model_validator(mode="after")
    def _tolerate_belongs(self) -> "PlanTable":
        if self.aggregation not in NEED_TOLERATE:
            if self.tolerate is not None:
                raise ValueError(f"tolerate says nothing to '{self.aggregation}'; remove it, or choose 'trimmed-mean'")
        elif not self.tolerate:  # none named, or none at all: that would be the mean
            raise ValueError(f"'{self.aggregation}' needs tolerate, the lying sites to withstand; give 1 or more, or choose 'sum'")
        return self

    @model_validator(mode="after")
    def _control_fits(self) -> "PlanTable":
        plain = self.optimizer == "sgd" and self.momentum == 0 and self.aggregation == "sum"
        if self.control != "none" and not (plain and self.local_steps > 1):
            raise ValueError(
                "control 'scaffold' corrects several local steps under the coordinator's plain step; set local_steps to 2 or more, "
                "optimizer = 'sgd', momentum = 0 and aggregation = 'sum'"
            )
        return self

    @model_validator(mode="after")
    def _personal_takes_one_step(self) -> "PlanTable":
        if self.personal and self.local_steps > 1:  # the payload says where all steps led, and each needs a pull of its own
            raise ValueError("[plan.personal] moves once a round and local_steps is more than 1; set local_steps = 1")
        return self

    @model_validator(mode="after")
    def _enough_sites(self) -> "PlanTable":
        who = f"'{self.aggregation}'" + (f" with tolerate {self.tolerate}" if self.tolerate else "")
        if len(self.sites) < self.fewest:
            raise ValueError(f"{who} needs {self.fewest} sites and the roster has {len(self.sites)}; choose 'sum' or add sites")
        if self.least < self.fewest:
            raise ValueError(f"{who} needs {self.fewest} sites in every round and the quorum is {self.least}; raise quorum")
        return self

    @property
    def least(self) -> int:
        """The number of sites that must contribute to a round."""
        return self.quorum or len(self.sites)

    @property
    def average_from(self) -> int:
        """The first round whose prompt enters the published mean."""
        return self.rounds - round(self.average_last * self.rounds) + 1

    @property
    def fewest(self) -> int:
        """The fewest contributions that the aggregation is defined for.

        2f + 1 for the trimmed mean (Yin et al. 2018, definition 2), 2f + 3 for Krum (Blanchard et al. 2017, proposition 1);
        3 for the median, which with fewer is the mean.
        """
        f = self.tolerate or 0
        return {"sum": 1, "trimmed-mean": 2 * f + 1, "median": 3, "krum": 2 * f + 3}[self.aggregation]

    @property
    def tolerates(self) -> int:
        """The lying sites that every round's aggregation withstands: of the median, fewer than half of the quorum."""
        return (self.least - 1) // 2 if self.aggregation == "median" else self.tolerate or 0
