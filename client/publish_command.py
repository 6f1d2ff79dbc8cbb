"""`promptward publish SITE PROMPT`: the noised accuracy of a prompt on a hospital's own test patients."""

import argparse
import json
from dataclasses import asdict
from pathlib import Path

from rich.console import Console

from client.publish import Published, publish
from client.site import load_site
from shared.card import Task
from shared.errors import InputError, RunError
from shared.peft_format import load_prompt


def run(args: argparse.Namespace) -> int:
    """Run the command."""
    site = load_site(args.site)
    prompt, facts = load_prompt(args.prompt)
    task = _task(args.task, args.prompt, facts)
    found, new = publish(site, task, prompt)
    path = _write(site.ledger.path.with_suffix(".metrics"), found)
    if args.json:
        print(json.dumps(asdict(found) | {"newly_charged": new, "file": str(path)}, indent=2))  # noqa: T201
    else:
        Console().print(_said(found, new, path), highlight=False, soft_wrap=True)
    return 0


def _task(named: str | None, prompt: Path, facts: dict[str, object]) -> Task:
    """Return the card that the prompt was trained for: the named one, or the one beside the prompt's folder."""
    beside = prompt.resolve().parent / "task.toml"
    if named is None and not beside.is_file():
        raise InputError(f"{prompt}: there is no task.toml beside this folder; name the prompt's task card with --task.")
    task = Task.load(named or str(beside))
    if facts.get("task_digest") != task.digest:
        raise InputError(f"{prompt}: the prompt was trained for another task card than {named or beside}; give the right --task.")
    return task


def _write(folder: Path, found: Published) -> Path:
    path = folder / f"{found.task}-{found.prompt_sha256[:16]}.json"
    new = path.with_suffix(".new")
    try:
        new.write_text(json.dumps({"schema": 1} | asdict(found), indent=2) + "\n")
        new.replace(path)
    except OSError as error:
        raise RunError(f"{path}: could not be written ({error}); make room and ask again, which costs nothing new.") from None
    return path


def _said(found: Published, new: bool, path: Path) -> str:
    low, high = found.accuracy_ci95
    read = "unknown: the noise is larger than the number of test patients" if found.accuracy is None else f"{found.accuracy:.3f}"
    cost = (
        f"epsilon {found.epsilon_before:.4f} before and {found.epsilon_after:.4f} after, at delta {found.delta:g}, "
        f"unit {found.unit}, {found.adjacency}, {found.accountant}"
    )
    return "\n".join(
        [
            f"accuracy  {read} (95 % interval {low:.3f} to {high:.3f}, noise included)",
            f"counts    {found.right} right and {found.wrong} wrong, each with noise of {found.noise_multiplier:g} patients",
            f"cost      {cost}" + ("" if new else "; published before: the same numbers, nothing new was charged"),
            f"written   {path}",
        ]
    )
