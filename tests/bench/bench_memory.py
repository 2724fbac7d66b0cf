"""Whether a consumer's memory grows with history: the peak of one that folds ten times as much."""

from __future__ import annotations

import multiprocessing
import tempfile
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from bench.bench_pipeline import fill
from bench.measuring import peak_mb
from support import homes

TIMES = 10


def run(events: int) -> dict[str, float]:
    """Peak resident memory, in MB, of a process that folds `events`, and of one that folds tenfold."""
    with tempfile.TemporaryDirectory() as folder:
        few = _peak_mb(Path(folder) / "few", events)
        many = _peak_mb(Path(folder) / "many", events * TIMES)
    return {
        "events": events,
        "events_tenfold": events * TIMES,
        "peak_mb": few,
        "peak_mb_tenfold": many,
        "growth_mb": round(many - few, 1),
    }


def _peak_mb(home: Path, events: int) -> float:
    with homes.opened_app(home) as app:
        fill(app, events)
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context) as pool:
        return pool.submit(_fold_all, home).result()


def _fold_all(home: Path) -> float:
    with homes.opened_app(home) as app:
        homes.fold(app)
    return peak_mb()
