"""A sweep's file: which simulations, as a grid of settings and as explicit runs."""

import itertools
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_type_hints

from pydantic import AfterValidator, BeforeValidator, Field, PlainValidator, StringConstraints, create_model, model_validator

from shared.backbones.protocol import Position
from shared.card import Name
from shared.device import PATTERN
from shared.errors import InputError
from shared.plan import Positive
from shared.privacy.banded import MOST_BANDS
from shared.toml import Table, digest, parse, read_text, shipped
from simulations.options import MOST_SEEDS, MOST_SITES
from simulations.partition import Scheme

MOST_RUNS = 10_000  # trainings: cells times seeds
NONE = "none"  # as epsilon: without privacy
SHIPPED = Path(__file__).parents[1] / "sweeps"


def _epsilon(value: object) -> float | str:
    if value == NONE:
        return NONE
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value <= 1000:
        raise ValueError('give a number above 0 and at most 1000, or "none" for a run without privacy')
    return float(value)


def _scheme(text: str) -> str:
    try:
        Scheme.parse(text)
    except InputError as error:
        raise ValueError(str(error).removeprefix("--").rstrip(".")) from None
    return text


Share = Annotated[float, Field(ge=0, lt=1)]


class Settings(Table):
    """What a simulation may differ in; a key that is absent leaves the card's own value, or the usual one.

    The keys of `[prompt]`, `[privacy]` and `[plan]` are those of a task card.
    """

    sites: Annotated[int, Field(ge=1, le=MOST_SITES)] | None = None
    partition: Annotated[str, AfterValidator(_scheme)] | None = None
    split: Annotated[int, Field(ge=0, lt=2**32)] | None = None
    epsilon: Annotated[float | str, PlainValidator(_epsilon)] | None = None
    bands: Annotated[int, Field(ge=1, le=MOST_BANDS)] | None = None
    rows: Annotated[int, Field(ge=0, le=512)] | None = None
    layer: Annotated[int, Field(ge=0)] | None = None
    position: Position | None = None
    deep: bool | None = None
    rounds: Annotated[int, Field(ge=1, le=100_000)] | None = None
    aggregation: Literal["sum", "trimmed-mean", "median", "krum"] | None = None
    tolerate: Annotated[int, Field(ge=0)] | None = None
    quorum: Annotated[int, Field(ge=1)] | None = None
    optimizer: Literal["sgd", "adam", "yogi"] | None = None
    learning_rate: Positive | None = None
    momentum: Share | None = None
    local_steps: Annotated[int, Field(ge=1, le=1000)] | None = None
    local_learning_rate: Positive | None = None
    local_proximal: Annotated[float, Field(ge=0)] | None = None
    dropout: Share | None = None
    stragglers: Share | None = None
    late_joiners: Share | None = None

    @property
    def given(self) -> dict[str, Any]:
        """The settings that are there."""
        return self.model_dump(exclude_none=True)


def _several(value: object) -> object:
    return value if isinstance(value, list | tuple) else [value]


# `[grid]` has the keys of `Settings`, each with the values to go through; one value may stand without brackets.
_LISTS: dict[str, Any] = {
    key: (Annotated[tuple[hint, ...], BeforeValidator(_several), Field(min_length=1)] | None, None)  # type: ignore[valid-type]
    for key, hint in get_type_hints(Settings, include_extras=True).items()
    if key in Settings.model_fields
}
if TYPE_CHECKING:
    Grid = Table
else:
    Grid = create_model("Grid", __base__=Table, __doc__="The values of each setting.", **_LISTS)


