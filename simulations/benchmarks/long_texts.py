"""What do windows read that cutting cannot? Real heart-disease records whose finding stands behind 300 tokens of made-up notes.

``python -m simulations.benchmarks.long_texts [SEED]``: Cleveland's patients, the real all-MiniLM-L6-v2, the shipped card's training
at epsilon 3. The same records are read three ways: without the notes, with the notes and cut at 128 tokens, and in windows of 128.
"""

import json
import sys
import tempfile
import tomllib
from dataclasses import replace
from pathlib import Path

import numpy as np
import tomli_w

from client.records import Row
from shared.card import Task
from shared.windows import lengths
from simulations.batched import run_seed
from simulations.evaluate import score
from simulations.federation import Stopwatch, prepare
from simulations.heart import heart_study
from simulations.partition import Scheme
from simulations.pools import together
from simulations.study import Study, deal_out

HEART = Task.load("heart-disease")
SITE, SPLIT, SENTENCES = "Cleveland", 43, 28
NOTES = (  # nobody's: they say nothing of the heart
    "The visit was booked by telephone and confirmed in writing.",
    "A relative waited in the hall and asked about the bus home.",
    "The form was filled in twice because the first copy was lost.",
    "Glasses are worn for reading and were left in the locker.",
    "The usual pharmacy is near the station and closes at six.",
    "A copy of this letter goes to the practice and to the archive.",
)


def noted(rows: list[Row], seed: int) -> list[Row]:
    """Return the rows with a column `notes` of sentences in an order of their own."""
    public = np.random.default_rng(seed)
    return [{**row, "notes": " ".join(public.choice(NOTES, SENTENCES))} for row in rows]


def card(notes: bool, **template: int) -> Task:
    """Return the demonstration's card for one hospital, with the notes before its sentence or without."""
    raw = tomllib.loads(HEART.text)
    raw["plan"] |= {"sites": [SITE], "patients_per_round": 60}
    raw["backbone"]["max_tokens"] = 128
    raw["template"] |= template | ({"text": "{notes} " + raw["template"]["text"]} if notes else {})
    return Task.parse(tomli_w.dumps(raw), "the benchmark's card")


def read(study: Study, task: Task, seed: int) -> dict[str, float | int | None]:
    """Return the AUC on test patients before and after training, and how long the records are."""
    sites = deal_out(study, task.card, Scheme("natural"), [SITE], SPLIT)
    here = prepare(task, sites, private=True, hold=together)
    longest = max(lengths(here.scorer.backbone.tokenizer, sites[SITE].test.texts))
    with tempfile.TemporaryDirectory() as out:
        trained, spent = run_seed(here, seed, Path(out), Stopwatch(), lambda _: None)
    start, end = (score(prompt, here.tests, here.scorer).pooled_auc for prompt in (here.initial, trained))
    return {"tokens at most": longest, "start auc": start, "end auc": end, "epsilon": round(spent[SITE].epsilon, 3)}


def main(seed: int = 0) -> None:
    """Print one JSON line for each way to read."""
    study = heart_study(HEART.card.files, SPLIT)
    rows = [row for row, place in zip(study.rows, study.hospitals, strict=True) if place == SITE]
    here = replace(study, rows=noted(rows, seed), hospitals=[SITE] * len(rows))
    ways = {"without notes": card(False), "cut": card(True), "windows": card(True, windows=4, overlap=16)}
    for name, task in ways.items():
        print(json.dumps({"read": name, "seed": seed} | read(here, task, seed)), flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 0)
