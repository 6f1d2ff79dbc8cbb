"""What one of Ray's actors holds: the run that it opened once, and the patients of the sites that it was asked for.

A site belongs to no actor. Its ledger, egress log and outbox are files of the run directory: they are opened for a message and
read anew, so that any actor goes on from where another one stopped. The grid sends a site one message at a time.
"""

import functools
import logging
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from flwr.app import ConfigRecord, Context, Message

from client.app import client_app, refuse
from client.app import log as site_log
from client.hospital import Hospital
from client.round import answer
from shared.canaries import read_canaries
from shared.card import Task
from shared.errors import InputError, PromptwardError
from shared.flower import identify, log_quietly
from shared.privacy.mechanism import Update
from simulations.federation import Federation, books, hospital, nodes, prepare
from simulations.grid import RUN_ID
from simulations.options import Options
from simulations.partition import Scheme
from simulations.pools import lazily
from simulations.study import deal_out

TOLD = "told"  # the record of a context's state that goes back beside the reply
SECONDS, ACTOR, LOADED, LOG, WRONG = "seconds", "actor", "loaded", "log", "wrong"


@dataclass(frozen=True)
class Place:
    """Where an actor finds the run.

    Attributes:
        run: the run directory, absolute.
        folder: the working directory that a card's relative paths start from.
        version: of Promptward, where the run was started.
    """

    run: Path
    folder: Path
    version: str


@functools.lru_cache(maxsize=1)
def opened(place: Place) -> Federation:
    """Open the run: the card, the patients and the backbone; hidden states are computed when a site is first asked.

    Raises `InputError` where this machine has another Promptward, or does not see the run directory or what its card names.
    """
    if version("promptward") != place.version:
        raise InputError(f"Promptward is {version('promptward')} here and {place.version} where the run was started; install one.")
    if not place.run.is_dir():
        raise InputError(f"{place.run}: no such folder here; give the run directory, by --out, a path that every machine shares.")
    if place.folder.is_dir():
        os.chdir(place.folder)
    identify(RUN_ID)
    log_quietly()
    options, task = Options.load(place.run), Task.load(str(place.run / "task.toml"))
    sites = deal_out(options.study(task), task.card, Scheme.parse(options.partition), task.card.hospitals, options.split)
    canaries = read_canaries(Path(options.canaries)) if options.canaries else None
    return prepare(task, sites, options.private, canaries, options.schedule, lazily)


def app_of(place: Place, seed: int) -> Callable[[Message, Context], Message]:
    """Return the app of all sites of a seed; it leaves in the context's state what the driver is told beside the reply."""
    try:
        federation = opened(place)
    except PromptwardError as error:
        return functools.partial(_not_opened, str(error))
    names = nodes(federation)

    def answered(message: Message, context: Context) -> Message:
        seconds: list[float] = []

        def timed(*args: object) -> Update:
            before = time.perf_counter()
            update = answer(*args)  # type: ignore[arg-type]
            seconds.append(time.perf_counter() - before)
            return update

        def hospital_of(where: Context) -> Hospital:
            return hospital(federation, names[where.node_id], seed, books(place.run, seed), timed)

        kept = _Kept()
        site_log.addHandler(kept)
        try:
            reply = client_app(hospital_of)(message, context)
        finally:
            site_log.removeHandler(kept)
        _tell(context, sum(seconds), kept.lines)
        return reply

    return answered


def _not_opened(why: str, message: Message, context: Context) -> Message:
    _tell(context, 0.0, [], why)
    return refuse(message, context)


def _tell(context: Context, seconds: float, lines: list[str], wrong: str = "") -> None:
    loaded = opened.cache_info().misses
    context.state[TOLD] = ConfigRecord({SECONDS: seconds, ACTOR: str(os.getpid()), LOADED: loaded, LOG: lines, WRONG: wrong})


class _Kept(logging.Handler):
    """Keeps the lines of a site's own log, which the driver shows as the in-process engine does."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keep one line."""
        self.lines.append(record.getMessage())
