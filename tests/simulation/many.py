"""Many seeds, spread over processes that each have a server of their own.

PYTHONPATH=tests python -m simulation 1000             seeds 0 to 999
PYTHONPATH=tests python -m simulation 500 --first 7000
PYTHONPATH=tests python -m simulation --seed 4711      one, with its trace
"""

from __future__ import annotations

import logging
import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import get_context
from pathlib import Path

from services.redis_local import local_valkey
from simulation.run import Failure, Run
from simulation.servers import simulated_library
from simulation.template import Template

SEEDS_AT_ONCE = 125
IN_MEMORY = Path("/dev/shm")
HASH_SEED = "PYTHONHASHSEED"


class Bench:
    """What runs share: a server, a template, a folder in memory."""

    def __init__(self, folder: Path, address: str) -> None:
        self._folder = folder
        self._address = address
        self._template = Template(folder)
        self._library = simulated_library()

    def run(self, seed: int) -> Failure | None:
        """One seed: what it found."""
        with self._run(seed) as run:
            try:
                run.play()
            except Failure as failure:
                return failure
        return None

    def trace(self, seed: int) -> list[str]:
        """All that happens in it."""
        with self._run(seed) as run:
            run.play()
            return list(run.scheduler.trace)

    @contextmanager
    def _run(self, seed: int) -> Iterator[Run]:
        with tempfile.TemporaryDirectory(dir=self._folder) as place:
            yield Run(seed, self._template, self._address, Path(place), self._library)


@contextmanager
def bench() -> Iterator[Bench]:
    """With a server of its own; what the product would log is left out."""
    where = IN_MEMORY if IN_MEMORY.is_dir() else None
    server = local_valkey()
    server.settings = {"appendonly": "no"}
    server.start()
    disabled = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with tempfile.TemporaryDirectory(dir=where) as folder:
            yield Bench(Path(folder), server.address)
    finally:
        logging.disable(disabled)
        server.close()


def failures_of(seeds: Sequence[int]) -> list[Failure]:
    """Those of these seeds that fail."""
    with bench() as one:
        return [failure for seed in seeds if (failure := one.run(seed)) is not None]


def run_many(
    seeds: Sequence[int], *, processes: int | None = None, progress: Callable[[int], None]
) -> list[Failure]:
    """All of them; `progress` is told how many more are done."""
    # Sets of words have another order in each process unless told otherwise; one seed has to be one run.
    os.environ[HASH_SEED] = "0"
    count = processes or os.cpu_count() or 1
    found: list[Failure] = []
    with ProcessPoolExecutor(count, mp_context=get_context("spawn")) as pool:
        parts = [tuple(part) for part in _parts(seeds)]
        for part, failed in zip(parts, pool.map(failures_of, parts), strict=True):
            found += failed
            progress(len(part))
    return found


def _parts(seeds: Sequence[int]) -> Iterator[Sequence[int]]:
    for at in range(0, len(seeds), SEEDS_AT_ONCE):
        yield seeds[at : at + SEEDS_AT_ONCE]
