"""Does a related task's prompt help a new one at epsilon 1, and does the guard tell it from an unrelated one?

``python -m simulations.benchmarks.reuse PAIR [SEEDS]``. Real patients of the UCI study; a pair is of `PAIRS`: hospitals that
trained a prompt at epsilon 3, and other hospitals that start from it. Two starts are wrong for them: `swapped`, the same prompt
with its labels exchanged, and `moles`, trained on a made-up task that has nothing to do with hearts. With a trained start the
guard's counts and the training spend epsilon 1 together; a fresh start asks no guard and has epsilon 1 for itself.
"""

import json
import sys
import tempfile
import tomllib
from collections import defaultdict
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import tomli_w
from numpy.typing import NDArray
from scipy.optimize import brentq

from client.guard import KINDS, Advice, Start, advice, kinds_of
from client.records import ColumnMap, Row
from shared.card import Task
from shared.library import Entry, open_entry
from shared.peft_format import save_prompt
from shared.privacy.accounting import Release, epsilon_of
from shared.privacy.counts import count_release, release_counts
from shared.privacy.source import SimulationSource
from shared.prompt import Array
from shared.scoring import build
from simulations.batched import run_seed
from simulations.evaluate import score
from simulations.federation import Federation, Stopwatch, prepare
from simulations.heart import heart_study
from simulations.partition import Scheme
from simulations.pools import together
from simulations.study import Study, deal_out

HEART = Task.load("heart-disease")
ROUNDS, DELTA, RATE, EPSILON = HEART.card.plan.rounds, HEART.card.privacy.delta, HEART.card.privacy.sample_rate, 1.0
GUARD_NOISE = 8.0
DRAWS = 200  # of the guard's noise, to say how often it decides which way
PAIRS = {
    "west": (("Cleveland", "Hungary"), ("Switzerland", "VA Long Beach")),
    "cleveland": (("Hungary", "Switzerland", "VA Long Beach"), ("Cleveland",)),
    "hungary": (("Cleveland", "Switzerland", "VA Long Beach"), ("Hungary",)),
}
TRAINING = {"Cleveland": 199, "Hungary": 172, "Switzerland": 30, "VA Long Beach": 85}  # the study's published numbers


def card(sites: tuple[str, ...], noise: float, init: str = "text:heart disease", **other: Any) -> Task:
    """Return the demonstration's card with another roster, noise, start, and other tables where the question is another."""
    raw = tomllib.loads(HEART.text) | other
    raw["plan"] |= {"sites": list(sites), "patients_per_round": round(RATE * sum(TRAINING[site] for site in sites))}
    raw["privacy"]["noise_multiplier"] = noise
    raw["prompt"]["init"] = init
    return Task.parse(tomli_w.dumps(raw), "the benchmark's card")


def hearts(task: Task, split: int) -> Federation:
    """Return the card's hospitals of the study with their patients."""
    return _federation(heart_study(HEART.card.files, split), task, split)


def moles(sites: tuple[str, ...], noise: float, split: int) -> Federation:
    """Return made-up patients of a made-up rule: a mole is bad when two or more of its three signs are."""
    signs = {"border": ("smooth", "ragged"), "colour": ("even", "mixed"), "growth": ("still", "fast")}
    labels = [{"name": "harmless", "text": "border smooth colour even growth still"}]
    labels += [{"name": "bad", "text": "border ragged colour mixed growth fast"}]
    random, rows = np.random.default_rng(split), list[Row]()
    for _ in range(sum(TRAINING[site] for site in sites)):
        drawn = random.integers(0, 2, 3)
        said = {name: words[n] for (name, words), n in zip(signs.items(), drawn, strict=True)}
        rows.append({**said, "dx": labels[int(drawn.sum() > 1)]["name"], "part": "train" if random.random() < 0.66 else "test"})
    columns = ColumnMap("dx", {"harmless": "harmless", "bad": "bad"}, {}, split="part")
    where = random.choice(sites, len(rows)).tolist()
    table = {"text": "mole border {border} colour {colour} growth {growth}", "fields": {}}
    for name, words in signs.items():
        table["fields"] |= {name: {"words": {word: word for word in words}}}  # type: ignore[operator]
    return _federation(
        Study(rows, columns, where, "made up"), card(sites, noise, name="moles", labels=labels, template=table), split
    )


def _federation(study: Study, task: Task, split: int) -> Federation:
    sites = task.card.plan.sites
    chosen = [n for n, place in enumerate(study.hospitals) if place in sites]
    part = replace(study, rows=[study.rows[n] for n in chosen], hospitals=[study.hospitals[n] for n in chosen])
    return prepare(task, deal_out(part, task.card, Scheme("natural"), sites, split), private=True, hold=together)


def trained(here: Federation, seed: int) -> Array:
    """Run one seed and return the published prompt."""
    with tempfile.TemporaryDirectory() as out:
        return run_seed(here, seed, Path(out), Stopwatch(), lambda _: None)[0]


