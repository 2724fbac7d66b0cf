"""`make simulate SEEDS=n`: see `many`."""

from __future__ import annotations

import argparse
import os
import sys

from rich.progress import Progress
from simulation.many import HASH_SEED, bench, run_many
from simulation.run import Failure

TRACED = 400


def main() -> int:
    """0: every invariant held in every run; 1: some did not, and the first is shown with its trace."""
    parser = argparse.ArgumentParser(prog="simulation", description=__doc__)
    parser.add_argument("count", nargs="?", type=int, default=1_000, help="how many seeds")
    parser.add_argument("--first", type=int, default=0, help="the first of them")
    parser.add_argument("--seed", type=int, help="this one alone, with its trace")
    asked = parser.parse_args()
    if asked.seed is not None:
        return _show_one(asked.seed)
    seeds = range(asked.first, asked.first + asked.count)
    with Progress() as bar:
        task = bar.add_task("Simulating", total=len(seeds))
        failures = run_many(seeds, progress=lambda done: bar.advance(task, done))
    print(f"{len(seeds)} seeds, {len(failures)} failed: {[one.seed for one in failures]}")  # noqa: T201 - for who runs it
    if failures:
        _show(failures[0])
    return int(bool(failures))


def _show_one(seed: int) -> int:
    if os.environ.get(HASH_SEED) != "0":
        os.environ[HASH_SEED] = "0"
        os.execv(sys.executable, [sys.executable, "-m", "simulation", "--seed", str(seed)])
    with bench() as one:
        failure = one.run(seed)
    if failure is None:
        print(f"seed {seed}: every invariant held")  # noqa: T201 - for who runs it
        return 0
    _show(failure)
    return 1


def _show(failure: Failure) -> None:
    for line in failure.trace[-TRACED:]:
        print(line)  # noqa: T201 - for who runs it
    print(failure)  # noqa: T201 - for who runs it
    print(f"again: make simulate SEED={failure.seed}")  # noqa: T201 - for who runs it


if __name__ == "__main__":
    raise SystemExit(main())
