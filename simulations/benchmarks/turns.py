"""What benchmarks share: arms that are measured in turn, so that a busy machine slows all of them alike, and their ratio."""

import os
import platform
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import torch


@dataclass(frozen=True)
class Seconds:
    """How long something took: by the clock on the wall, and of this process's processor time."""

    wall: float
    cpu: float


def measured(work: Callable[[], object]) -> Seconds:
    """Return how long `work` takes."""
    wall, cpu = time.perf_counter(), time.process_time()
    work()
    return Seconds(time.perf_counter() - wall, time.process_time() - cpu)


def in_turn(arms: Mapping[str, Callable[[], object]], repeats: int) -> dict[str, list[Seconds]]:
    """Run every arm once unmeasured, then all in turn, `repeats` times; return the times of each."""
    for work in arms.values():
        work()
    times: dict[str, list[Seconds]] = {name: [] for name in arms}
    for _ in range(repeats):
        for name, work in arms.items():
            times[name].append(measured(work))
    return times


def quartiles(values: Sequence[float]) -> tuple[float, float, float]:
    """Return the lower quartile, the median and the upper quartile.

    >>> quartiles([4.0, 1.0, 3.0, 2.0, 5.0])
    (2.0, 3.0, 4.0)
    """
    low, middle, high = statistics.quantiles(values, n=4, method="inclusive")
    return low, middle, high


def ratios(over: Sequence[Seconds], under: Sequence[Seconds]) -> list[float]:
    """Return the ratio of processor times of each turn."""
    return [a.cpu / b.cpu for a, b in zip(over, under, strict=True)]


def conditions() -> str:
    """Return date, machine, threads and load, which every figure needs beside it."""
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    model = next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.processor())
    load = " ".join(f"{x:.1f}" for x in os.getloadavg())
    now = datetime.now(UTC).strftime("%Y-%m-%d %H:%M")
    return f"{now}, {os.cpu_count()} x {model}, {torch.get_num_threads()} threads, torch {torch.__version__}, load {load}"


def line(what: str, values: Sequence[float], floor: str) -> str:
    """Return the closing line of a script: the median of the ratios with quartiles, and what was asked for.

    >>> line("like for like", [1.0, 2.0, 3.0], ">= 1.4")
    'RATIO like for like: 2.00 [1.50, 2.50], floor >= 1.4'
    """
    low, middle, high = quartiles(values)
    return f"RATIO {what}: {middle:.2f} [{low:.2f}, {high:.2f}], floor {floor}"
