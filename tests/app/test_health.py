"""Health is progress: what lags must move, what works must turn, what is away must come back."""

from __future__ import annotations

import pytest

from tollkeeper.app.health import Health, Standing
from tollkeeper.errors import LogGap

STUCK_AFTER_S = 60.0


class Clock:
    now = 1_000.0

    def __call__(self) -> float:
        return self.now


class Watched(Health):
    """Health with a clock of its own, and partition 0 owned."""

    def __init__(self) -> None:
        self.clock = Clock()
        super().__init__(self.clock, stuck_after_s=STUCK_AFTER_S)
        self.owns([0])

    def sample(
        self, next_offset: int, end_offset: int, *, seconds: float, every: float = 5.0
    ) -> None:
        """Samples that all say the same, for some time."""
        self.sampled({0: Standing(next_offset, end_offset)})
        for _ in range(int(seconds / every)):
            self.clock.now += every
            self.sampled({0: Standing(next_offset, end_offset)})

    @property
    def kinds(self) -> list[str]:
        return [one.reason for one in self.reasons()]


@pytest.fixture
def health() -> Watched:
    return Watched()


@pytest.mark.parametrize(("seconds", "kinds"), [(55, []), (60, []), (65, ["partition_stuck"])])
def test_a_partition_that_lags_and_stands_still_is_stuck_after_the_bound(
    health: Watched, seconds: float, kinds: list[str]
) -> None:
    health.sample(7, 9, seconds=seconds)
    assert health.kinds == kinds


def test_what_is_stuck_is_named(health: Watched) -> None:
    health.sample(7, 9, seconds=100)
    (reason,) = health.reasons()
    assert (reason.partition, reason.may_restart_help) == (0, True)
    assert reason.detail == "2 records wait at offset 7, and nothing was folded for 100 s"


def test_a_consumer_that_turns_for_hours_without_folding_is_found(health: Watched) -> None:
    """openmeter 4987: heartbeats went on, consumption was paused for 16 hours."""
    for _ in range(100):
        health.turned("consume")
        health.sample(7, 9, seconds=5)
    assert health.kinds == ["partition_stuck"]


def test_a_partition_that_moves_or_has_nothing_to_do_is_well(health: Watched) -> None:
    for offset in range(20):
        health.sample(offset, 1_000, seconds=55)
    health.sample(1_000, 1_000, seconds=10_000)
    health.sample(1_000, 1_001, seconds=60)  # what came late is given its time
    assert health.kinds == []


def test_what_others_own_or_nobody_is_not_this_process_s_fault(health: Watched) -> None:
    health.owns([])
    health.sample(7, 9, seconds=500)
    assert health.kinds == []
    health.owns([0])  # taken over with its lag: it gets its time
    assert health.kinds == []
    health.sample(7, 9, seconds=65)
    assert health.kinds == ["partition_stuck"]


def test_time_in_which_nothing_could_be_measured_does_not_count(health: Watched) -> None:
    health.sample(7, 9, seconds=50)
    health.unsampled()
    health.clock.now += 5_000
    health.sample(7, 9, seconds=10)
    assert health.kinds == []
    health.sample(7, 9, seconds=5)
    assert health.kinds == [
        "partition_stuck"
    ]  # 50 s before and 15 s after: a flapping log hides nothing


def test_a_halted_partition_is_named_as_such_and_a_restart_would_not_help(health: Watched) -> None:
    health.halted({0: LogGap("offset 7 is missing")})
    health.sample(7, 9, seconds=500)
    (reason,) = health.reasons()
    assert (reason.reason, reason.partition, reason.may_restart_help) == (
        "partition_halted",
        0,
        False,
    )
    health.owns([])  # its new owner reports it
    assert health.kinds == []


@pytest.mark.parametrize(("seconds", "kinds"), [(59, []), (60, []), (61, ["job_stuck"])])
def test_a_job_that_gives_no_sign_of_life_is_stuck(
    health: Watched, seconds: float, kinds: list[str]
) -> None:
    health.turned("relay")
    health.clock.now += seconds
    assert health.kinds == kinds


def test_a_job_that_pauses_is_not_stuck_however_small_the_bound() -> None:
    clock = Clock()
    health = Health(clock, stuck_after_s=1.0)
    health.turned("drain")
    clock.now += 30
    assert health.reasons() == []
    clock.now += 1
    assert [one.reason for one in health.reasons()] == ["job_stuck"]


@pytest.mark.parametrize(("seconds", "kinds"), [(60, []), (61, ["service_away"])])
def test_a_service_that_stays_away_is_named_by_who_misses_it(
    health: Watched, seconds: float, kinds: list[str]
) -> None:
    assert health.away("relay", "log")
    health.turned("sample")  # another job's success says nothing about this one's need
    health.clock.now += seconds
    assert not health.away("relay", "log")  # no news, and a sign of life
    health.turned("sample")
    assert health.kinds == kinds
    assert health.turned("relay") == {"log": seconds}
    assert health.kinds == []


def test_a_job_that_died_is_never_forgotten(health: Watched) -> None:
    health.died("drain", "OSError: no such device")
    health.turned("drain")
    assert health.kinds == ["job_died"]
