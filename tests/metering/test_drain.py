"""Draining sends what dead emitters left and leaves the living alone."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
from metering.fake_log import MemoryLog, ids_on, usage
from metering.spools import SMALL, abandoned
from support.waiting import eventually

from tollkeeper.metering.drain import DrainResult, drain_spools, find_spooled
from tollkeeper.metering.emitter import Emitter, EmitterSettings
from tollkeeper.metering.spool import SpoolDirectory, emitter_directories

QUICK = EmitterSettings(first_backoff_s=0.005, max_backoff_s=0.01, batch_records=4)


def test_all_spools_are_sent_with_progress_and_deleted(tmp_path: Path) -> None:
    ids = abandoned(tmp_path, 10) + abandoned(tmp_path, 5)
    log, told = MemoryLog(), list[int]()
    result = drain_spools(tmp_path, log, timeout_s=10, progress=told.append, settings=QUICK)
    assert result == DrainResult(sent=15)
    assert sum(told) == 15
    assert max(told) <= 4
    assert ids_on(log) == ids
    assert list(tmp_path.iterdir()) == []


def test_no_spool_directory_is_nothing_to_do(tmp_path: Path) -> None:
    assert drain_spools(tmp_path / "none", MemoryLog(), timeout_s=1) == DrainResult()


def test_a_log_that_comes_back_in_time_is_waited_for(tmp_path: Path) -> None:
    ids = abandoned(tmp_path, 5)
    log = MemoryLog()
    log.fail_times = 3
    assert drain_spools(tmp_path, log, timeout_s=20, settings=QUICK).sent == 5
    assert ids_on(log) == ids


def test_what_the_timeout_cuts_off_is_counted_and_stays(tmp_path: Path) -> None:
    ids = abandoned(tmp_path, 5)
    away = MemoryLog()
    away.is_away = True
    result = drain_spools(tmp_path, away, timeout_s=0.05, settings=QUICK)
    assert (result.sent, result.left, result.owned, result.orphaned) == (0, 5, 0, 5)
    log = MemoryLog()
    assert drain_spools(tmp_path, log, timeout_s=10).sent == 5
    assert ids_on(log) == ids


def test_a_stop_cuts_off_as_the_timeout_does(tmp_path: Path) -> None:
    abandoned(tmp_path, 9)
    stop = threading.Event()
    log = MemoryLog()
    result = drain_spools(
        tmp_path, log, timeout_s=30, progress=lambda _sent: stop.set(), settings=QUICK, stop=stop
    )
    assert (result.sent, result.left) == (4, 5)


def test_a_living_emitters_spool_is_left_alone(tmp_path: Path) -> None:
    away = MemoryLog()
    away.is_away = True
    with Emitter(away.open, tmp_path, settings=QUICK) as emitter:
        emitter.emit_many([usage()] * 3)
        log = MemoryLog()
        result = drain_spools(tmp_path, log, timeout_s=10)
        assert (result.sent, result.left, result.owned, result.orphaned) == (0, 3, 1, 0)
        assert ids_on(log) == []
        away.is_away = False


def test_of_many_at_once_only_one_takes_a_spool(tmp_path: Path) -> None:
    abandoned(tmp_path, 1)
    (path,) = emitter_directories(tmp_path)
    barrier = threading.Barrier(8)
    taken: list[SpoolDirectory] = []

    def take() -> None:
        barrier.wait(10)
        directory = SpoolDirectory.take(path)
        if directory is not None:
            taken.append(directory)

    threads = [threading.Thread(target=take) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    (only,) = taken
    only.release()


def test_a_spool_deleted_between_opening_and_locking_is_not_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    abandoned(tmp_path, 1)
    (path,) = emitter_directories(tmp_path)
    winner = SpoolDirectory.take(path)
    assert winner is not None
    lock_now = SpoolDirectory._lock_now

    def lose_the_race(directory: SpoolDirectory) -> None:
        winner.remove()
        lock_now(directory)

    monkeypatch.setattr(SpoolDirectory, "_lock_now", lose_the_race)
    assert SpoolDirectory.take(path) is None
    assert not path.exists()


def test_an_unfinished_directory_is_swept_away(tmp_path: Path) -> None:
    (tmp_path / ".new-em-1").mkdir()
    (tmp_path / ".new-em-2").mkdir()
    (tmp_path / ".new-em-2" / "lock").touch()
    drain_spools(tmp_path, MemoryLog(), timeout_s=1)
    assert list(tmp_path.iterdir()) == []


def test_a_spooled_event_is_found_until_it_is_sent(tmp_path: Path) -> None:
    log = MemoryLog()
    log.is_away = True
    with Emitter(
        log.open, tmp_path, settings=SMALL, clock=lambda: 1_793_880_000_000_007
    ) as emitter:
        ids = [emitter.emit(usage(n, organization=f"org-{n % 2}")) for n in range(20)]
        found = find_spooled(tmp_path, "org-1", ids[13])
        assert found is not None
        assert (found.usage.event_id, found.usage.input_tokens) == (ids[13], 13)
        assert found.spooled_at == 1_793_880_000_000_007
        assert found.segment > 1
        assert find_spooled(tmp_path, "org-0", ids[13]) is None
        assert find_spooled(tmp_path, "org-1", "e-unknown") is None
        log.is_away = False
        assert emitter.flush(10)
        eventually(lambda: find_spooled(tmp_path, "org-1", ids[13]) is None)
    assert find_spooled(tmp_path, "org-1", ids[13]) is None
