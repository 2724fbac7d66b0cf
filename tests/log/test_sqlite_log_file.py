"""What only the embedded log does: its file, its WAL, its fairness and its clock."""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest
from log.making import numbered, poll_until, read_all

from tollkeeper.log import sqlite_file
from tollkeeper.log.port import Log, LogConsumer, Outgoing
from tollkeeper.log.sqlite import SqliteLog
from tollkeeper.log.sqlite_file import CHECKPOINT_EVERY_BYTES, LogFile


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "log.db"


@pytest.fixture
def log(path: Path) -> Iterator[SqliteLog]:
    with closing(SqliteLog(path, partitions=3, session_timeout_s=30.0)) as log:
        yield log


def wal_bytes(path: Path) -> int:
    return os.stat(f"{path}-wal").st_size


def test_the_embedded_log_is_a_log_to_the_type_checker_and_at_run_time(log: SqliteLog) -> None:
    as_port: Log = log
    with closing(as_port.consumer("fold")) as consumer:
        as_consumer: LogConsumer = consumer
        assert as_consumer.assignment_epoch == 0


def test_every_handle_that_creates_the_file_at_once_gets_the_same_log(tmp_path: Path) -> None:
    for attempt in range(20):
        logs = [SqliteLog(tmp_path / f"{attempt}.db") for _ in range(6)]
        with ThreadPoolExecutor(len(logs)) as threads:
            offsets = list(threads.map(lambda log: log.append(numbered(0, 1)), logs))
            identities = set(threads.map(lambda log: log.identity, logs))
        for log in logs:
            log.close()
        assert sorted(offsets) == [[n] for n in range(6)]
        assert len(identities) == 1


def test_opening_waits_for_another_process_that_is_creating_the_file(path: Path) -> None:
    with (
        closing(sqlite3.connect(path, isolation_level=None, check_same_thread=False)) as creator,
        closing(SqliteLog(path)) as log,
    ):
        creator.execute("BEGIN IMMEDIATE")
        timer = threading.Timer(0.2, lambda: creator.execute("ROLLBACK"))
        timer.start()
        assert log.append(numbered(0, 1)) == [0]
        timer.join()


def test_appended_at_comes_from_the_clock_once_per_append(path: Path) -> None:
    times = iter([1_700_000_000_000_001, 1_700_000_000_000_002])
    with closing(SqliteLog(path, partitions=1, clock=lambda: next(times))) as log:
        log.append(numbered(0, 2))
        log.append(numbered(0, 1))
        assert [record.appended_at - 1_700_000_000_000_000 for record in read_all(log, 0)] == [
            1,
            1,
            2,
        ]


def test_every_poll_takes_the_same_share_of_every_partition(log: SqliteLog) -> None:
    log.append([record for p in range(3) for record in numbered(p, 30)])
    with closing(log.consumer("fold")) as consumer:
        consumer.poll(max_records=1, timeout_s=0.0)
        for partition in range(3):
            consumer.seek(partition, 0)
        for _ in range(9):
            records = consumer.poll(max_records=9, timeout_s=0.0)
            counts = [sum(r.partition == p for r in records) for p in range(3)]
            assert counts == [3, 3, 3]


def test_with_fewer_records_than_partitions_every_partition_has_its_turn(log: SqliteLog) -> None:
    log.append([record for p in range(3) for record in numbered(p, 10)])
    with closing(log.consumer("fold")) as consumer:
        consumer.poll(max_records=1, timeout_s=0.0)
        for partition in range(3):
            consumer.seek(partition, 0)
        turns = [consumer.poll(max_records=1, timeout_s=0.0)[0].partition for _ in range(9)]
        assert sorted(turns[:3]) == [0, 1, 2]
        assert turns == turns[:3] * 3


def test_what_empty_partitions_leave_of_a_poll_goes_to_the_full_ones(log: SqliteLog) -> None:
    log.append(numbered(1, 30))
    with closing(log.consumer("fold")) as consumer:
        consumer.poll(max_records=1, timeout_s=0.0)
        for partition in range(3):
            consumer.seek(partition, 0)
        for _ in range(3):
            assert len(consumer.poll(max_records=9, timeout_s=0.0)) == 9


