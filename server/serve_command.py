"""`promptward serve TASK`: coordinate. It starts Flower's SuperLink and the run, shows who is there, and goes on after a crash."""

import argparse
import itertools
import json
import os
import secrets
import signal
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import numpy as np
from rich.console import Console
from rich.live import Live
from rich.table import Table

from server.credentials import Credentials, ready
from server.deployment import Deployment, facts_of
from server.flower_link import Control, link_command, link_environment
from server.outcome import outcome, read_lines, summary
from server.patience import Patience
from server.report import write_report
from server.roster import admitted
from server.strategy import Run
from shared.card import Task
from shared.certificates import listening_at
from shared.errors import InputError, RunError
from shared.files import write_json
from shared.keys import PublicKey
from shared.peft_format import save_prompt
from shared.processes import Child, free_port
from shared.scoring import Scorer, build

LOOK = 0.3  # seconds between two looks at the run
TRIES = 5  # starts of the ServerApp in a row that may end without one more round
SETTLED = 3.0  # seconds that the ServerApp may be gone before it is started anew
ASK_FLOWER = 10  # looks between two questions to Flower on how the run is


@dataclass(frozen=True)
class Asked:
    """What the command line asks for."""

    keys: Credentials
    address: str
    patience: Patience
    out: Path


def run(args: argparse.Namespace) -> int:
    """Run the command."""
    started = time.monotonic()
    console = Console(stderr=True)
    task = Task.load(args.task)
    asked = Asked(
        Credentials(args.keys.resolve()), args.address, Patience(first=args.wait, least=args.deadline), _folder(args, task)
    )
    public_keys = _admitted(asked.keys, task, args.address)
    deployment = Deployment(asked.out.resolve())
    run_ = _prepare(deployment, task, asked, console)
    scorer, initial = build(task.card)
    if not deployment.start.exists():
        _save_array(deployment.start, initial)
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _interrupt)
    try:
        _conduct(deployment, asked, public_keys, console)
    except KeyboardInterrupt:
        again = f"promptward serve {args.task} --keys {args.keys} --address {args.address} --out {args.out or asked.out}"
        raise RunError(f"Stopped; go on with: {again}") from None
    result = _finish(deployment, run_, scorer, time.monotonic() - started)
    if args.json:
        print(json.dumps(result, indent=2))  # noqa: T201
    console.print(summary(result), highlight=False, soft_wrap=True)
    console.print(f"Result: {asked.out / 'result.json'}", highlight=False, soft_wrap=True)
    return 0 if result["complete"] else 1


def _folder(args: argparse.Namespace, task: Task) -> Path:
    stamp = datetime.now(UTC).strftime("%Y%m%d-%H%M%S")
    out: Path = args.out or Path("runs") / f"{task.card.name}-{stamp}"
    if out.exists() and not out.is_dir():
        raise InputError(f"{out}: this is a file; name a folder with --out.")
    return out


def _admitted(keys: Credentials, task: Task, address: str) -> dict[str, PublicKey]:
    """Return each roster site's public key; raise `InputError` naming what is missing or not as it should be."""
    ready(keys.folder, datetime.now(UTC))
    listening_at(address)
    known = admitted(keys.folder)
    absent = [name for name in task.card.plan.sites if name not in known]
    if absent:
        raise InputError(
            f"{keys.folder}: no public key of {', '.join(absent)} is admitted; ask for it, then run: "
            f"promptward keys admit {keys.folder} FILE.pub --name '{absent[0]}'"
        )
    return {name: known[name] for name in task.card.plan.sites}


def _prepare(deployment: Deployment, task: Task, asked: Asked, console: Console) -> Run:
    """Make the run directory, or go on in one that is of the same task."""
    if deployment.facts.exists():
        if deployment.card.read_text(encoding="utf-8") != task.text:
            raise InputError(f"{deployment.folder}: this run is of another task card; name another folder with --out.")
        run_ = deployment.run()
        latest = deployment.files.latest(run_)
        console.print(
            f"Going on after round {latest.state.round if latest else 0} of run {run_.name}.", highlight=False, soft_wrap=True
        )
        return run_
    if deployment.folder.exists() and any(deployment.folder.iterdir()):
        raise InputError(f"{deployment.folder}: this is not empty and no run of `serve`; name another folder with --out.")
    deployment.folder.mkdir(parents=True, exist_ok=True)
    deployment.card.write_text(task.text, encoding="utf-8")
    write_json(deployment.facts, facts_of(secrets.token_hex(8), {}, asked.patience))
    console.print(f"Task {task.card.name}, digest {task.digest}", highlight=False, soft_wrap=True)
    return deployment.run()


def _conduct(deployment: Deployment, asked: Asked, public_keys: Mapping[str, PublicKey], console: Console) -> None:
    """Keep the SuperLink and a ServerApp running until the plan is done."""
    home = deployment.folder / "flower"
    home.mkdir(mode=0o700, exist_ok=True)
    control_address = f"127.0.0.1:{free_port()}"
    command = link_command(asked.keys, asked.address, control_address, home / "state.db")
    link = Child("SuperLink", command, link_environment(deployment.folder, home), home, deployment.folder / "flower.log")
    control = Control(control_address, asked.keys.authority)
    try:
        _Conductor(deployment, asked, link, control, public_keys, console).run()
    finally:
        link.stop()
        control.close()


