"""A mystery site as its auditor sees it: who was in, who was drawn, the sum before noise, and what came out of it."""

import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from audits.one_run import Claim
from audits.subject import Subject
from client.mystery import MysterySource, canary_pool, canary_scorer, canary_step, times_drawn
from client.opening import proposal_of
from client.round import LocalPlan
from shared.canaries import Canaries
from shared.card import Task
from shared.errors import InputError
from shared.privacy.mechanism import Mechanism, Update, decode
from shared.privacy.planned import mechanism_of

Numbers = NDArray[np.float64]
Draws = NDArray[np.int64]


@dataclass(frozen=True)
class Watched:
    """One run of a mystery site.

    Attributes:
        task: the card.
        canaries: of the site.
        run: the run's name.
        mechanism: as claimed.
        plan: the public facts of a round.
    """

    task: Task
    canaries: Canaries
    run: str
    mechanism: Mechanism
    plan: LocalPlan

    @property
    def rounds(self) -> int:
        """Rounds of the plan."""
        return self.task.card.plan.rounds

    @property
    def length(self) -> int:
        """Rounds of a segment."""
        return self.rounds // self.canaries.table.segments

    @cached_property
    def claim(self) -> Claim:
        """What the card claims of the whole run."""
        return self._claim(self.rounds)

    @cached_property
    def segment_claim(self) -> Claim:
        """What the card claims of one segment."""
        return self._claim(self.length)

    def _claim(self, rounds: int) -> Claim:
        one, steps = self.mechanism, self.plan.steps
        return Claim(one.sample_rate, one.noise_multiplier, rounds * steps, self.task.card.privacy.delta, steps)

    def times(self, round_: int) -> Draws:
        """Return how often each canary was drawn in a round, (count,)."""
        return times_drawn(self.canaries, self.plan, self.rounds, self.run, self.canaries.table.site, round_)

    def clean(self, round_: int) -> Numbers:
        """Return the round's sum before noise in clip norms, (d,)."""
        total = np.zeros(self.canaries.size)
        total[self.canaries.coordinates] = self.times(round_) * self.canaries.signs
        return total

    def projections(self, update: Update) -> Numbers:
        """Return an update's coordinate along each canary's direction in clip norms, (count,)."""
        flat = decode(update, self.mechanism).ravel() / self.mechanism.clip_norm  # (d,)
        along: Numbers = flat[self.canaries.coordinates] * self.canaries.signs
        return along

    @property
    def energy(self) -> float:
        """Expected squared norm of the canaries in one update, as a share of the noise's: m q / (2 sigma^2 d) for one step."""
        q, steps, sigma = self.mechanism.sample_rate, self.plan.steps, self.mechanism.noise_multiplier
        each = q * (1 - q) + steps * q**2  # of steps: mean square of how often a canary that is in is drawn, over `steps`
        return self.canaries.count / 2 * each / (sigma**2 * self.canaries.size)


def watched(task: Task, canaries: Canaries, run: str) -> Watched:
    """Return a run of a mystery site with the card's own numbers."""
    mechanism = mechanism_of(task.card)
    return Watched(task, canaries, run, mechanism, proposal_of(task, mechanism).plan)


def shadow_run(subject: Subject, place: Watched) -> dict[int, Update]:
    """Return the updates of a mystery site on this machine: the subject's own step on what the run broadcast, round by round.

    Nothing of it reaches a server. Where the plan has more rounds than were broadcast, the broadcasts come again.
    """
    canaries, rounds = place.canaries, place.rounds
    scorer, source = canary_scorer(canaries, place.mechanism.clip_norm), MysterySource(canaries)
    step, nobody = canary_step(canaries, rounds, subject.step), canary_pool(canaries, 1, rounds)
    return {
        n: step(
            nobody,
            subject.prompts[(n - 1) % len(subject.prompts)],
            place.plan,
            scorer,
            source,
            place.run,
            canaries.table.site,
            n,
        )
        for n in range(1, rounds + 1)
    }


def updates_of(folder: Path, run: str, site: str) -> dict[int, Update]:
    """Return a site's updates from a run directory, round -> array; rounds in which it did not count are absent."""
    transcript = folder / "transcript"
    place = transcript / run if (transcript / run).is_dir() else transcript
    found = {int(path.stem.removeprefix("round-")): update_in(path, site) for path in sorted(place.glob("round-*.npz"))}
    return {number: update for number, update in found.items() if update is not None}


def update_in(path: Path, site: str) -> Update | None:
    """Return a site's update from a round's transcript; None where it did not count."""
    try:
        with np.load(path, allow_pickle=False) as data:
            name = f"update/{site}"
            return data[name] if name in data.files else None
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        raise InputError(f"{path}: this is no whole file of a round; take the coordinator's own copy.") from None


def stacked(place: Watched, updates: Mapping[int, Update]) -> tuple[Numbers, Draws]:
    """Return projections and times drawn of the rounds that are there, in order, both (rounds, count)."""
    numbers = sorted(updates)
    seen = np.array([place.projections(updates[n]) for n in numbers]).reshape(len(numbers), -1)
    return seen, np.array([place.times(n) for n in numbers], dtype=np.int64).reshape(len(numbers), -1)
