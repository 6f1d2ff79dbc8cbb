"""Real patients for the membership attack: a hospital's own, read at the hospital from its site file."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from client.records import Cohort, cohort, read_rows
from client.site import load_site
from shared.card import Task
from shared.errors import InputError


@dataclass(frozen=True)
class Known:
    """Whom the attacker asks about at one site: `members` were trained on, `others` were not."""

    members: Cohort
    others: Cohort


FindPatients = Callable[[Path], Mapping[str, Known] | None]  # of a run directory; None where it names no patients


def from_site_files(paths: Sequence[Path], task: Task) -> dict[str, Known]:
    """Read each site file's training and test patients.

    Raises `InputError` for a site that is not on the roster, or one whose table sets no test patients apart: without patients
    who were not trained on, nobody can say what an attacker gets right.
    """
    return dict(_known(path, task) for path in paths)


def _known(path: Path, task: Task) -> tuple[str, Known]:
    site = load_site(path)
    if site.site not in task.card.plan.sites:
        raise InputError(f"{path}: site '{site.site}' is not on the card's roster ({', '.join(task.card.plan.sites)}).")
    if site.data.split is None:
        raise InputError(f"{path}: [data] split is missing; name a column that says train or test, the attack needs both.")
    rows, labels = read_rows(site.data.path), [label.name for label in task.card.labels]
    members, others = (
        cohort(
            rows,
            replace(site.data.columns_map, part=part),
            task.card.record_text,
            labels,
            task.card.privacy.max_records,
            str(site.data.path),
        )
        for part in ("train", "test")
    )
    return site.site, Known(members, others)