class _Conductor:
    """Starts the SuperLink and the run, and starts them anew when they die."""

    def __init__(
        self,
        deployment: Deployment,
        asked: Asked,
        link: Child,
        control: Control,
        public_keys: Mapping[str, PublicKey],
        console: Console,
    ) -> None:
        self._deployment, self._asked, self._link, self._control = deployment, asked, link, control
        self._public_keys, self._console = public_keys, console
        self._run_id = 0

    def run(self) -> None:
        """Return when the plan is done; raise `RunError` when it failed."""
        self._link.start()
        self._console.print(f"Hospitals reach this coordinator at {self._asked.address}.", highlight=False, soft_wrap=True)
        failures, last = 0, self._round()
        with Live(console=self._console, refresh_per_second=4, transient=True) as live:
            while failures < TRIES:
                self._start()
                if self._watch(live):
                    return
                failures, last = (0 if self._round() > last else failures + 1), self._round()
                live.console.print(
                    f"The run was interrupted after round {last}; going on from there.", highlight=False, soft_wrap=True
                )
        raise RunError(f"the run was interrupted {TRIES} times without one more round; see {self._deployment.folder}/flower.log.")

    def _start(self) -> None:
        """Register the roster and start a run of the bundle; a SuperLink that died comes first."""
        if self._link.ended is not None:
            self._link.stop()
            self._link.start()
        self._control.wait(lambda: self._link.ended is None)
        roster = self._control.register(self._public_keys)
        facts = json.loads(self._deployment.facts.read_text())
        write_json(self._deployment.facts, facts_of(facts["run"], roster, self._asked.patience))
        self._deployment.state.unlink(missing_ok=True)
        self._run_id = self._control.start_run()

    def _watch(self, live: Live) -> bool:
        """Show the run until it ends; return True when the plan is done, False when it was interrupted."""
        gone, run_ = 0.0, self._deployment.run()
        for look in itertools.count():
            if self._link.ended is not None:
                break
            state = self._state()
            live.update(_table(self._deployment, run_, state))
            if state.get("failed"):
                raise RunError(state["failed"])
            if state.get("ended"):
                return True
            gone = gone + LOOK if state and not _alive(state["pid"]) else 0.0
            if gone > SETTLED or (look % ASK_FLOWER == 0 and self._failed()):
                break
            time.sleep(LOOK)
        self._give_up_run()
        return False

    def _failed(self) -> bool:
        """Say whether Flower has given the run up, for example because the ServerApp could not start."""
        try:
            return self._control.status(self._run_id).startswith("finished")
        except httpx.HTTPError:
            return False

    def _give_up_run(self) -> None:
        with suppress(httpx.HTTPError):  # it is over already, or the SuperLink is gone
            self._control.stop_run(self._run_id)

    def _state(self) -> dict[str, Any]:
        try:
            found: dict[str, Any] = json.loads(self._deployment.state.read_text())
        except (OSError, ValueError):
            return {}
        return found

    def _round(self) -> int:
        latest = self._deployment.files.latest(self._deployment.run())
        return latest.state.round if latest else 0


def _table(deployment: Deployment, run_: Run, state: Mapping[str, Any]) -> Table:
    """Return the live table of sites."""
    card, lines = run_.task.card, read_lines(deployment)
    round_ = f"round {min(state['round'] + 1, card.plan.rounds)}" if state else "starting, round"
    table = Table(title=f"{card.name}: {round_} of {card.plan.rounds}", min_width=60)
    for column in ("site", "state", "rounds contributed"):
        table.add_column(column)
    for name in card.plan.sites:
        there = state.get("sites", {}).get(name, "registered")
        table.add_row(name, there, str(sum(name in line["contributed"] for line in lines)))
    return table


def _finish(deployment: Deployment, run_: Run, scorer: Scorer, seconds: float) -> dict[str, Any]:
    """Write result.json, report.html and the prompt."""
    result = outcome(deployment, run_, seconds)
    latest = deployment.files.latest(run_)
    if latest is None:
        raise RunError(f"{deployment.folder}: the run has ended without a checkpoint; see flower.log there.")
    sites = [{key: site[key] for key in ("name", "epsilon", "delta", "accountant", "unit")} for site in result["sites"]]
    save_prompt(deployment.folder / "prompt", latest.state.published, run_.task, scorer, {"privacy": True, "sites": sites})
    write_json(deployment.folder / "result.json", result)
    write_report(result, run_.task.card, deployment.folder / "report.html")
    return result


def _save_array(path: Path, array: Any) -> None:
    new = path.with_suffix(".new")
    with new.open("wb") as file:
        np.save(file, array)
    new.replace(path)


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except OSError:
        return False
    return True


def _interrupt(_number: int, _frame: Any) -> None:
    raise KeyboardInterrupt
