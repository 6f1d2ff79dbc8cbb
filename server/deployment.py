"""A run between real machines, as its ServerApp finds it in the run directory, and what it writes there for people to see."""

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from flwr.app import ArrayRecord
from flwr.serverapp import Grid

from server.aggregate import init
from server.checkpoint import RunFolder
from server.patience import Patience, PatientGrid
from server.rule import rule_of
from server.strategy import RosterStrategy, RoundSeen, Run, Start
from shared.card import Task
from shared.errors import InputError, PromptwardError
from shared.files import write_json
from shared.flower import log_quietly
from shared.privacy.planned import mechanism_of
from shared.prompt import Array

FOLDER = "PROMPTWARD_RUN"  # the environment's name for the run directory, from `serve` to the ServerApp that Flower starts


@dataclass(frozen=True)
class Deployment:
    """The files of a run directory, as `serve` and the ServerApp share them."""

    folder: Path

    @property
    def card(self) -> Path:
        """The task card's exact text."""
        return self.folder / "task.toml"

    @property
    def facts(self) -> Path:
        """The run's name, each site's node id, and the patience."""
        return self.folder / "run.json"

    @property
    def start(self) -> Path:
        """The prompt before round 1."""
        return self.folder / "start.npy"

    @property
    def state(self) -> Path:
        """What `serve` shows: the round, each site's state, how it ended."""
        return self.folder / "state.json"

    @property
    def lines(self) -> Path:
        """One line a round."""
        return self.folder / "metrics.jsonl"

    @property
    def files(self) -> RunFolder:
        """Checkpoints and transcript."""
        return RunFolder(self.folder / "checkpoints", self.folder / "transcript")

    def run(self) -> Run:
        """Return the run; raise `InputError` when this is no folder of one."""
        try:
            name = json.loads(self.facts.read_text())["run"]
        except (OSError, ValueError, KeyError):
            raise InputError(f"{self.folder}: this is not a folder that `promptward serve` made; name another.") from None
        task = Task.load(str(self.card))
        return Run(task, str(name), mechanism_of(task.card))

    def initial(self) -> Array:
        """Return the prompt before round 1."""
        prompt: Array = np.load(self.start, allow_pickle=False)
        return prompt


def conduct(deployment: Deployment, grid: Grid) -> None:
    """Run the rounds that are left over Flower's grid: what the ServerApp does."""
    log_quietly()
    run, facts = deployment.run(), json.loads(deployment.facts.read_text())
    start = deployment.files.latest(run) or Start(init(deployment.initial()))
    card, roster = run.task.card, {name: int(node) for name, node in facts["roster"].items()}
    board = Board(deployment, start.state.round)
    patient = PatientGrid(
        grid,
        {node: name for name, node in roster.items()},
        card.quorum,
        Patience(**facts["patience"]),
        board.tell,
        beside=[node for name, node in roster.items() if name not in card.hospitals],
    )

    def seen(round_seen: RoundSeen) -> None:
        deployment.files.save(run, round_seen)
        board.round_ended(round_seen)

    try:
        left = card.plan.rounds - start.state.round
        if left > 0:
            RosterStrategy(run, roster, rule_of(card), start, seen).start(patient, ArrayRecord(), num_rounds=left)
    except PromptwardError as error:
        board.end(str(error))
        raise
    board.end(None)


class Board:
    """Writes state.json and metrics.jsonl: what the coordinator may know, and no more."""

    def __init__(self, deployment: Deployment, round_: int) -> None:
        """Start after `round_`."""
        self._deployment = deployment
        self._state: dict[str, Any] = {"pid": os.getpid(), "round": round_, "sites": {}, "ended": False, "failed": None}
        self._write()

    def tell(self, sites: Mapping[str, str]) -> None:
        """Show the sites' states."""
        self._state["sites"] = dict(sites)
        self._write()

    def round_ended(self, seen: RoundSeen) -> None:
        """Write the round's line; its checkpoint is there already."""
        line = {
            "round": seen.state.round,
            "contributed": list(seen.updates),
            "left_out": dict(seen.left_out),
            "reply_bytes": dict(seen.reply_bytes),
        }
        with self._deployment.lines.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
        self._state["round"] = seen.state.round
        self._write()

    def end(self, failed: str | None) -> None:
        """Say that the ServerApp is done, and why it failed if it did."""
        self._state |= {"ended": True, "failed": failed}
        self._write()

    def _write(self) -> None:
        write_json(self._deployment.state, self._state)


def facts_of(run: str, roster: Mapping[str, int], patience: Patience) -> dict[str, Any]:
    """Return the content of run.json."""
    return {"run": run, "roster": dict(roster), "patience": asdict(patience)}
