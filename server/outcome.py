"""What a run between real machines ends with: `result.json`, of what the coordinator may know and nothing else."""

import json
import platform
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from typing import Any

from server.deployment import Deployment
from server.strategy import Run
from shared.privacy.accounting import spent

VERSIONS = ("promptward", "flwr", "torch", "transformers", "dp-accounting", "numpy")
Line = Mapping[str, Any]


def read_lines(deployment: Deployment) -> list[Line]:
    """Return the last line of every round: a round that ran again after a crash has two."""
    text = deployment.lines.read_text(encoding="utf-8") if deployment.lines.exists() else ""
    lines = {line["round"]: line for line in map(json.loads, filter(lambda raw: raw.endswith("}"), text.splitlines()))}
    return [lines[number] for number in sorted(lines)]


def outcome(deployment: Deployment, run: Run, seconds: float) -> dict[str, Any]:
    """Return `result.json`'s content; `complete` only where every hospital contributed to every round of the plan."""
    lines, card = read_lines(deployment), run.task.card
    sites = [_site(name, run, lines) for name in card.hospitals]
    done = len(lines)
    losses = {site["name"]: site["rounds_left_out"] for site in sites if site["rounds_left_out"]}
    return {
        "schema": 1,
        "task": card.name,
        "title": card.title,
        "task_digest": run.task.digest,
        "engine": "grpc",
        "run": run.name,
        "seeds": [],
        "rounds": card.plan.rounds,
        "rounds_done": done,
        "complete": done == card.plan.rounds and not losses,
        "sites": sites,
        **({"audit_site": _site(card.audit.site, run, lines)} if card.audit else {}),
        "metrics": {},
        "note": "Every site's epsilon is recomputed here from the releases that arrived; the site's own ledger has the last word.",
        "timing": {"total_s": seconds},
        "versions": {name: version(name) for name in VERSIONS} | {"python": platform.python_version()},
    }


def _site(name: str, run: Run, lines: Sequence[Line]) -> dict[str, Any]:
    contributed = [line for line in lines if name in line["contributed"]]
    mechanism, privacy = run.mechanism, run.task.card.privacy
    releases = mechanism.releases(len(contributed) * run.task.card.plan.local_steps)
    found = spent([mechanism.spends] * releases, privacy.delta)
    return {
        "name": name,
        "epsilon": found.epsilon,
        "delta": privacy.delta,
        "accountant": found.accountant,
        "unit": found.unit,
        "adjacency": found.adjacency,
        "sample_rate": mechanism.draw_rate,
        "noise_multiplier": mechanism.noise_multiplier,
        "clip_norm": mechanism.clip_norm,
        "releases": releases,
        "bytes_up_per_round": max((line["reply_bytes"].get(name, 0) for line in contributed), default=0),
        "bytes_up": sum(line["reply_bytes"].get(name, 0) for line in contributed),
        "rounds_contributed": len(contributed),
        "rounds_left_out": {line["round"]: line["left_out"][name] for line in lines if name in line["left_out"]},
    }


def summary(result: Mapping[str, Any]) -> str:
    """Return how the run ended in one sentence; a run that lost a site never says that all is well."""
    beside = f" {result['audit_site']['name']} is an audit site, not part of the prompt." if "audit_site" in result else ""
    if result["complete"]:
        return f"Complete: all {len(result['sites'])} sites contributed to all {result['rounds']} rounds.{beside}"
    lost = [f"{s['name']} in {_rounds(len(s['rounds_left_out']))}" for s in result["sites"] if s["rounds_left_out"]]
    done = f"{result['rounds_done']} of {result['rounds']} rounds were run"
    return f"Not complete: {done}" + (f"; left out: {', '.join(lost)}." if lost else ".") + beside


def _rounds(count: int) -> str:
    return "1 round" if count == 1 else f"{count} rounds"
