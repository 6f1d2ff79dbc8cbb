"""One cell becomes one run directory, made by the code of `promptward simulate`; cells share what is in memory."""

import hashlib
import json
import time
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import tomli_w
from rich.console import Console

from shared.card import Task
from shared.errors import InputError
from simulations.command import HOLD, simulate
from simulations.federation import Federation, Resident, prepare, resident
from simulations.heart import FLAMBY_SEED
from simulations.options import Changes, Options, usual_partition, varied
from simulations.partition import Scheme
from simulations.result import SeedOutcome
from simulations.study import SitePatients, Study, deal_out
from simulations.sweep.plan import NONE, Cell, Settings, Sweep
from simulations.synthetic import PREFIX

PROMPT = ("rows", "layer", "position", "deep")
PRIVACY = ("bands",)
PLAN = ("optimizer", "learning_rate", "momentum", "local_steps", "local_learning_rate", "local_proximal")
SHARED = ("backbone", "prompt", "tune", "labels", "template", "image")  # parts of a card on which hidden states hang


def card_of(sweep: Sweep) -> Task:
    """Return the sweep's card: a file beside it, or a shipped one by its name."""
    name = sweep.file.card
    return Task.load(str(sweep.home / name) if name.endswith(".toml") or (sweep.home / name).exists() else name)


def data_of(sweep: Sweep) -> str | None:
    """Return what `--data` would name, or None for the demonstration's patients."""
    data = sweep.file.data
    return data if data is None or data.startswith(PREFIX) else str((sweep.home / data).resolve())


def options_of(sweep: Sweep, task: Task, settings: Settings) -> Options:
    """Return a cell's choices as `promptward simulate` has them."""
    data = data_of(sweep)
    return Options(
        partition=settings.partition or usual_partition(task, settings.sites, data),
        seeds=sweep.file.seeds,
        split=FLAMBY_SEED if settings.split is None else settings.split,
        private=settings.epsilon != NONE,
        data=data,
        engine=sweep.file.engine,
        device=sweep.file.device,
        dropout=settings.dropout or 0.0,
        stragglers=settings.stragglers or 0.0,
        late_joiners=settings.late_joiners or 0.0,
    )


def changes_of(settings: Settings) -> Changes:
    """Return what a cell changes in the card by the options of `promptward simulate`."""
    epsilon = settings.epsilon if isinstance(settings.epsilon, float) else None
    rule = settings.aggregation, settings.tolerate, settings.quorum
    return Changes(settings.sites, epsilon, settings.rounds, *rule)


def shaped(task: Task, settings: Settings) -> Task:
    """Return the card with the cell's keys of `[prompt]` and of the optimizer; raise `InputError` where no card can hold them."""
    raw, given = tomllib.loads(task.text), settings.given
    for table, keys in (("prompt", PROMPT), ("privacy", PRIVACY), ("plan", PLAN)):
        raw.setdefault(table, {}).update({key: given[key] for key in keys if key in given})
    return task if raw == tomllib.loads(task.text) else Task.parse(tomli_w.dumps(raw), "the changed task card")


class Memory:
    """What the cells of a sweep share: tables that were read, the one frozen model, and hidden states.

    The model is loaded once (`shared.backbone.load_backbone`). Hidden states of the last cell are kept, for the next cell with the
    same patients at the same sites, the same model and the same prompt shape.
    """

    def __init__(self, sweep: Sweep) -> None:
        """Read the card."""
        self._sweep, self._card = sweep, card_of(sweep)
        if self._card.card.audit is not None:
            raise InputError(f"{sweep.file.card}: the card has an audit site; take [audit] out, a sweep has no canaries.")
        self._studies: dict[int, Study] = {}
        self._key: object = None
        self._held: Resident | None = None

    @property
    def card(self) -> Task:
        """The card that cells start from."""
        return self._card

    def study(self, options: Options) -> Study:
        """Return the patients, read once for each split."""
        if options.split not in self._studies:
            self._studies[options.split] = options.study(self._card)
        return self._studies[options.split]

    def data_digest(self) -> str | None:
        """Return the SHA-256 of the patients' table; None where the card pins the data, or they are made up from a seed."""
        options = options_of(self._sweep, self._card, Settings())
        if options.data is None or options.data.startswith(PREFIX):
            return None
        rows = self.study(options).rows
        return hashlib.sha256(json.dumps([list(row.items()) for row in rows], default=str).encode()).hexdigest()

    def federation(self, cell: Cell) -> tuple[Federation, Options]:
        """Return a cell's federation, ready to run; raise `InputError` where that cannot be."""
        options = options_of(self._sweep, self._card, cell.settings)
        study = self.study(options)
        task = varied(shaped(self._card, cell.settings), changes_of(cell.settings), options, study)
        key = self._facts(task, options)
        if key != self._key:
            self._held, self._key = None, None  # first let go, so that two are never in memory
            sites: Mapping[str, SitePatients] = deal_out(
                study, task.card, Scheme.parse(options.partition), task.card.hospitals, options.split
            )
            self._held = resident(task.card, sites, HOLD[options.engine], options.device)
            self._key = key
        return prepare(task, {}, options.private, None, options.schedule, held=self._held), options

    def place(self, cell: Cell) -> str:
        """Return a text that is equal for cells which share hidden states, to run them one after the other."""
        options = options_of(self._sweep, self._card, cell.settings)
        told = [options.split, options.partition, cell.settings.sites, *(cell.settings.given.get(key) for key in PROMPT)]
        return "\t".join(str(each) for each in told)

    @staticmethod
    def _facts(task: Task, options: Options) -> object:
        parts = [getattr(task.card, name) for name in SHARED]
        return [options.split, options.partition, task.card.hospitals, task.card.privacy.max_records, parts]


def run_cell(memory: Memory, cell: Cell, out: Path, console: Console) -> tuple[Federation, dict[str, Any], list[SeedOutcome]]:
    """Train a cell in its run directory, or go on with it.

    Returns its federation, `result.json`'s content and each seed's outcome.
    """
    started = time.perf_counter()
    federation, options = memory.federation(cell)
    result, outcomes = simulate(federation, options, out, console, started)
    return federation, result, outcomes
