"""Seconds of processor to read with one prompt, split over four, and all four: ``python -m simulations.benchmarks.mixed [ROWS]``.

The demonstration's model and patients, repeated to that many rows with a note of their own each, so that no sentence is read twice.
Each figure is the median of three of the processor time, measured in turn, so that other jobs on the machine change little.
"""

import statistics
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from shared.card import Task
from shared.library import open_entry
from shared.peft_format import save_prompt
from shared.reading import Reader, Reading, logits_of, open_reader
from shared.scoring import build
from simulations.heart import heart_study

PROMPTS = 4


def readers(task: Task, home: Path) -> list[Reader]:
    """Return four prompts of the card, each moved at random."""
    scorer, prompt = build(task.card)
    found = []
    for number in range(PROMPTS):
        moved = prompt + 0.02 * np.random.default_rng(number).normal(size=prompt.shape).astype(np.float32)
        save_prompt(home / str(number), moved, task, scorer, {})
        (home / str(number) / "task.toml").write_text(task.text)
        found.append(open_reader(open_entry(home / str(number))))
    return found


def main(rows: int) -> None:
    """Print the seconds and their ratios, and how far mixed and one by one are apart."""
    task = Task.load("heart-disease")
    study = heart_study(task.card.files)
    texts = [f"{task.card.record_text.render(study.rows[n % len(study.rows)])} visit {n}" for n in range(rows)]
    with tempfile.TemporaryDirectory() as home:
        four = readers(task, Path(home))
    ways = {
        "one prompt": [Reading(text, 0) for text in texts],
        "split over four": [Reading(text, n % PROMPTS) for n, text in enumerate(texts)],
        "all four on every record": [Reading(text, n) for text in texts for n in range(PROMPTS)],
    }
    times: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(3):
        for name, readings in ways.items():
            start = time.process_time()
            logits_of(four, readings)
            times[name].append(time.process_time() - start)
    base = statistics.median(times["one prompt"])
    for name, seconds in times.items():
        print(f"{name}: {statistics.median(seconds):.2f} s, {statistics.median(seconds) / base:.2f} of one prompt")
    split = logits_of(four, ways["split over four"][:50])
    alone = [logits_of(four, [reading])[0] for reading in ways["split over four"][:50]]
    apart = max(float((a - b).abs().max()) for a, b in zip(split, alone, strict=True))
    print(f"largest difference of a score between mixed and one by one: {apart:.1e}")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 400)
