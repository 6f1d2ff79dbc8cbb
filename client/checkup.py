"""One hospital as `promptward doctor site` looks at it: what its site file leads to, read when it is first asked for."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from client.cohorts import cohort_of
from client.join_command import Files
from client.ledger import Event, read_ledger
from client.opening import proposal_of
from client.policy import Policy, Proposal
from client.records import Cohort, Row, read_rows
from client.site import FederationTable, SiteFile, federation_of
from shared.card import Task
from shared.privacy.planned import mechanism_of


@dataclass(frozen=True)
class Examined:
    """What the checks look at; nothing here is written to. Every property raises what its reader raises."""

    file: Path
    site: SiteFile

    @property
    def files(self) -> Files:
        """Ledger and what lies beside it."""
        return Files(self.site.ledger.path, Path())

    @property
    def policy(self) -> Policy:
        """What the hospital allows."""
        return self.site.policy.policy

    @property
    def federation(self) -> FederationTable:
        """How the coordinator is reached."""
        return federation_of(self.site, self.file)

    @cached_property
    def task(self) -> Task:
        """The card."""
        return Task.load(self.federation.task)

    @cached_property
    def proposal(self) -> Proposal:
        """What the card asks of this hospital."""
        return proposal_of(self.task, mechanism_of(self.task.card))

    @cached_property
    def rows(self) -> Sequence[Row]:
        """The table."""
        return read_rows(self.site.data.path)

    @cached_property
    def patients(self) -> Cohort:
        """Those that are trained on."""
        return self.part("train")

    @cached_property
    def events(self) -> Sequence[Event]:
        """What the ledger has charged."""
        return read_ledger(self.files.ledger)

    def part(self, name: str) -> Cohort:
        """Return the patients of one part of the table, `train` or `test`."""
        return cohort_of(self.site.data, self.rows, self.task.card, name)
