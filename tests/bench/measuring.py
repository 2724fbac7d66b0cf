"""How figures are taken: every way in turn, several rounds in one run, the median of each."""

from __future__ import annotations

import gc
import os
import platform
import sqlite3
from collections.abc import Callable, Mapping
from pathlib import Path
from statistics import median

ROUNDS = 3


def events_per_s(
    events: int, ways: Mapping[str, Callable[[], float]], *, rounds: int = ROUNDS
) -> dict[str, int]:
    """Each way's events per second, from the median of its seconds.

    The ways take turns, since a shared machine is faster in one minute than in the next: only
    ratios within a run mean something.
    """
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, work in ways.items():
            gc.collect()
            seconds[name].append(work())
    return {name: round(events / median(taken)) for name, taken in seconds.items()}


def peak_mb() -> float:
    """This process's largest resident memory so far, in MB."""
    # Not getrusage: its peak is inherited from the process that started this one.
    (line,) = [
        line
        for line in Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
        if line.startswith("VmHWM")
    ]
    return round(int(line.split()[1]) / 1024, 1)


def machine() -> dict[str, str | int]:
    """What the figures were taken on."""
    with open("/proc/cpuinfo", encoding="utf-8") as cpuinfo:
        models = [line.split(":")[1].strip() for line in cpuinfo if line.startswith("model name")]
    return {
        "cpu": models[0] if models else platform.processor(),
        "cores": os.cpu_count() or 0,
        "system": platform.system(),
        "python": platform.python_version(),
        "sqlite": sqlite3.sqlite_version,
    }
