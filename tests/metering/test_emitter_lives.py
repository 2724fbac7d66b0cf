"""The log hears of an emitter that may have holds: of its start, and after all its usage of its end."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest
from metering.fake_log import MemoryLog, ids_on, usage, usages_on
from metering.lives import (
    PARTITIONS,
    QUICK,
    Holds,
    assert_retired_last,
    endings_on,
    held,
    retired_on,
    started_on,
)
from metering.spools import abandoned
from support.waiting import eventually

from tollkeeper import failpoints
from tollkeeper.errors import Misuse, SpoolFailed, SpoolFull
from tollkeeper.metering.drain import drain_spools
from tollkeeper.metering.emitter import Emitter
from tollkeeper.metering.spool import ANNOUNCED, SpoolDirectory, emitter_directories


class FailingSync:
    """A disk that doesn't confirm while `fails`."""

    fails = False

    def __call__(self, descriptor: int) -> None:
        if self.fails:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        os.fdatasync(descriptor)


def left_announced(spool: Path, records: int = 2) -> str:
    """A spool left by an emitter that may have holds, while the log was away; answers its id."""
    log = MemoryLog()
    log.is_away = True
    emitter = Emitter(log.open, spool, settings=QUICK)
    identity = emitter.identity()
    for number in range(records):
        emitter.emit(held(identity, number, f"org-{number}"))
    emitter.close(0.01)
    eventually(lambda: log.closed >= 1)
    return identity


def left_by_two_incarnations(spool: Path) -> tuple[str, str]:
    """A spool left by a process that began anew: usage for the first one's hold lies in the second's."""
    log = MemoryLog()
    log.is_away = True
    emitter = Emitter(log.open, spool, settings=QUICK)
    emitter.ask_before_retiring(lambda _emitter: True)
    first = emitter.identity()
    emitter.emit(held(first, 1))
    assert emitter.begin_anew(first)
    second = emitter.identity()
    emitter.emit(held(first, 2))
    emitter.close(0.01)
    eventually(lambda: log.closed >= 1)
    return first, second


def test_an_emitter_without_holds_is_never_mentioned(tmp_path: Path) -> None:
    log = MemoryLog()
    abandoned(tmp_path, 3)
    with Emitter(log.open, tmp_path, settings=QUICK) as emitter:
        emitter.emit(usage())
        eventually(lambda: emitter.stats().taken_over == 1 and len(ids_on(log)) == 4)
    assert (started_on(log), retired_on(log)) == ({}, {})
    abandoned(tmp_path, 3)
    drain_spools(tmp_path, log, timeout_s=10)
    assert (started_on(log), retired_on(log)) == ({}, {})
    assert list(tmp_path.iterdir()) == []


def test_start_and_end_are_told_to_every_partition(tmp_path: Path) -> None:
    log = MemoryLog()
    with Emitter(log.open, tmp_path) as emitter:
        identity = emitter.identity()
        assert (tmp_path / identity / ANNOUNCED).exists()
        assert emitter.identity() == identity
        eventually(lambda: started_on(log) == {identity: PARTITIONS})
        emitter.emit(held(identity))
        assert retired_on(log) == {}
    assert [event.emitter for event in usages_on(log)] == [identity]
    assert retired_on(log) == {identity: PARTITIONS}
    assert endings_on(log) == {(identity, identity, "closed")}
    assert_retired_last(log)
    assert list(tmp_path.iterdir()) == []


def test_an_emitter_that_emitted_before_keeps_its_id(tmp_path: Path) -> None:
    log = MemoryLog()
    with Emitter(log.open, tmp_path) as emitter:
        emitter.emit(usage())
        identity = emitter.identity()
        emitter.emit(usage(2))
    assert [event.emitter for event in usages_on(log)] == [identity, identity]
    assert started_on(log) == retired_on(log) == {identity: PARTITIONS}


def test_the_start_is_told_as_soon_as_the_log_is_back(tmp_path: Path) -> None:
    log = MemoryLog()
    log.is_away = True
    with Emitter(log.open, tmp_path, settings=QUICK) as emitter:
        identity = emitter.identity()
        accepted = [emitter.emit(held(identity, n, f"org-{n}")) for n in range(50)]
        eventually(lambda: log.attempts >= 5)
        log.is_away = False
        assert emitter.flush(10)
        assert started_on(log) == {identity: PARTITIONS}
        offsets = [
            record.value for p in range(PARTITIONS) for record in log.read(p, 0, max_records=1)
        ]
        assert len(set(offsets)) == 1, "each partition begins with the emitter's start"
    assert sorted(ids_on(log)) == sorted(accepted)


