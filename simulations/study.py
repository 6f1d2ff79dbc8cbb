"""The patients that a simulation deals out to its sites: the demonstration's, or a table of your own."""

import hashlib
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from client.cohorts import pictures_of
from client.images import Source, image_cohort
from client.records import Cohort, ColumnMap, Row, cohort, labels_of, patients_of, read_rows
from client.site import DataTable, ImagesTable, at_home
from shared.card import TaskCard
from shared.errors import InputError
from shared.toml import Table, parse, read_text
from simulations.features import clusters, picture_vectors, table_vectors
from simulations.partition import Scheme, deal, deal_by_value

SPLIT = "promptward split"  # our own column: train or test


class StudyTable(DataTable):
    """`[data]` of a study file: a site file's `[data]`, plus which column names the hospital and how to split."""

    site: str | None = None
    test_share: Annotated[float, Field(gt=0, lt=1)] = 0.34  # used where no `split` column says train or test


class StudyImagesTable(ImagesTable):
    """`[images]` of a study file, with the same two keys more."""

    site: str | None = None
    test_share: Annotated[float, Field(gt=0, lt=1)] = 0.34


class StudyFile(Table):
    """A study file for `promptward simulate --data`: one table, or manifest of images, with the patients of all sites."""

    schema_version: Literal[1] = Field(alias="schema")
    data: StudyTable | None = None  # this, or
    images: StudyImagesTable | None = None

    @property
    def table(self) -> StudyTable | StudyImagesTable:
        """Where the records are; raise `InputError` unless exactly one table says so."""
        if self.data is not None and self.images is None:
            return self.data
        if self.images is None or self.data is not None:
            raise InputError("a study file has exactly one of [data] and [images]; give one.")
        return self.images


@dataclass(frozen=True)
class Study:
    """Rows of all sites, how their columns map to the card, and the hospital of each row (empty: nobody knows).

    `pictures` says for a card where the rows' images are; None: the rows are the records.
    """

    rows: Sequence[Row]
    columns: ColumnMap
    hospitals: Sequence[str]
    source: str
    pictures: Callable[[TaskCard], Source] | None = None


@dataclass(frozen=True)
class SitePatients:
    """A simulated site's two parts; `test` is looked at by the simulation only."""

    train: Cohort
    test: Cohort


def load_study(path: Path, seed: int) -> Study:
    """Read a study file and its table; raise `InputError` naming file and key."""
    data = at_home(parse(StudyFile, read_text(path), str(path)).table, path.resolve().parent)
    table = data.path
    rows = read_rows(table)
    columns = data.columns_map
    hospitals: list[str] = []
    if data.site is not None:
        absent = next((n for n, row in enumerate(rows, 1) if not str(row.get(data.site) or "").strip()), None)
        if absent is not None:
            raise InputError(f"{table}: row {absent}: column '{data.site}' ([data] site) names no hospital; fill it.")
        hospitals = [str(row[data.site]).strip() for row in rows]
    if data.split is None:
        rows, columns = _split(rows, columns, data.test_share, seed, str(table)), replace(columns, split=SPLIT)
    return Study(rows, columns, hospitals, str(table), pictures_of(data) if isinstance(data, ImagesTable) else None)


def deal_out(study: Study, card: TaskCard, scheme: Scheme, sites: Sequence[str], seed: int) -> dict[str, SitePatients]:
    """Return the patients of each site, in the roster's order.

    Raises `InputError` for a column, label or cell that the card cannot read, or a site without training patients.
    """
    chosen = _natural(study, sites) if scheme.kind == "natural" else _dealt(study, card, scheme, sites, seed)
    rows_of: dict[str, list[Row]] = defaultdict(list)
    for row, site in zip(study.rows, chosen, strict=True):
        rows_of[site].append(row)
    return {site: _parts(rows_of[site], study, card, site) for site in sites}


def natural_sites(study: Study) -> list[str]:
    """Return the hospitals that the table names, in order of appearance."""
    if not study.hospitals:
        raise InputError(f"{study.source}: no column names the hospital; set [data] site, or choose another --partition.")
    return list(dict.fromkeys(study.hospitals))


