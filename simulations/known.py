"""Whom a simulation trained on and whom it did not, from its run directory: the ground truth of an audit's attack."""

from collections.abc import Mapping
from pathlib import Path

from shared.card import Task
from simulations.options import FILE, Options
from simulations.partition import Scheme
from simulations.study import SitePatients, deal_out


def patients_of(folder: Path) -> Mapping[str, SitePatients] | None:
    """Return each site's patients; None for a folder that is no simulation's.

    Raises `InputError` where the table that was simulated on is gone or another one.
    """
    if not (folder / FILE).is_file():
        return None
    options, task = Options.load(folder), Task.load(str(folder / "task.toml"))
    sites = task.card.plan.sites
    return deal_out(options.study(task), task.card, Scheme.parse(options.partition), sites, options.split)
