"""The site file: the hospital's own TOML file. Nothing in it is ever set by the coordinator."""

from dataclasses import replace
from pathlib import Path
from typing import Annotated, Literal, TypeVar

from pydantic import Field, StringConstraints, model_validator

from client.policy import Policy
from client.records import ColumnMap
from client.scan import ScanPolicy
from shared.card import Sha256
from shared.device import PATTERN
from shared.errors import InputError
from shared.plan import Positive, SiteName
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


class ImagesTable(DataTable):
    """`[images]`: a manifest, a table of one row a file, names files, patients and labels; see docs/images.md."""

    path: Path = Field(alias="manifest")
    folder: Path
    file: str = "file"  # the manifest's column that names the file, relative to the folder
    skip_broken: bool = False  # leave out files that cannot be read, and list them, instead of refusing
    burned_in: Literal["refuse", "allow"] = "refuse"  # DICOM files that say that text is burned into the picture
    missing_patient: Literal["refuse", "file"] = "refuse"  # DICOM without a patient: refuse, or every file is one

    @model_validator(mode="after")
    def _no_columns(self) -> "ImagesTable":
        if self.columns:
            raise ValueError("columns says nothing of images; remove it")
        return self

    @property
    def columns_map(self) -> ColumnMap:
        """The mapping as the reader of records takes it."""
        return replace(super().columns_map, table="images")

    @property
    def policy(self) -> ScanPolicy:
        """What the hospital decides about its files; a manifest that names patients needs none in the files."""
        return ScanPolicy(self.burned_in == "allow", self.patient is None and self.missing_patient == "refuse")


Located = TypeVar("Located", bound=DataTable)


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
    device: Annotated[str, StringConstraints(pattern=PATTERN)] = "cpu"  # where the frozen model runs, see `shared.device`
    table: DataTable | None = Field(default=None, alias="data")  # a hospital has [data] or [images], an audit site [canaries]
    images: ImagesTable | None = None
    canaries: CanaryFile | None = None
    ledger: LedgerTable
    policy: PolicyTable
    federation: FederationTable | None = None  # needed by `promptward join` only

    @model_validator(mode="after")
    def _one_kind_of_record(self) -> "SiteFile":
        there = [name for name, table in (("data", self.table), ("images", self.images), ("canaries", self.canaries)) if table]
        if "canaries" in there and len(there) > 1:
            raise ValueError(f"[{there[0]}] and [canaries] exclude each other: canaries never stand beside patients; remove one")
        if len(there) != 1:
            raise ValueError(
                "a site file has exactly one of [data] and [images]; give one" if there else "key 'data' is missing; add it"
            )
        return self

    @property
    def data(self) -> DataTable:
        """Where the records are: `[data]`, or `[images]`, whose path is the manifest; raise `InputError` at an audit site."""
        found = self.images or self.table
        if found is None:
            raise InputError(f"site '{self.site}' is an audit site with [canaries]: it has no patients and no table to read.")
        return found


def load_site(path: Path) -> SiteFile:
    """Load a site file with its paths made absolute; raise `InputError` naming file and key."""
    site = parse(SiteFile, read_text(path), str(path))
    home = path.resolve().parent
    canaries = site.canaries and CanaryFile(file=home / site.canaries.file)
    files: dict[str, Table] = {"ledger": LedgerTable(path=home / site.ledger.path)}
    files |= {"canaries": canaries} if canaries else {"images" if site.images else "table": at_home(site.data, home)}
    return site.model_copy(update=files | {"federation": _federation(site.federation, home)})


def at_home(table: Located, home: Path) -> Located:
    """Return the table with paths that were relative to the folder `home` made absolute."""
    folder = {"folder": home / table.folder} if isinstance(table, ImagesTable) else {}
    return table.model_copy(update={"path": home / table.path} | folder)


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