def test_a_file_that_was_replaced_is_never_appended_to(path: Path, log: SqliteLog) -> None:
    log.append(numbered(0, 3))
    identity = log.identity
    for file in path.parent.glob("log.db*"):
        file.unlink()
    assert log.append(numbered(0, 1)) == [0]
    assert log.identity != identity
    with closing(SqliteLog(path, partitions=3)) as other:
        assert len(read_all(other, 0)) == 1


def test_the_wal_stays_bounded_under_one_long_writer(path: Path, log: SqliteLog) -> None:
    for _ in range(24):
        log.append([Outgoing(n % 3, None, bytes(1000)) for n in range(1000)])
        assert wal_bytes(path) <= 2 * CHECKPOINT_EVERY_BYTES


def test_the_wal_stays_bounded_under_many_short_writers(path: Path, log: SqliteLog) -> None:
    log.end_offsets()  # a user that stays, so that no writer's close copies the WAL back
    for _ in range(40):
        with closing(SqliteLog(path, partitions=3)) as short:
            short.append([Outgoing(0, None, bytes(1000)) for _ in range(500)])
        assert wal_bytes(path) <= 2 * CHECKPOINT_EVERY_BYTES
    assert log.end_offsets()[0] == 40 * 500


def test_no_checkpoint_runs_beside_a_writer(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite_file, "CHECKPOINT_EVERY_BYTES", 1 << 60)
    monkeypatch.setattr(sqlite_file, "WAIT_FOR_CHECKPOINT_S", 0.05)
    with closing(SqliteLog(path, partitions=3)) as log:
        log.append([Outgoing(0, None, bytes(1000)) for _ in range(2000)])
        before = path.stat().st_size
        file = LogFile(path, 3)
        with closing(sqlite3.connect(path, isolation_level=None)) as writer:
            writer.execute("BEGIN IMMEDIATE")
            file._checkpoint()
            assert path.stat().st_size == before
            writer.execute("ROLLBACK")
            file._checkpoint()
            assert path.stat().st_size > before
        assert file.read(lambda c: c.execute("PRAGMA wal_autocheckpoint").fetchone()) == (0,)
        file.close()


@pytest.mark.parametrize(("durable", "level"), [(True, 2), (False, 1)])
def test_records_are_fsynced_and_heartbeats_are_not(path: Path, durable: bool, level: int) -> None:
    with closing(LogFile(path, 3, durable=durable)) as file:
        assert file.read(lambda c: c.execute("PRAGMA synchronous").fetchone()) == (level,)
        assert file.read(lambda c: c.execute("PRAGMA journal_mode").fetchone()) == ("wal",)


def test_a_member_from_before_the_machines_last_start_is_expelled_at_once(
    path: Path, log: SqliteLog
) -> None:
    log.append(numbered(0, 1))
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("INSERT INTO consumer_group VALUES ('fold', 5, 5)")
        other.execute(
            "INSERT INTO group_member VALUES ('fold', 'ghost', 5, ?, 30000000)", (1 << 62,)
        )
    with closing(log.consumer("fold")) as consumer:
        consumer.poll(max_records=1, timeout_s=0.0)
        assert consumer.assignment == {0, 1, 2}
        consumer.seek(0, 0)
        assert len(poll_until(consumer, 1)) == 1


def test_a_consumer_on_a_log_that_was_replaced_gives_up_its_positions(
    path: Path, log: SqliteLog
) -> None:
    log.append(numbered(0, 3))
    with closing(log.consumer("fold")) as consumer:
        consumer.poll(max_records=1, timeout_s=0.0)
        consumer.seek(0, 3)
        epoch = consumer.assignment_epoch
        for file in path.parent.glob("log.db*"):
            file.unlink()
        log.append(numbered(0, 1))
        assert consumer.poll(max_records=10, timeout_s=0.1) == []
        assert consumer.assignment_epoch > epoch
