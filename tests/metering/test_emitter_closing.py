"""Closing tells the end of all emitters, and gives up nothing that may still be accepted."""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from metering.fake_log import MemoryLog, ids_on
from metering.lives import PARTITIONS, QUICK, Holds, assert_retired_last, held, retired_on
from support.waiting import eventually

from tollkeeper.metering.drain import drain_spools
from tollkeeper.metering.emitter import Emitter, EmitterSettings
from tollkeeper.metering.segments import SegmentWriter
from tollkeeper.metering.spool import ANNOUNCED, SpoolDirectory, emitter_directories

SLOW_DISK = EmitterSettings(takeover_interval_s=0.02, first_backoff_s=0.005)


def test_close_ends_an_emitter_although_a_hold_is_open(tmp_path: Path) -> None:
    """Nothing can be reported after it: its holds would only be kept from others."""
    log = MemoryLog()
    emitter = Emitter(log.open, tmp_path, settings=QUICK)
    first = emitter.identity()
    emitter.ask_before_retiring(Holds(first))
    emitter.begin_anew(first)
    second = emitter.identity()
    accepted = [emitter.emit(held(first, n, f"org-{n}")) for n in range(20)]
    eventually(lambda: emitter.stats().leaving == 1)
    assert retired_on(log) == {}
    assert emitter.close(10)
    assert (sorted(ids_on(log)), set(retired_on(log))) == (sorted(accepted), {first, second})
    assert_retired_last(log)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("hangs_in", ["create", "append"])
def test_close_gives_up_nothing_that_is_still_being_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, hangs_in: str
) -> None:
    """The disk hangs for longer than close waits. What it confirms then is accepted, and not lost."""
    log, gate, hangs = MemoryLog(), threading.Event(), threading.Event()
    emitter = Emitter(log.open, tmp_path, settings=SLOW_DISK)
    first = emitter.identity()
    emitter.ask_before_retiring(Holds(first))
    emitter.begin_anew(first)
    eventually(lambda: emitter.stats().leaving == 1)
    place = SpoolDirectory if hangs_in == "create" else SegmentWriter
    monkeypatch.setattr(place, hangs_in, _hanging(getattr(place, hangs_in), gate, hangs))
    accepted: list[str] = []
    threads = [
        threading.Thread(target=lambda n=n: accepted.append(emitter.emit(held(first, n))))
        for n in range(2)
    ]
    for count, thread in enumerate(threads, start=1):
        thread.start()
        eventually(partial(_are_waiting, emitter, count))
        eventually(hangs.is_set)
    assert not emitter.close(0.05)
    eventually(lambda: log.closed == 1)
    assert drain_spools(tmp_path, log, timeout_s=10).owned >= 1
    assert retired_on(log) == {}
    gate.set()
    for thread in threads:
        thread.join(10)
    eventually(lambda: drain_spools(tmp_path, log, timeout_s=10).owned == 0)
    assert sorted(ids_on(log)) == sorted(accepted)
    assert (len(accepted), set(retired_on(log))) == (2, {first})
    assert_retired_last(log)


def _hanging(
    work: Callable[..., object], gate: threading.Event, hangs: threading.Event
) -> Callable[..., object]:
    def hang(*arguments: object) -> object:
        hangs.set()
        gate.wait(10)
        return work(*arguments)

    return hang


def _are_waiting(emitter: Emitter, records: int) -> bool:
    return emitter.stats().waiting_records == records


def test_close_with_the_log_away_keeps_the_mark_for_the_next_process(tmp_path: Path) -> None:
    log = MemoryLog()
    log.is_away = True
    emitter = Emitter(log.open, tmp_path, settings=QUICK)
    identity = emitter.identity()
    assert not emitter.close(0.05)
    eventually(lambda: log.closed >= 1)
    (path,) = emitter_directories(tmp_path)
    assert (path.name, (path / ANNOUNCED).exists()) == (identity, True)
    log.is_away = False
    drain_spools(tmp_path, log, timeout_s=10)
    assert retired_on(log) == {identity: PARTITIONS}