class SweepFile(Table):
    """The whole file. Paths are relative to it."""

    schema_version: Literal[1] = Field(alias="schema")
    name: Name = "sweep"
    title: str = ""
    card: str
    data: str | None = None
    engine: Literal["batched", "in-process"] = "batched"
    device: Annotated[str, StringConstraints(pattern=PATTERN)] = "cpu"
    seeds: Annotated[int, Field(ge=1, le=MOST_SEEDS)] = 1
    score: Literal["pooled_auc", "pooled_accuracy", "pooled_balanced_accuracy", "mean_of_sites_accuracy"] = "pooled_auc"
    baseline: Settings | None = None
    fixed: Settings = Settings()
    grid: Grid = Grid()
    runs: tuple[Settings, ...] = ()

    @model_validator(mode="after")
    def _not_too_many(self) -> "SweepFile":
        lists = self.grid.model_dump(exclude_none=True).values()
        count = (math.prod(len(values) for values in lists) if lists or not self.runs else 0) + len(self.runs)
        if count * self.seeds > MOST_RUNS:
            raise ValueError(
                f"{count} cells with {self.seeds} seeds are {count * self.seeds} trainings and at most {MOST_RUNS} are run; "
                "shorten a list of [grid], or lower seeds"
            )
        found = _settings(self)
        said = [json.dumps(each.given, sort_keys=True) for each in found]
        twice = next((text for n, text in enumerate(said) if text in said[:n]), None)
        if twice is not None:
            raise ValueError(f"two cells are the same, {twice}; remove one from [grid] or [[runs]]")
        return self

    @model_validator(mode="after")
    def _baseline_is_one(self) -> "SweepFile":
        count = len(matching(self))
        if self.baseline is not None and count != 1:
            raise ValueError(f"[baseline] fits {count} cells; name the settings by which it is exactly one")
        return self


@dataclass(frozen=True)
class Cell:
    """One simulation: its number from 1, all its settings, and those in which the sweep's cells differ."""

    number: int
    settings: Settings
    told: Mapping[str, Any]

    @property
    def folder(self) -> str:
        """The name of its run directory."""
        text = "_".join(f"{key}-{in_words(value)}" for key, value in self.told.items())
        return f"{self.number:03d}-{''.join(c if c.isalnum() or c in '-_.' else '-' for c in text)}"[:100].rstrip("-")

    @property
    def words(self) -> str:
        """What sets it apart, for people."""
        return ", ".join(f"{key} {in_words(value)}" for key, value in self.told.items()) or "the only cell"


@dataclass(frozen=True)
class Sweep:
    """A parsed file, its text and digest, and the folder that its paths are relative to."""

    file: SweepFile
    text: str
    digest: str
    home: Path

    @classmethod
    def load(cls, name_or_path: str) -> "Sweep":
        """Load a file by path, or a shipped one by its name."""
        path = shipped(name_or_path, SHIPPED, "sweep")
        return cls.parse(read_text(path), str(path), path.resolve().parent)

    @classmethod
    def parse(cls, text: str, source: str, home: Path) -> "Sweep":
        """Parse a file's text; raise `InputError` that names `source` and the key."""
        return cls(parse(SweepFile, text, source), text, digest(text), home)


def cells(file: SweepFile) -> list[Cell]:
    """Return the grid's cells, the last key fastest, then the explicit runs."""
    found = _settings(file)
    varied = varying([each.given for each in found])
    return [Cell(number, each, {key: each.given.get(key) for key in varied}) for number, each in enumerate(found, start=1)]


def in_words(value: object) -> str:
    """Return a setting's value as text; one that was not given is the card's.

    >>> in_words(3.0), in_words("iid"), in_words(None)
    ('3', 'iid', 'card')
    """
    return "card" if value is None else f"{value:g}" if isinstance(value, float) else str(value)


def varying(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the keys whose values differ, in the order of `Settings`.

    >>> varying([{"rounds": 3, "sites": 2}, {"rounds": 3, "sites": 4}, {"rounds": 3}])
    ['sites']
    """
    return [key for key in Settings.model_fields if any(row.get(key) != rows[0].get(key) for row in rows)]


def matching(file: SweepFile) -> list[int]:
    """Return the numbers of the cells that have all settings of `[baseline]`; none without one."""
    wanted = file.baseline.given.items() if file.baseline else ()
    return [n for n, each in enumerate(_settings(file), start=1) if wanted and wanted <= each.given.items()]


def _settings(file: SweepFile) -> list[Settings]:
    lists = file.grid.model_dump(exclude_none=True)
    grid = (
        [dict(zip(lists, values, strict=True)) for values in itertools.product(*lists.values())] if lists or not file.runs else []
    )
    explicit = [run.given for run in file.runs]
    return [Settings(**{**file.fixed.given, **own}) for own in [*grid, *explicit]]
