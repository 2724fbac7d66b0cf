"""The whole installation under a thousand seeds, and proof that the simulator sees what it is for."""

from __future__ import annotations

import os

import pytest
from simulation.bugs import BUGS, RARE, SeededBug
from simulation.many import bench, run_many

SEEDS = 1_000
MANY_SEEDS = 100_000
TRIED = 60
MANY_TRIED = 3_000
"""Seeds from a bug's own on in which it has to show: each change of the code makes other runs of them."""


def _processes() -> int:
    """The cores that other workers of this test run leave."""
    workers = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    return max(1, (os.cpu_count() or 1) // workers)


def _nobody_watches(done: int) -> None:
    assert done


@pytest.mark.timeout(1_200)
def test_every_invariant_holds_whatever_the_weather() -> None:
    failures = run_many(range(SEEDS), processes=_processes(), progress=_nobody_watches)
    assert not failures, failures[0]


@pytest.mark.soak
@pytest.mark.timeout(200_000)
def test_every_invariant_holds_in_a_hundred_thousand_runs() -> None:
    failures = run_many(range(SEEDS, SEEDS + MANY_SEEDS), progress=_nobody_watches)
    assert not failures, failures[0]


@pytest.mark.parametrize("bug", BUGS, ids=[one.name for one in BUGS])
def test_a_sentence_of_the_protocol_that_is_left_out_is_missed(bug: SeededBug) -> None:
    _see(bug, TRIED)


@pytest.mark.soak
@pytest.mark.timeout(3_600)
@pytest.mark.parametrize("bug", RARE, ids=[one.name for one in RARE])
def test_a_sentence_that_others_stand_in_for_is_missed_in_the_end(bug: SeededBug) -> None:
    _see(bug, MANY_TRIED)


def _see(bug: SeededBug, count: int) -> None:
    with bench() as one, bug.make():
        seeds = range(bug.first_seed, bug.first_seed + count)
        assert any(one.run(seed) for seed in seeds), f"{bug.name} showed in none of {seeds}"


def test_one_seed_is_one_run() -> None:
    with bench() as one:
        assert one.trace(5) == one.trace(5)
