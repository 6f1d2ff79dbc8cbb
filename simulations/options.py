"""What a simulation was asked to do, and the card that follows from it. Both are kept in the run directory."""

import json
import tomllib
from dataclasses import asdict, dataclass
from pathlib import Path

import tomli_w

from shared.card import Task
from shared.device import require_device
from shared.errors import InputError
from shared.plan import NEED_TOLERATE
from simulations.chest import chest_study
from simulations.heart import FLAMBY_SEED, heart_study
from simulations.partition import Scheme
from simulations.schedule import Schedule
from simulations.study import Study, load_study, natural_sites
from simulations.synthetic import PREFIX, synthetic_study

FILE = "simulation.json"
MOST_SITES, MOST_SEEDS = 100_000, 1000
SCORED = 6


@dataclass(frozen=True)
class Options:
    """The choices of one simulation.

    Attributes:
        partition: how patients are dealt out, see `partition.Scheme.parse`.
        seeds: number of repetitions, with seeds 0, 1, ...
        split: seed of the split into training and test patients.
        private: False takes the noise away.
        data: a study file, `synthetic:COUNT`, or None for the demonstration's patients.
        canaries: the audit site's canary file, or None without such a site.
        engine: `in-process`, `batched` or `ray`.
        dropout, stragglers, late_joiners: see `schedule.Schedule`.
        actors: how many of Ray's actors; None: one for each core.
        curve: about how many rounds of a seed are scored on the test patients; the last always is.
        device: where the model runs: `cpu`, `cuda` or `cuda:N`.
        compile: take gradients through `torch.compile`.
    """

    partition: str = "natural"
    seeds: int = 1
    split: int = FLAMBY_SEED
    private: bool = True
    data: str | None = None
    canaries: str | None = None
    engine: str = "in-process"
    dropout: float = 0.0
    stragglers: float = 0.0
    late_joiners: float = 0.0
    actors: int | None = None
    curve: int = SCORED
    device: str = "cpu"
    compile: bool = False

    def __post_init__(self) -> None:
        """Refuse what cannot be run."""
        _ = self.schedule
        Scheme.parse(self.partition)
        if not 1 <= self.seeds <= MOST_SEEDS:
            raise InputError(f"--seeds {self.seeds}: the number of repetitions is between 1 and {MOST_SEEDS}.")
        if self.curve < 1:
            raise InputError(f"--curve {self.curve}: give the number of rounds to score, at least 1: the last.")
        if self.actors is not None and (self.engine != "ray" or self.actors < 1):
            raise InputError(f"--actors {self.actors}: give the number of Ray's actors, at least 1, with --engine ray.")
        if require_device(self.device) != "cpu" and self.engine == "ray":
            raise InputError(f"--device {self.device}: Ray's actors compute on cpu; take --engine batched.")
        if self.compile and self.engine == "ray":
            raise InputError("--compile: Ray's actors do not compile; take --engine batched.")
        if not 0 <= self.split < 2**32:
            raise InputError(f"--split {self.split}: the seed of the split is between 0 and {2**32 - 1}.")

    @property
    def schedule(self) -> Schedule:
        """Which sites are there in a round."""
        return Schedule(self.dropout, self.stragglers, self.late_joiners)

    @property
    def published_split(self) -> bool:
        """Whether results stand on the rows, sites and split that the card's references were measured on."""
        return (self.data is None or self.demonstrates_images) and self.partition == "natural" and self.split == FLAMBY_SEED

    @property
    def demonstrates_images(self) -> bool:
        """Whether the patients are those of the chest X-ray demonstration: the card pins the .npz file that `data` names."""
        return self.data is not None and self.data.endswith(".npz")

    def study(self, task: Task) -> Study:
        """Read the patients."""
        if self.data is not None and self.data.startswith(PREFIX):
            return synthetic_study(self.data, task.card, self.split)
        if self.data is not None and self.demonstrates_images:
            return chest_study(Path(self.data), task.card)
        if self.data is not None:
            return load_study(Path(self.data), self.split)
        if task.card.image is not None:
            raise InputError(f"card '{task.card.name}' reads images; name them with --data, a study file or the card's .npz.")
        return heart_study(task.card.files, self.split)

    def save(self, out: Path) -> None:
        """Write the choices into the run directory."""
        (out / FILE).write_text(json.dumps(asdict(self), indent=2) + "\n")

    @classmethod
    def load(cls, out: Path) -> "Options":
        """Read the choices of a run directory; raise `InputError` when it is none."""
        path = out / FILE
        try:
            return cls(**json.loads(path.read_text()))
        except (OSError, ValueError, TypeError):
            raise InputError(f"{path}: this is not a simulation's folder; name the folder that --out named.") from None


