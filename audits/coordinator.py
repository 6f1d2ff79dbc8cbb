"""What the coordinator's run directory says of each round; read only, and nothing in it is believed before it was compared."""

import json
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from shared.card import Task
from shared.errors import InputError
from shared.privacy.mechanism import Update
from shared.prompt import Array
from shared.wire import sha256

UPDATE = "update/"


@dataclass(frozen=True)
class Round:
    """One round as the coordinator's files have it; arrays are named by `shared.wire.sha256`.

    Attributes:
        run: the run's name; a simulation has one run a seed.
        number: from 1.
        broadcast: the prompt that was sent to every site.
        updates: site -> the update that was kept in `transcript/`.
        received: site -> what the round's checkpoint says came last from it; None without a checkpoint.
        contributed: sites that count by `metrics.jsonl`; None without a line.
        left_out: sites that do not count by `metrics.jsonl`, with the reason.
    """

    run: str
    number: int
    broadcast: str
    updates: Mapping[str, str]
    received: Mapping[str, str] | None
    contributed: frozenset[str] | None
    left_out: Mapping[str, str]


@dataclass(frozen=True)
class RunFiles:
    """A run directory: its card, `result.json`, every round in order, and the one tensor's shape."""

    folder: Path
    task: Task
    result: Mapping[str, Any]
    rounds: tuple[Round, ...]
    shape: tuple[int, ...]

    @property
    def told(self) -> dict[str, Mapping[str, Any]]:
        """What `result.json` says of each site, the audit site included."""
        beside = [self.result["audit_site"]] if "audit_site" in self.result else []
        return {site["name"]: site for site in [*self.result.get("sites", []), *beside]}

    @property
    def runs(self) -> tuple[str, ...]:
        """The names of the runs, in order."""
        return tuple(dict.fromkeys(round_.run for round_ in self.rounds))


@dataclass(frozen=True)
class RunArrays:
    """The arrays of one run: what was broadcast in each round, in order, and site -> round -> what it sent."""

    broadcasts: tuple[Array, ...]
    updates: Mapping[str, Mapping[int, Update]]


def read_arrays(folder: Path) -> dict[str, RunArrays]:
    """Read every array of every run in a run directory that `read_run` has read: 10 kB a site and round."""
    return {run: _arrays(paths) for run, paths in _places(folder)}


def _arrays(paths: Sequence[Path]) -> RunArrays:
    broadcasts: list[Array] = []
    updates: dict[str, dict[int, Update]] = {}
    for path in paths:
        with _readable(path) as data:
            broadcasts.append(data["broadcast"])
            for name in (name for name in data.files if name.startswith(UPDATE)):
                updates.setdefault(name.removeprefix(UPDATE), {})[_number(path)] = data[name]
    return RunArrays(tuple(broadcasts), updates)


def read_run(folder: Path) -> RunFiles:
    """Read a run directory of `promptward serve` or `simulate`; raise `InputError` naming the file that is not one of them."""
    if not folder.is_dir():
        raise InputError(f"{folder}: there is no such folder; give the run directory of `promptward serve` or `simulate`.")
    task, result = Task.load(str(folder / "task.toml")), _json(folder / "result.json")
    if result.get("privacy") is False:
        raise InputError(f"{folder}: this run had privacy off, so that no hospital kept a ledger; there is nothing to audit.")
    places = dict(_places(folder))
    if not places:
        raise InputError(f"{folder / 'transcript'}: there is no round in it; was the run finished?")
    lines = _lines(folder / "metrics.jsonl", places, task.card.plan.sites)
    rounds = [_round(folder, run, path, lines) for run, paths in places.items() for path in paths]
    with _readable(next(iter(places.values()))[0]) as data:
        shape = data["broadcast"].shape
    return RunFiles(folder, task, result, tuple(rounds), shape)


def _places(folder: Path) -> Iterator[tuple[str, list[Path]]]:
    """Give each run's name and its rounds' transcripts."""
    transcript = folder / "transcript"
    direct = sorted(transcript.glob("round-*.npz"))
    if direct:
        yield str(_json(folder / "run.json").get("run")), direct
    for seed in sorted(path for path in transcript.glob("*") if path.is_dir()):
        yield seed.name, sorted(seed.glob("round-*.npz"))


def _round(folder: Path, run: str, path: Path, lines: Mapping[tuple[str, int], Mapping[str, Any]]) -> Round:
    number = _number(path)
    with _readable(path) as data:
        broadcast = sha256(data["broadcast"])
        updates = {name.removeprefix(UPDATE): sha256(data[name]) for name in data.files if name.startswith(UPDATE)}
    checkpoint = folder / "checkpoints" / path.relative_to(folder / "transcript")
    line = lines.get((run, number))
    return Round(
        run=run,
        number=number,
        broadcast=broadcast,
        updates=updates,
        received=_received(checkpoint) if checkpoint.exists() else None,
        contributed=None if line is None else frozenset(line["contributed"]),
        left_out={} if line is None else line["left_out"],
    )


def _received(checkpoint: Path) -> dict[str, str]:
    with _readable(checkpoint) as data:
        pairs = [line.split(" ", 1) for line in data["received"].tolist()]
    return {name: digest for digest, name in pairs}


def _number(path: Path) -> int:
    try:
        return int(path.stem.removeprefix("round-"))
    except ValueError:
        raise InputError(f"{path}: this is no round's file; move it away.") from None


def _lines(path: Path, runs: Mapping[str, Any], roster: tuple[str, ...]) -> dict[tuple[str, int], dict[str, Any]]:
    """Return the last line of every run and round; a simulation's line names its seed, and who was left out."""
    found = {}
    for raw in _text(path).splitlines() if path.exists() else []:
        try:
            line = json.loads(raw)
            run = f"seed{line['seed']}" if "seed" in line else next(iter(runs))
            there = [name for name in roster if name not in line["left_out"]]
            found[run, int(line["round"])] = {"contributed": there} | line
        except (ValueError, KeyError, TypeError):
            raise InputError(f"{path}: a line is none of a round ({raw[:60]!r}); is this a run directory?") from None
    return found


def _json(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(_text(path))
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise InputError(f"{path}: this is no JSON object; take the coordinator's own copy.")
    return found


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: cannot be read ({error}); an audit needs a finished run's whole directory.") from None


@contextmanager
def _readable(path: Path) -> Iterator[Any]:
    """Open an .npz file; whatever goes wrong inside is said with its name."""
    try:
        with np.load(path, allow_pickle=False) as data:
            yield data
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        raise InputError(f"{path}: this is no whole file of a round; take the coordinator's own copy.") from None