def test_a_closed_emitter_has_no_identity(tmp_path: Path) -> None:
    emitter = Emitter(MemoryLog().open, tmp_path)
    emitter.identity()
    assert emitter.close()
    for ask in (emitter.identity, lambda: emitter.begin_anew("em-1")):
        with pytest.raises(Misuse):
            ask()


@pytest.mark.parametrize("is_drained", [True, False])
def test_a_dead_ones_end_is_told_after_its_usage(tmp_path: Path, is_drained: bool) -> None:
    log, identity = MemoryLog(), left_announced(tmp_path, 9)
    actor = _empty(tmp_path, log, is_drained=is_drained)
    assert len(ids_on(log)) == 9
    assert retired_on(log) == {identity: PARTITIONS}
    assert endings_on(log) == {(identity, actor, "taken_over")}
    assert_retired_last(log)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("is_drained", [True, False])
def test_an_end_waits_for_what_came_after_it_in_the_same_process(
    tmp_path: Path, is_drained: bool
) -> None:
    """Else the first one's hold would be dropped before the usage that settles it is on the log."""
    log = MemoryLog()
    first, second = left_by_two_incarnations(tmp_path)
    assert (tmp_path / second / f"{first}.predecessor").exists()
    _empty(tmp_path, log, is_drained=is_drained)
    assert retired_on(log) == {first: PARTITIONS, second: PARTITIONS}
    assert_retired_last(log)
    assert list(tmp_path.iterdir()) == []


def test_an_end_waits_for_what_another_process_still_sends(tmp_path: Path) -> None:
    _first, second = left_by_two_incarnations(tmp_path)
    other = SpoolDirectory.take(tmp_path / second)
    assert other is not None
    log = MemoryLog()
    with Emitter(log.open, tmp_path, settings=QUICK) as emitter:
        emitter.start()
        eventually(lambda: len(ids_on(log)) == 1)
        assert drain_spools(tmp_path, log, timeout_s=10).owned >= 1
        assert retired_on(log) == {}
        other.release()
        eventually(lambda: len(retired_on(log)) == 2)
        assert emitter.stats().taken_over <= 2
    assert_retired_last(log)


def test_more_ends_that_wait_than_are_held_at_once(tmp_path: Path) -> None:
    """They are given back, so that the one they wait for can be taken."""
    log, emitters = MemoryLog(), list[str]()
    log.is_away = True
    leaving = Emitter(log.open, tmp_path, settings=QUICK)
    for number in range(7):
        emitters.append(leaving.identity())
        leaving.emit(held(emitters[0], number))
        assert leaving.begin_anew(emitters[-1])
    leaving.close(0.01)
    eventually(lambda: log.closed >= 1)
    log.is_away = False
    with Emitter(log.open, tmp_path, settings=QUICK) as emitter:
        emitter.start()
        eventually(lambda: sorted(retired_on(log)) == sorted(emitters))
        assert emitter.stats().taken_over == 7
    assert_retired_last(log)
    assert list(tmp_path.iterdir()) == []


def test_a_replaced_emitter_stays_until_its_holds_are_settled_on_the_log(tmp_path: Path) -> None:
    log, sync, holds = MemoryLog(), FailingSync(), Holds()
    with Emitter(log.open, tmp_path, settings=QUICK, sync=sync) as emitter:
        emitter.ask_before_retiring(holds)
        first = emitter.identity()
        emitter.emit(held(first, 1))
        holds.in_use.add(first)
        sync.fails = True
        with pytest.raises(SpoolFailed):
            emitter.emit(held(first, 2))
        sync.fails = False
        second = emitter.identity()
        assert second != first
        eventually(lambda: emitter.stats().leaving == 1 and holds.asked)
        assert (tmp_path / first / ANNOUNCED).exists()
        log.is_away = True
        emitter.emit(held(first, 3))
        holds.in_use.clear()
        attempts = log.attempts
        eventually(lambda: log.attempts > attempts + 2)
        assert retired_on(log) == {}
        log.is_away = False
        eventually(lambda: retired_on(log) == {first: PARTITIONS})
        assert emitter.flush(10)
    assert_retired_last(log)
    assert retired_on(log) == {first: PARTITIONS, second: PARTITIONS}
    assert list(tmp_path.iterdir()) == []