@dataclass(frozen=True)
class Changes:
    """What the command line changes in the card; None leaves the card's value."""

    sites: int | None = None
    epsilon: float | None = None
    rounds: int | None = None
    aggregation: str | None = None
    tolerate: int | None = None
    quorum: int | None = None
    precision: str | None = None

    def __post_init__(self) -> None:
        """Refuse what no card could hold."""
        if self.sites is not None and not 1 <= self.sites <= MOST_SITES:
            raise InputError(f"--sites {self.sites}: the number of sites is between 1 and {MOST_SITES}.")
        if self.epsilon is not None and not 0 < self.epsilon <= 1000:
            raise InputError(f"--epsilon {self.epsilon:g}: give a number above 0 and at most 1000.")
        if self.rounds is not None and not 1 <= self.rounds <= 100_000:
            raise InputError(f"--rounds {self.rounds}: the number of rounds is between 1 and 100000.")
        if self.aggregation in NEED_TOLERATE and self.tolerate is None:
            raise InputError(f"--aggregation {self.aggregation}: add --tolerate, the number of lying sites to withstand.")


def varied(task: Task, changes: Changes, options: Options, study: Study) -> Task:
    """Return the card with the changes made: a card of its own, with its own digest.

    A partition that is not natural, or another number of sites, renames the roster to site-1, site-2, ...
    """
    raw = tomllib.loads(task.text)
    before = tomllib.loads(task.text)
    hospitals = _roster(task, changes.sites, options, study)
    if hospitals != list(task.card.hospitals):
        raw["plan"]["sites"] = hospitals + ([task.card.audit.site] if task.card.audit else [])
    if changes.quorum is not None:
        raw["plan"]["quorum"] = changes.quorum
    elif options.schedule.any:
        raw["plan"].setdefault("quorum", 1)
    if changes.quorum is None and "quorum" in raw["plan"]:
        raw["plan"]["quorum"] = min(raw["plan"]["quorum"], len(hospitals))
    if changes.epsilon is not None:
        raw["privacy"].pop("noise_multiplier", None)
        raw["privacy"]["epsilon"] = changes.epsilon
    if changes.precision is not None and changes.precision != task.card.backbone.dtype:
        raw["backbone"]["dtype"] = changes.precision
    if changes.rounds is not None:
        raw["plan"]["rounds"] = changes.rounds
    if changes.aggregation is not None:
        raw["plan"].pop("tolerate", None)  # the card's own belongs to the card's own rule
        raw["plan"]["aggregation"] = changes.aggregation
    if changes.tolerate is not None:
        raw["plan"]["tolerate"] = changes.tolerate
    return task if raw == before else Task.parse(tomli_w.dumps(raw), "the changed task card")


def usual_partition(task: Task, sites: int | None, data: str | None) -> str:
    """Return the partition where none is asked for: natural, or iid for made-up patients and for another number of sites."""
    made_up = data is not None and data.startswith(PREFIX)
    as_it_is = sites in (None, len(task.card.hospitals)) or data is not None
    return "natural" if as_it_is and not made_up else "iid"


def _roster(task: Task, sites: int | None, options: Options, study: Study) -> list[str]:
    if options.partition != "natural":
        count = sites or len(task.card.hospitals)
        width = len(str(count))
        return [f"site-{number:0{width}d}" for number in range(1, count + 1)]
    natural = natural_sites(study) if options.data else list(task.card.hospitals)
    if set(natural) == set(task.card.hospitals):
        natural = list(task.card.hospitals)  # the same hospitals are the same card, whatever the table's order
    if sites is not None and sites != len(natural):
        raise InputError(
            f"--sites {sites}: the natural partition has {len(natural)} sites; "
            f"add --partition iid, dirichlet:0.3, quantity:0.5 or feature:COLUMN to deal the patients out to {sites} sites."
        )
    return natural