def kept(here: Federation, prompt: Array, folder: Path) -> Entry:
    """Keep a prompt as a run does."""
    save_prompt(folder, prompt, here.task, here.scorer, {"privacy": True})
    (folder / "task.toml").write_text(here.task.text)
    return open_entry(folder)


def pooled(here: Federation, prompt: Array) -> float:
    """Return the AUC on the test patients of all sites."""
    return score(prompt, here.tests, here.scorer).pooled_auc or float("nan")


def noise_for(epsilon: float, *beside: Release) -> float:
    """Return the noise multiplier with which the training, beside other releases, spends epsilon."""

    def over(noise: float) -> float:
        return epsilon_of([Release(RATE, noise)] * ROUNDS + list(beside), DELTA) - epsilon

    return float(brentq(over, 1.0, 60.0, xtol=1e-3))


def swapped(task: Task, entry: Entry, folder: Path) -> Entry:
    """Keep a trained prompt with its labels exchanged: what it takes for one is the other."""
    rows, labels = entry.prompt[: entry.rows], entry.prompt[entry.rows :]
    save_prompt(folder, np.concatenate([rows, labels[::-1]]), task, build(task.card)[0], {"privacy": True})
    (folder / "task.toml").write_text(task.text)
    return open_entry(folder)


def kinds(here: Federation, fresh: Federation) -> dict[str, NDArray[np.int64]]:
    """Return the kind of each training patient at each site, as `promptward prompts guard` finds it."""

    def start(f: Federation, name: str) -> Start:
        return Start(f.task.card, f.scorer, f.initial, f.pools[name])

    return {name: kinds_of(start(here, name), start(fresh, name)) for name in here.pools}


def guarded(here: Federation, fresh: Federation, seed: int) -> dict[str, Any]:
    """Return what the guard says with the noise of this seed, and how often it says yes over draws of noise.

    Where the target has several hospitals, the counts that each publishes are added up.
    """
    found, labels = kinds(here, fresh), len(here.task.card.labels)

    def said(draw: int) -> Advice:
        source = SimulationSource(draw)
        counts = [release_counts(k, KINDS * labels, GUARD_NOISE, source.stream("guard", name)).value for name, k in found.items()]
        return advice(sum(counts, np.zeros(KINDS * labels)), GUARD_NOISE * len(found) ** 0.5)

    exact = advice(np.bincount(np.concatenate(list(found.values())), minlength=KINDS * labels), 0.0)
    often = float(np.mean([said(DRAWS * (seed + 1) + draw).reuse for draw in range(DRAWS)]))
    true = {"reads": exact.reads and exact.reads.value, "lead": exact.lead and exact.lead.value}
    return {"guard": said(seed).reuse, "says yes": often} | true


def main(pair: str, seeds: int, split: int = 43) -> None:
    """Print what is spent, then one JSON line a start and seed, and the means and spreads over seeds."""
    source, target = PAIRS[pair]
    guard = count_release(GUARD_NOISE)
    ample, whole, shared = noise_for(3.0), noise_for(EPSILON), noise_for(EPSILON, guard)
    spent = {"guard": epsilon_of([guard], DELTA), "guard and training": EPSILON, "delta": DELTA}
    print(json.dumps({"pair": pair, "source": source, "target": target, "epsilon": spent, "noise": [whole, shared]}), flush=True)
    hearts_there, moles_there = hearts(card(source, ample), split), moles(source, ample, split)
    fresh = hearts(card(target, whole), split)
    lines: dict[str, list[dict[str, Any]]] = defaultdict(list)
    with tempfile.TemporaryDirectory() as home:
        for seed in range(seeds):
            folder = Path(home) / str(seed)
            related = kept(hearts_there, trained(hearts_there, seed), folder / "related")
            origins = {"related": related, "swapped": swapped(hearts_there.task, related, folder / "swapped")}
            origins["moles"] = kept(moles_there, trained(moles_there, seed), folder / "moles")
            starts = {"fresh": fresh}
            for name, entry in origins.items():
                starts[name] = hearts(card(target, shared, f"prompt:{entry.folder}@{entry.digest}"), split)
            for name, here in starts.items():
                begin, end = pooled(here, here.initial), pooled(here, trained(here, seed + 100))
                line: dict[str, Any] = {"start auc": begin, "end auc": end}
                lines[name].append(line | ({} if name == "fresh" else guarded(here, fresh, seed)))
                print(json.dumps({"seed": seed, "from": name} | lines[name][-1]), flush=True)
    for name, found in lines.items():
        means = {key: [round(float(f([line[key] for line in found])), 3) for f in (np.mean, np.std)] for key in found[0]}
        print(json.dumps({"pair": pair, "from": name, "mean and std": means}))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 5)
