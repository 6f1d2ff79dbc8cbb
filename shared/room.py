"""Is there room: for the model in memory, and for what a run writes on the disk."""

import json
import os
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from shared.backbone import locate
from shared.card import TaskCard
from shared.findings import Finding

LIBRARIES = 700 * 2**20  # bytes that Python, torch, transformers and Flower take before any model, measured
WORK = 1.5  # weights while they are read, and what a batch needs, in weights
SPARE = 10  # times the estimate; less free disk than that is a warning
LIMIT = Path("/sys/fs/cgroup/memory.max")
USED = Path("/sys/fs/cgroup/memory.current")
MEMORY = Path("/proc/meminfo")


def fetch_nothing() -> None:
    """Keep this process from fetching a model that is not here: a look at a machine changes nothing on it."""
    os.environ["HF_HUB_OFFLINE"] = "1"  # read by huggingface_hub when it is first imported


def memory_findings(card: TaskCard, records: int = 0) -> Iterator[Finding]:
    """Compare free memory with what the model, and the hidden states of `records` records, will roughly take."""
    folder = locate(card.backbone.source)
    weights = sum(path.stat().st_size for path in folder.glob("*.safetensors"))
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    needed = int(LIBRARIES + WORK * weights) + records * record_bytes(config, card)
    free = free_memory()
    if free is None:
        yield Finding("memory", "warning", f"about {size(needed)} are needed; this system does not tell what is free")
        return
    said = f"about {size(needed)} are needed, the model's weights are {size(weights)}, {size(free)} are free"
    mend = "end other programs or take a machine with more memory"
    if free < needed:
        yield Finding("memory", "wrong" if free < weights else "warning", said, mend)
    else:
        yield Finding("memory", "ok", said)


def record_bytes(config: Mapping[str, Any], card: TaskCard) -> int:
    """Return the bytes of a record's hidden states, from a model's `config.json`; 0 where it does not tell.

    >>> from shared.card import Task
    >>> record_bytes({"hidden_size": 384}, Task.load("heart-disease").card)
    98304
    """
    config = config.get("vision_config", config)
    dim, tokens = config.get("hidden_size", config.get("n_embd", 0)), card.backbone.max_tokens
    if "patch_size" in config and "image_size" in config:
        tokens = (config["image_size"] // config["patch_size"]) ** 2 + 1
    if card.windows is not None:  # at most
        tokens *= card.windows.most
    if card.prompt.position == "after":  # keys and values of every layer; fewer key heads take less
        dim *= 2 * config.get("num_hidden_layers", config.get("n_layer", 1))
    return int(tokens * dim * 4)


def disk_findings(folder: Path, needed: int, what: str) -> Iterator[Finding]:
    """Compare the free disk under `folder` with `needed` bytes, and see that the folder can be written."""
    place = nearest(folder)
    free = shutil.disk_usage(place).free
    said = f"{what}: about {size(needed)}; {size(free)} are free in {place}"
    if not place.is_dir() or not os.access(place, os.W_OK | os.X_OK):
        yield Finding("disk", "wrong", f"{place}: nothing can be written here", "give the folder to the user who runs promptward")
    elif free < needed:
        yield Finding("disk", "wrong", said, "free some space, or name a folder on another disk")
    elif free < SPARE * needed:
        yield Finding("disk", "warning", said, "free some space before it is full: a ledger that cannot be written ends the run")
    else:
        yield Finding("disk", "ok", said)


def nearest(folder: Path) -> Path:
    """Return the folder, or the nearest one above it that is there."""
    here = folder.absolute()
    while not here.exists() and here != here.parent:
        here = here.parent
    return here


def free_memory() -> int | None:
    """Return the bytes that are free for new processes, within the container's limit if there is one; None if not told."""
    if not MEMORY.exists():
        return None
    lines = dict(line.split(":", 1) for line in MEMORY.read_text().splitlines())
    free = int(lines["MemAvailable"].split()[0]) * 1024
    limit = LIMIT.read_text().strip() if LIMIT.exists() else "max"
    return free if limit == "max" else min(free, int(limit) - int(USED.read_text()))


def size(count: int) -> str:
    """Return a number of bytes for people.

    >>> size(900), size(9_216), size(2_500_000), size(3 * 10**9)
    ('900 B', '9.2 kB', '2.5 MB', '3.0 GB')
    """
    for unit, name in ((10**9, "GB"), (10**6, "MB"), (10**3, "kB")):
        if count >= unit:
            return f"{count / unit:.1f} {name}"
    return f"{count} B"
