"""Does a related task's prompt help a new one at epsilon 1, and does the guard tell it from an unrelated one?

``python -m simulations.benchmarks.reuse PAIR [SEEDS]``. Real patients of the UCI study; a pair is of `PAIRS`: hospitals that
trained a prompt at epsilon 3, and other hospitals that start from it. Two more prompts come from the source's hospitals: `sex`, the
patient's sex, read from the other fields; and `moles`, a made-up task that has nothing to do with hearts. With a trained start the
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
import torch
from scipy.optimize import brentq

from client.guard import SIDES, Start, advice, kinds_of
from client.records import ColumnMap, Row
from client.round import Pool
from shared.card import Task
from shared.library import Entry, open_entry
from shared.peft_format import save_prompt
from shared.privacy.accounting import Release, epsilon_of
from shared.privacy.counts import count_release, release_counts
from shared.privacy.source import SimulationSource
from shared.prompt import Array
from simulations.evaluate import score
from simulations.federation import Federation, Stopwatch, prepare, run_seed
from simulations.heart import heart_study
from simulations.partition import Scheme
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


def sexes(sites: tuple[str, ...], noise: float, split: int) -> Federation:
    """Return the same patients with another question: the sex, from the other fields."""
    template = tomllib.loads(HEART.text)["template"]
    template["text"] = template["text"].removeprefix("sex {sex} ")
    del template["fields"]["sex"]
    labels = [{"name": "Female", "text": "a woman"}, {"name": "Male", "text": "a man"}]
    study = heart_study(HEART.card.files, split)
    columns = ColumnMap("sex", {"Male": "Male", "Female": "Female"}, {}, split=study.columns.split)
    return _federation(replace(study, columns=columns), card(sites, noise, name="sex", labels=labels, template=template), split)


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
    return prepare(task, deal_out(part, task.card, Scheme("natural"), sites, split), private=True)


def trained(here: Federation, seed: int) -> Array:
    """Run one seed and return the published prompt."""
    with tempfile.TemporaryDirectory() as out:
        return run_seed(here, seed, Path(out), Stopwatch(), lambda _: None)[0]


def kept(here: Federation, prompt: Array, folder: Path) -> Entry:
    """Keep a prompt as a run does."""
    save_prompt(folder, prompt, here.task, here.scorer, {"privacy": True})
    (folder / "task.toml").write_text(here.task.text)
    return open_entry(folder)


def pooled(here: Federation, prompt: Array) -> dict[str, float]:
    """Return AUC and accuracy on the test patients of all sites."""
    found = score(prompt, here.tests, here.scorer)
    return {"auc": found.pooled_auc or float("nan"), "accuracy": found.pooled_accuracy}


def noise_for(epsilon: float, *beside: Release) -> float:
    """Return the noise multiplier with which the training, beside other releases, spends epsilon."""

    def over(noise: float) -> float:
        return epsilon_of([Release(RATE, noise)] * ROUNDS + list(beside), DELTA) - epsilon

    return float(brentq(over, 1.0, 60.0, xtol=1e-3))


def guarded(here: Federation, fresh: Federation) -> dict[str, float]:
    """Return how often the guard says yes: the sites' counts of test patients, as `prompts guard` draws them, added up."""

    def start(f: Federation, name: str) -> Start:
        tests = f.tests[name]
        each = torch.split(torch.arange(len(tests.labels)), 1)  # a patient has one record here
        return Start(f.task.card, f.scorer, f.initial, Pool(tests.hidden, torch.from_numpy(tests.labels), each))

    kinds = {name: kinds_of(start(here, name), start(fresh, name)) for name in here.pools}
    labels = SIDES * len(here.task.card.labels)
    said = []
    for draw in range(DRAWS):
        source = SimulationSource(draw)
        counts = sum(release_counts(k, labels, GUARD_NOISE, source.stream("guard", name)).value for name, k in kinds.items())
        said.append(advice(np.asarray(counts), GUARD_NOISE * len(kinds) ** 0.5).reuse)
    exact = np.bincount(np.concatenate(list(kinds.values())), minlength=labels)
    return {"says yes": float(np.mean(said)), "lead": advice(exact, 0.0).lead or 0.0}


def main(pair: str, seeds: int, split: int = 43) -> None:
    """Print one JSON line a start and seed, and the means and spreads over seeds of source, target and noise."""
    source, target = PAIRS[pair]
    ample, whole, shared = noise_for(3.0), noise_for(EPSILON), noise_for(EPSILON, count_release(GUARD_NOISE))
    origins = {
        "heart": hearts(card(source, ample), split),
        "sex": sexes(source, ample, split),
        "moles": moles(source, ample, split),
    }
    fresh = hearts(card(target, whole), split)
    lines: dict[str, list[dict[str, float]]] = defaultdict(list)
    with tempfile.TemporaryDirectory() as home:
        for seed in range(seeds):
            starts = {"fresh": fresh}
            for name, where in origins.items():
                entry = kept(where, trained(where, seed), Path(home) / f"{name}-{seed}")
                starts[name] = hearts(card(target, shared, f"prompt:{entry.folder}@{entry.digest}"), split)
            for name, here in starts.items():
                begin, end = pooled(here, here.initial), pooled(here, trained(here, seed + 100))
                line = {f"start {k}": v for k, v in begin.items()} | {f"end {k}": v for k, v in end.items()}
                lines[name].append(line | ({} if name == "fresh" else guarded(here, fresh)))
                print(json.dumps({"pair": pair, "seed": seed, "from": name} | lines[name][-1]), flush=True)
    for name, found in lines.items():
        means = {key: [round(float(f([line[key] for line in found])), 3) for f in (np.mean, np.std)] for key in found[0]}
        print(json.dumps({"pair": pair, "from": name, "mean and std": means}))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 5)