def _parts(rows: Sequence[Row], study: Study, card: TaskCard, site: str) -> SitePatients:
    if not rows:
        raise InputError(f"{study.source}: site '{site}' has no patients; take it off the roster or give it some.")
    labels = [label.name for label in card.labels]
    read = {part: _cohort(rows, replace(study.columns, part=part), study, card, labels) for part in ("train", "test")}
    if read["train"].size == 0:
        raise InputError(f"{study.source}: site '{site}' has no training patients; give it at least one.")
    return SitePatients(read["train"], read["test"])


def _cohort(rows: Sequence[Row], how: ColumnMap, study: Study, card: TaskCard, labels: Sequence[str]) -> Cohort:
    most = card.privacy.max_records
    if study.pictures is not None:
        return image_cohort(rows, how, study.pictures(card), card.picture, labels, most)
    if card.image is not None:
        raise InputError(f"{study.source}: the card reads images; name a study file with [images].")
    return cohort(rows, how, card.record_text, labels, most, study.source)


def _natural(study: Study, sites: Sequence[str]) -> list[str]:
    known = natural_sites(study)
    missing = [site for site in sites if site not in known]
    if missing:
        raise InputError(f"{study.source}: site '{missing[0]}' of the roster has no rows; the table has {', '.join(known)}.")
    surplus = [site for site in known if site not in sites]
    if surplus:
        raise InputError(f"{study.source}: the table's site '{surplus[0]}' is not on the roster; add it to [plan] sites.")
    return list(study.hospitals)


def _dealt(study: Study, card: TaskCard, scheme: Scheme, sites: Sequence[str], seed: int) -> list[str]:
    """Deal whole patients: a patient's label, part and features are those of the patient's first record."""
    owners = patients_of(study.rows, study.columns, study.source)
    values = labels_of(study.rows, study.columns, study.source)
    split = study.columns.split
    first = {owner: n for n, owner in reversed(list(enumerate(owners)))}
    order = sorted(first, key=first.__getitem__)
    rows = [study.rows[first[owner]] for owner in order]
    train = [split is None or str(row.get(split)) == "train" for row in rows]
    if scheme.kind == "feature":
        dealt = deal_by_value(_column(study, rows, scheme.column), train, len(sites), seed)
    elif scheme.kind == "cluster":
        dealt = deal(scheme, _clusters(study, card, rows, seed), train, len(sites), seed)
    else:
        names = sorted(set(values))
        dealt = deal(scheme, [names.index(values[first[owner]]) for owner in order], train, len(sites), seed)
    where = dict(zip(order, dealt, strict=True))
    return [sites[where[owner]] for owner in owners]


def _column(study: Study, rows: Sequence[Row], column: str) -> list[object]:
    known = list(dict.fromkeys(name for row in study.rows for name in row if name != SPLIT))
    if column not in known:
        raise InputError(f"--partition feature:{column}: {study.source} has no such column; its columns are {', '.join(known)}.")
    return [row.get(column) for row in rows]


def _clusters(study: Study, card: TaskCard, rows: Sequence[Row], seed: int) -> Sequence[int]:
    """Group patients by what a model would read of them, without a model: the template's columns, or the pictures' grey."""
    if study.pictures is not None:
        return clusters(picture_vectors(rows, study.pictures(card).read, card.picture), seed)
    columns = [study.columns.columns.get(name, name) for name in card.record_text.names]
    return clusters(table_vectors([_column(study, rows, column) for column in columns]), seed)


def _split(rows: Sequence[Row], columns: ColumnMap, share: float, seed: int, source: str) -> list[Row]:
    """Send a share of the patients, all records of a patient together, to the test part."""
    import numpy as np  # noqa: PLC0415

    owners = patients_of(rows, columns, source)
    distinct = list(dict.fromkeys(owners))
    tested = set(np.random.default_rng(seed).permutation(distinct)[: round(share * len(distinct))].tolist())
    return [{**row, SPLIT: "test" if owner in tested else "train"} for row, owner in zip(rows, owners, strict=True)]


def check_pins(pins: Mapping[str, str], where: str, content: bytes) -> None:
    """Raise `InputError` unless the card pins exactly these bytes for `where`."""
    found = hashlib.sha256(content).hexdigest()
    if where not in pins:
        raise InputError(f"[files] does not pin '{where}'; add it with SHA-256 {found}.")
    if pins[where] != found:
        raise InputError(f"{where}: SHA-256 is {found}, the card pins {pins[where]}; install the package that the card names.")
