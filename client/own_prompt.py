"""From a hospital's ledger and shelf to the prompt folder of its own prompt: `promptward prompts personal`. Nothing leaves."""

from pathlib import Path
from typing import Any

from client.ledger import TRAINING, Event, read_ledger, releases
from client.opening import shelf_of
from client.personal import facts_of
from client.site import SiteFile
from shared.card import Task
from shared.errors import InputError, RefusedError
from shared.files import new_folder
from shared.library import CARD
from shared.peft_format import save_prompt
from shared.privacy.accounting import spent
from shared.privacy.planned import epsilon_of_plan, mechanism_of
from shared.scoring import build


def write_own_prompt(site: SiteFile, task: Task, folder: Path, run: str | None) -> dict[str, Any]:
    """Write the site's own prompt of a run into a new folder that only its owner can enter, and return the facts of it.

    It says what this site's ledger charged for the task, and of the other hospitals what the card plans at most: their
    patients are in the shared prompt that this one is drawn toward.

    Raises:
        InputError: the card wants no such prompts, the ledger has no such run, its file is gone, or `folder` is there already.
    """
    shelf = shelf_of(task.card, mechanism_of(task.card), site.ledger.path)
    if shelf is None:
        raise InputError(f"task card {task.card.name} has no [plan.personal]: its sites keep no prompts of their own.")
    mine = [e for e in read_ledger(site.ledger.path) if e.kind == TRAINING and e.task == task.digest]
    runs = list(dict.fromkeys(event.run for event in mine))
    if not runs or run not in (None, *runs):
        there = ", ".join(runs) or "no run of this card"
        raise InputError(f"{site.ledger.path}: there is {there}; name one of the ledger's own, or check the card.")
    chosen = run or mine[-1].run
    try:
        state = shelf.newest(task.digest, chosen, mine)
    except RefusedError as error:
        raise InputError(f"{shelf.folder}: {error}.") from None
    assert state is not None  # noqa: S101 (a run that is on the ledger has a round)
    scorer, _ = build(task.card)
    whose = facts_of(site.site, chosen)
    facts = {"privacy": True, "personal": whose, "rounds": state.moves, "sites": _sites(site.site, task, mine)}
    with new_folder(folder) as new:
        save_prompt(new, state.published, task, scorer, facts)
        (new / CARD).write_text(task.text, encoding="utf-8")
    return {"folder": str(folder), "site": site.site, "run": chosen, "rounds": state.moves, "say": whose["say"]}


def _sites(own: str, task: Task, events: list[Event]) -> list[dict[str, Any]]:
    delta = task.card.privacy.delta
    charged, planned = spent(releases(events), delta), epsilon_of_plan(task.card)
    common = {"delta": delta, "accountant": charged.accountant, "unit": "patient"}
    return [
        {"name": name, "epsilon": charged.epsilon if name == own else planned, "planned": name != own, **common}
        for name in task.card.hospitals
    ]
