"""The site file: the hospital's own TOML file. Nothing in it is ever set by the coordinator."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, StringConstraints, model_validator

from client.policy import Policy
from client.records import ColumnMap
from shared.card import Positive, Sha256, SiteName
from shared.errors import InputError
from shared.privacy.accounting import MOST_NOISE
from shared.privacy.integers import SMOOTH
from shared.toml import Table, parse, read_text


class DataTable(Table):
    """Where the records are and how their columns and labels map to the task card."""

    path: Path
    label: str
    labels: dict[str, str]  # raw value -> the card's label
    columns: dict[str, str] = {}  # the card's field -> local column; default: the same name
    patient: str | None = None  # column that names the patient; default: every row is a patient
    split: str | None = None  # column with 'train' or 'test'; test rows are never trained on and never leave

    @property
    def columns_map(self) -> ColumnMap:
        """The mapping as the reader of records takes it."""
        return ColumnMap(self.label, self.labels, self.columns, self.patient, self.split)


class CanaryFile(Table):
    """Of an audit site, which has canaries in place of patients: the file that `promptward canaries new` made."""

    file: Path


class LedgerTable(Table):
    """Where releases are recorded."""

    path: Path


class PolicyTable(Table):
    """What this hospital allows, whatever a coordinator asks for: see `client.policy.Policy`."""

    epsilon: Positive
    delta: Annotated[float, Field(gt=0, lt=1e-2)]
    tasks: tuple[Sha256, ...]
    task_epsilon: Positive | None = None  # default: the whole budget
    least_noise: Positive = 0.5
    most_rate: Annotated[float, Field(gt=0, le=1)] = 1.0
    most_clip_norm: Positive = 100.0
    most_rounds: Annotated[int, Field(ge=1)] = 10_000
    most_records: Annotated[int, Field(ge=1)] = 100
    least_patients: Annotated[int, Field(ge=1)] = 20
    metric_noise: Annotated[float, Field(gt=SMOOTH, le=MOST_NOISE)] | None = None  # absent: no accuracy is ever published
    most_metrics: Annotated[int, Field(ge=1)] = 3

    @property
    def policy(self) -> Policy:
        """The policy as the hospital applies it."""
        given = self.model_dump()
        return Policy(**given | {"task_epsilon": self.task_epsilon or self.epsilon})


class FederationTable(Table):
    """How the hospital reaches its coordinator: what `promptward keys` made and the coordinator handed over."""

    task: str  # the card's path, or a shipped card's name
    address: Annotated[str, StringConstraints(pattern=r"^\S+:[0-9]{1,5}$")]  # HOST:PORT of the coordinator's Fleet API
    certificate: Path  # the federation's CA certificate, PEM
    key: Path  # this hospital's private key, OpenSSH format, readable by its owner only


class SiteFile(Table):
    """The whole site file; relative paths are relative to the file's folder."""

    schema_version: Literal[1] = Field(alias="schema")
    site: SiteName
    table: DataTable | None = Field(default=None, alias="data")  # a hospital has [data], an audit site [canaries]
    canaries: CanaryFile | None = None
    ledger: LedgerTable
    policy: PolicyTable
    federation: FederationTable | None = None  # needed by `promptward join` only

    @model_validator(mode="after")
    def _has_patients_or_canaries(self) -> "SiteFile":
        if self.table is not None and self.canaries is not None:
            raise ValueError("[data] and [canaries] exclude each other: canaries never stand beside patients; remove one")
        if self.table is None and self.canaries is None:
            raise ValueError("key 'data' is missing; add it")
        return self

    @property
    def data(self) -> DataTable:
        """Where the patients are; raise `InputError` at an audit site, which has none."""
        if self.table is None:
            raise InputError(f"site '{self.site}' is an audit site with [canaries]: it has no patients and no table to read.")
        return self.table


def load_site(path: Path) -> SiteFile:
    """Load a site file with its paths made absolute; raise `InputError` naming file and key."""
    site = parse(SiteFile, read_text(path), str(path))
    home = path.resolve().parent
    data = site.table and site.table.model_copy(update={"path": home / site.table.path})
    canaries = site.canaries and CanaryFile(file=home / site.canaries.file)
    files = {"table": data, "canaries": canaries, "ledger": LedgerTable(path=home / site.ledger.path)}
    return site.model_copy(update=files | {"federation": _federation(site.federation, home)})


def _federation(table: FederationTable | None, home: Path) -> FederationTable | None:
    if table is None:
        return None
    card = str(home / table.task) if table.task.endswith(".toml") else table.task
    return table.model_copy(update={"task": card, "certificate": home / table.certificate, "key": home / table.key})


def federation_of(site: SiteFile, path: Path) -> FederationTable:
    """Return how the coordinator is reached; raise `InputError` when the site file does not say."""
    if site.federation is None:
        raise InputError(f"{path}: table [federation] is missing; add task, address, certificate and key from your invitation.")
    return site.federation
