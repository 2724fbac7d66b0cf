"""What `Emitter` promises its callers while nothing dies."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, cast

import pytest
from metering.fake_log import MemoryLog, assert_no_gaps, ids_on, usage, usages_on
from metering.spools import segments
from support.waiting import eventually

from tollkeeper.errors import InvalidInput, LogUnavailable, Misuse
from tollkeeper.log.partitioner import partition_for
from tollkeeper.log.sqlite import SqliteLog
from tollkeeper.metering import emitter as emitters
from tollkeeper.metering.emitter import Emitter, EmitterSettings, InvalidUsage
from tollkeeper.metering.engine import Engine
from tollkeeper.metering.spool import emitter_directories
from tollkeeper.metering.usage import Usage

QUICK = EmitterSettings(first_backoff_s=0.005, max_backoff_s=0.02, full_timeout_s=0.2)


def test_emitted_usage_reaches_the_log_and_leaves_nothing_behind(tmp_path: Path) -> None:
    log = SqliteLog(tmp_path / "log.db")
    with Emitter(lambda: SqliteLog(tmp_path / "log.db"), tmp_path / "spool") as emitter:
        ids = [emitter.emit(usage(n, organization=f"org-{n % 3}")) for n in range(20)]
        ids += emitter.emit_many(usage(n) for n in range(30))
        assert emitter.flush(10)
        stats = emitter.stats()
    assert sorted(ids_on(log)) == sorted(ids)
    assert_no_gaps(usages_on(log))
    assert (stats.acknowledged, stats.spooled_records, stats.oldest_unsent_age_s) == (50, 0, None)
    assert list((tmp_path / "spool").iterdir()) == []
    log.close()


def test_the_event_is_the_usage_with_emitter_and_sequence(tmp_path: Path) -> None:
    log = MemoryLog()
    reported = usage(
        7,
        event_id="e-7",
        output_tokens=8,
        cache_read_tokens=9,
        cache_write_5m_tokens=10,
        cache_write_1h_tokens=11,
        web_search_requests=12,
        service_tier="batch",
        speed="fast",
        region="us",
        usage_source="estimated",
        request_id="msg_1",
        hold_id="h-1",
    )
    with Emitter(log.open, tmp_path) as emitter:
        assert emitter.emit(reported) == "e-7"
        assert emitter.flush(10)
    (event,) = usages_on(log)
    for name in reported.__struct_fields__:
        assert getattr(event, name) == getattr(reported, name), name
    assert event.sequence == 1
    assert event.emitter.startswith("em-")


def test_without_id_and_time_the_emitter_gives_them(tmp_path: Path) -> None:
    log = MemoryLog()
    now = 1_793_880_000_123_456
    with Emitter(log.open, tmp_path, clock=lambda: now) as emitter:
        first, second = emitter.emit_many([usage(1, occurred_at=None), usage(2, occurred_at=None)])
        emitter.flush(10)
    assert first < second
    assert [event.occurred_at for event in usages_on(log)] == [now, now]


def test_an_aware_datetime_is_taken_and_a_naive_one_refused(tmp_path: Path) -> None:
    log = MemoryLog()
    noon = datetime(2026, 11, 5, 12, tzinfo=UTC)
    with Emitter(log.open, tmp_path) as emitter:
        emitter.emit(usage(1, occurred_at=noon))
        with pytest.raises(InvalidUsage) as refused:
            emitter.emit(usage(1, occurred_at=noon.replace(tzinfo=None)))
        emitter.flush(10)
    assert refused.value.field == "occurred_at"
    assert [event.occurred_at for event in usages_on(log)] == [1_793_880_000_000_000]


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"input_tokens": -1}, "input_tokens"),
        ({"output_tokens": 1.5}, "output_tokens"),
        ({"surface": "fridge"}, "surface"),
        ({"organization": ""}, "organization"),
        ({"organization": ["acme"]}, "organization"),
        ({"organization": "\ud800"}, "organization"),
        ({"member": "ann@example.org"}, "member"),
        ({"event_id": ""}, "event_id"),
        ({"occurred_at": "noon"}, "occurred_at"),
    ],
)
def test_an_invalid_usage_is_named_and_nothing_of_its_call_is_accepted(
    tmp_path: Path, fields: dict[str, Any], field: str
) -> None:
    log = MemoryLog()
    with Emitter(log.open, tmp_path) as emitter:
        emitter.emit(usage(1))
        with pytest.raises(InvalidUsage) as refused:
            emitter.emit_many([usage(2), usage(3), usage(4, **fields)])
        emitter.emit(usage(5))
        emitter.flush(10)
    assert (refused.value.field, refused.value.index) == (field, 2)
    assert [(e.input_tokens, e.sequence) for e in usages_on(log)] == [(1, 1), (5, 2)]


def test_an_event_id_of_ones_own_needs_its_time(tmp_path: Path) -> None:
    """Else each retry would say another time, and be another content under the same id."""
    with Emitter(MemoryLog().open, tmp_path) as emitter, pytest.raises(InvalidUsage) as refused:
        emitter.emit(usage(1, event_id="mine", occurred_at=None))
    assert refused.value.field == "occurred_at"
    assert "retry" in refused.value.rule


def test_what_is_no_usage_is_refused(tmp_path: Path) -> None:
    with Emitter(MemoryLog().open, tmp_path) as emitter, pytest.raises(InvalidUsage) as refused:
        emitter.emit(cast("Usage", {"organization": "acme"}))
    assert refused.value.field == "usage"


def test_an_invalid_usage_of_one_caller_does_not_touch_the_others_in_its_group(
    tmp_path: Path,
) -> None:
    log = MemoryLog()
    gate = threading.Event()

    def sync(_descriptor: int) -> None:
        gate.wait(10)

    emitter = Emitter(log.open, tmp_path, sync=sync)
    outcomes: list[str] = []

    def emit(numbers: list[int]) -> None:
        try:
            outcomes.extend(emitter.emit_many(usage(number) for number in numbers))
        except InvalidUsage:
            outcomes.append("invalid")

    # One call a turn, so that the invalid one is in the group before a valid one.
    calls = [[0], [1], [9, -1], [2]]
    threads = [threading.Thread(target=emit, args=(numbers,)) for numbers in calls]
    waiting = 0
    for thread, numbers in zip(threads, calls, strict=True):
        thread.start()
        waiting += len(numbers)
        eventually(partial(_are_waiting, emitter, waiting))
        eventually(lambda: segments(tmp_path), what="the first group is being written")
    gate.set()
    for thread in threads:
        thread.join(10)
    assert emitter.close(10)
    assert outcomes.count("invalid") == 1
    assert sorted(e.input_tokens for e in usages_on(log)) == [0, 1, 2]
    assert_no_gaps(usages_on(log))


def test_emit_returns_only_after_the_sync(tmp_path: Path) -> None:
    gate, returned = threading.Event(), threading.Event()
    emitter = Emitter(MemoryLog().open, tmp_path, sync=lambda _d: _wait(gate))

    def emit() -> None:
        emitter.emit(usage())
        returned.set()

    thread = threading.Thread(target=emit)
    thread.start()
    eventually(lambda: any(p.stat().st_size for p in segments(tmp_path)))
    assert not returned.wait(0.05)
    gate.set()
    thread.join(10)
    assert returned.is_set()
    emitter.close()


def test_concurrent_callers_share_syncs(tmp_path: Path) -> None:
    gate, syncs = threading.Event(), []

    def sync(_descriptor: int) -> None:
        syncs.append(1)
        _wait(gate)

    emitter = Emitter(MemoryLog().open, tmp_path, sync=sync)
    threads = [threading.Thread(target=emitter.emit, args=(usage(n),)) for n in range(20)]
    for thread in threads:
        thread.start()
    eventually(lambda: emitter.stats().waiting_records == 20)
    gate.set()
    for thread in threads:
        thread.join(10)
    assert len(syncs) <= 3
    assert emitter.close(10)


def test_an_event_id_may_be_emitted_twice(tmp_path: Path) -> None:
    log = MemoryLog()
    with Emitter(log.open, tmp_path) as emitter:
        emitter.emit_many([usage(1, event_id="e"), usage(1, event_id="e")])
        emitter.flush(10)
    assert ids_on(log) == ["e", "e"]


def test_order_within_an_organization_is_kept_and_partitions_are_kafkas(tmp_path: Path) -> None:
    log = MemoryLog(partition_count=5)
    settings = EmitterSettings(segment_bytes=2_000, batch_records=7)
    with Emitter(log.open, tmp_path, settings=settings) as emitter:
        for n in range(200):
            emitter.emit_many([usage(n, organization=f"org-{m}") for m in range(3)])
        assert emitter.flush(10)
    for organization in ("org-0", "org-1", "org-2"):
        partition = partition_for(organization, 5)
        mine = [event for event in usages_on(log) if event.organization == organization]
        assert [event.input_tokens for event in mine] == list(range(200))
        assert [event.sequence for event in mine] == list(range(1, 201))
        keys = {record.key for record in log.read(partition, 0, max_records=10_000)}
        assert organization.encode() in keys


def test_sent_segments_are_deleted(tmp_path: Path) -> None:
    settings = EmitterSettings(segment_bytes=1_000)
    with Emitter(MemoryLog().open, tmp_path, settings=settings) as emitter:
        for n in range(50):
            emitter.emit(usage(n))
        assert emitter.flush(10)
        eventually(lambda: len(segments(tmp_path)) == 1)
        assert emitter.stats().spooled_bytes < 1_000


def test_while_the_log_is_away_usage_is_accepted_and_sent_once_it_is_back(tmp_path: Path) -> None:
    log = MemoryLog()
    log.is_away = True
    with Emitter(log.open, tmp_path, settings=QUICK, clock=_ticking()) as emitter:
        ids = [emitter.emit(usage(n)) for n in range(10)]
        eventually(lambda: log.attempts >= 3)
        stats = emitter.stats()
        assert (stats.spooled_records, stats.acknowledged) == (10, 0)
        assert stats.send_failures >= 2
        assert stats.oldest_unsent_age_s is not None and stats.oldest_unsent_age_s > 0
        assert not emitter.flush(0.01)
        log.is_away = False
        assert emitter.flush(10)
    assert ids_on(log) == ids


def test_an_unexpected_error_of_the_log_is_survived_with_a_new_log(tmp_path: Path) -> None:
    log = MemoryLog()
    log.fail_times, log.fail_with = 2, ZeroDivisionError("a bug in a client library")
    with Emitter(log.open, tmp_path, settings=QUICK) as emitter:
        emitter.emit(usage())
        assert emitter.flush(10)
    assert log.opened == 3
    assert log.closed == 3


def test_a_log_that_cannot_be_opened_is_tried_again(tmp_path: Path) -> None:
    log, refusals = MemoryLog(), iter([True, True, False])

    def open_log() -> MemoryLog:
        if next(refusals):
            raise LogUnavailable("no broker")
        return log

    with Emitter(open_log, tmp_path, settings=QUICK) as emitter:
        ids = [emitter.emit(usage())]
        assert emitter.flush(10)
    assert ids_on(log) == ids


def test_what_close_could_not_send_the_next_emitter_sends(tmp_path: Path) -> None:
    away, back = MemoryLog(), MemoryLog()
    away.is_away = True
    first = Emitter(away.open, tmp_path, settings=QUICK)
    ids = first.emit_many(usage(n) for n in range(5))
    assert not first.close(0.05)
    eventually(lambda: away.closed == 1)
    with Emitter(back.open, tmp_path) as second:
        second.start()
        eventually(lambda: len(ids_on(back)) == 5)
        assert second.stats().taken_over == 1
    assert ids_on(back) == ids
    assert list(emitter_directories(tmp_path)) == []


def test_a_living_emitters_spool_is_never_taken_over(tmp_path: Path) -> None:
    away, back = MemoryLog(), MemoryLog()
    away.is_away = True
    settings = EmitterSettings(takeover_interval_s=0.01, first_backoff_s=0.01)
    with Emitter(back.open, tmp_path, settings=settings) as second:
        first = Emitter(away.open, tmp_path, settings=settings)
        first.emit(usage())
        second.emit(usage(2))
        assert second.flush(10)
        looked = away.attempts
        eventually(lambda: away.attempts > looked + 5)  # many looks around later
        assert second.stats().taken_over == 0
        assert [event.input_tokens for event in usages_on(back)] == [2]
        first.close(0.01)
        eventually(lambda: len(ids_on(back)) == 2)


def test_a_closed_emitter_refuses(tmp_path: Path) -> None:
    emitter = Emitter(MemoryLog().open, tmp_path)
    emitter.emit(usage())
    assert emitter.close()
    assert emitter.close()
    with pytest.raises(Misuse):
        emitter.emit(usage())


def test_the_end_of_the_process_waits_no_longer_than_is_set(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    waited: list[float] = []
    emitter = Emitter(MemoryLog().open, tmp_path, settings=EmitterSettings(exit_timeout_s=0.7))
    emitter.emit(usage())
    with monkeypatch.context() as patched:
        patched.setattr(emitters, "_running", {emitter.start()})
        patched.setattr(Engine, "close", lambda _engine, timeout_s: waited.append(timeout_s))
        emitters._close_all_at_exit()
    assert waited == [0.7]
    assert emitter.close()


def test_an_emitter_that_never_emitted_starts_nothing(tmp_path: Path) -> None:
    log = MemoryLog()
    with Emitter(log.open, tmp_path / "spool") as emitter:
        assert emitter.flush(0)
        assert emitter.emit_many([]) == []
        assert emitter.stats().acknowledged == 0
    assert log.opened == 0
    assert not (tmp_path / "spool").exists()


def test_more_usages_at_once_than_memory_may_hold_are_refused(tmp_path: Path) -> None:
    settings = EmitterSettings(max_waiting_records=3)
    with Emitter(MemoryLog().open, tmp_path, settings=settings) as emitter:
        assert len(emitter.emit_many([usage()] * 3)) == 3
        with pytest.raises(InvalidInput, match="at most 3"):
            emitter.emit_many([usage()] * 4)


@pytest.mark.parametrize("name", EmitterSettings.__struct_fields__)
def test_every_bound_must_be_positive(name: str) -> None:
    with pytest.raises(Misuse, match=name):
        EmitterSettings(**{name: 0})


def _are_waiting(emitter: Emitter, records: int) -> bool:
    return emitter.stats().waiting_records == records


def _wait(gate: threading.Event) -> None:
    gate.wait(10)


def _ticking() -> Callable[[], int]:
    now = [1_793_880_000_000_000]

    def clock() -> int:
        now[0] += 1_000
        return now[0]

    return clock