def test_an_end_waits_for_usage_spooled_before_the_last_hold_was_let_go(tmp_path: Path) -> None:
    """The sender is at the old one's end while the new one's usage can't be sent yet."""
    log, holds = MemoryLog(), Holds()
    with Emitter(log.open, tmp_path, settings=QUICK) as emitter:
        emitter.ask_before_retiring(holds)
        first = emitter.identity()
        eventually(lambda: len(started_on(log)) == 1)
        log.is_away = True
        assert emitter.begin_anew(first)
        for number in range(30):
            emitter.emit(held(first, number, f"org-{number}"))
        log.is_away = False
        eventually(lambda: len(retired_on(log)) == 1)
    assert_retired_last(log)


def test_begin_anew_is_for_the_current_one_only(tmp_path: Path) -> None:
    log = MemoryLog()
    with Emitter(log.open, tmp_path, settings=QUICK) as emitter:
        first = emitter.identity()
        assert not emitter.begin_anew("em-another")
        assert emitter.identity() == first
        assert emitter.begin_anew(first)
        assert not emitter.begin_anew(first)
        second = emitter.identity()
        assert second > first
        eventually(lambda: retired_on(log) == {first: PARTITIONS})
    assert retired_on(log) == {first: PARTITIONS, second: PARTITIONS}


def test_who_cannot_say_whether_a_hold_is_open_delays_only_the_end(tmp_path: Path) -> None:
    log, is_broken = MemoryLog(), True

    def is_in_use(_emitter: str) -> bool:
        if is_broken:
            raise ZeroDivisionError("a bug of the one who has the holds")
        return False

    with Emitter(log.open, tmp_path, settings=QUICK) as emitter:
        emitter.ask_before_retiring(is_in_use)
        first = emitter.identity()
        assert emitter.begin_anew(first)
        emitter.emit(usage())
        assert emitter.flush(10)
        assert (retired_on(log), log.opened) == ({}, 1)
        is_broken = False
        eventually(lambda: retired_on(log) == {first: PARTITIONS})


def test_a_spool_that_cannot_be_deleted_is_not_retired_again_and_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def read_only(directory: SpoolDirectory) -> int:
        tried.append(directory.emitter)
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    log, tried, identity = MemoryLog(), list[str](), left_announced(tmp_path)
    with monkeypatch.context() as patched:
        patched.setattr(SpoolDirectory, "empty", read_only)
        with Emitter(log.open, tmp_path, settings=QUICK) as emitter:
            emitter.start()
            eventually(lambda: len(tried) > 3)
        assert retired_on(log) == {}
    drain_spools(tmp_path, log, timeout_s=10)
    assert retired_on(log) == {identity: PARTITIONS}


def test_each_replaced_one_names_only_the_one_before_it(tmp_path: Path) -> None:
    """However often the disk fails while a hold is open, a spool has one file for it."""
    log, holds = MemoryLog(), Holds()
    with Emitter(log.open, tmp_path, settings=QUICK) as emitter:
        emitter.ask_before_retiring(holds)
        emitters = [emitter.identity()]
        holds.in_use.add(emitters[0])
        for _time in range(4):
            emitter.begin_anew(emitters[-1])
            emitters.append(emitter.identity())
        names = [
            path.name.removesuffix(".predecessor") for path in tmp_path.glob("*/*.predecessor")
        ]
        assert sorted(names) == emitters[:-1]
        eventually(lambda: emitter.stats().leaving == 4)
        assert retired_on(log) == {}
        holds.in_use.clear()
        eventually(lambda: sorted(retired_on(log)) == emitters[:-1])


@pytest.mark.parametrize("place", ["spool.before_rename", "spool.after_announced"])
def test_an_emitter_that_cannot_be_announced_refuses_and_tries_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    log = MemoryLog()
    with Emitter(log.open, tmp_path, settings=QUICK) as emitter:
        monkeypatch.setitem(failpoints._armed, place, ("enospc", 1))
        with pytest.raises(SpoolFull):
            emitter.identity()
        monkeypatch.delitem(failpoints._armed, place)
        assert started_on(log) == {}
        identity = emitter.identity()
    assert started_on(log) == retired_on(log) == {identity: PARTITIONS}
    assert list(tmp_path.iterdir()) == []


def _empty(spool: Path, log: MemoryLog, *, is_drained: bool) -> str:
    """Send all that is left in the spool; answers who did."""
    if is_drained:
        drain_spools(spool, log, timeout_s=10, settings=QUICK)
        return "drain"
    with Emitter(log.open, spool, settings=QUICK) as emitter:
        emitter.start()
        eventually(lambda: not list(emitter_directories(spool)))
    return "sender"
