"""The embedded log and fork: SQLite's table of locks must never be copied into another process."""

from __future__ import annotations

import ctypes
import os
import threading
from contextlib import closing
from functools import partial
from pathlib import Path

import pytest
from log.making import numbered, poll_until, read_all
from support.forking import ended_well, in_fork
from support.waiting import eventually

from tollkeeper.errors import Misuse
from tollkeeper.log.sqlite import SqliteLog


def test_a_child_appends_to_a_log_that_its_parent_used_and_closes_midway(tmp_path: Path) -> None:
    log = SqliteLog(tmp_path / "log.db")
    log.append(numbered(0, 1))
    child_says, tells_parent = os.pipe()
    parent_says, tells_child = os.pipe()

    def child() -> None:
        log.append(numbered(0, 1, first=1))
        os.write(tells_parent, b".")
        os.read(parent_says, 1)
        log.append(numbered(0, 1, first=2))
        log.close()

    pid = in_fork(child)
    os.read(child_says, 1)
    # With inherited locks this close takes the parent for the last user and deletes the WAL, into
    # which the child goes on writing.
    log.close()
    os.write(tells_child, b".")
    assert ended_well(pid)
    for end in (child_says, tells_parent, parent_says, tells_child):
        os.close(end)
    with closing(SqliteLog(tmp_path / "log.db")) as after:
        assert [record.value for record in read_all(after, 0)] == [b"0", b"1", b"2"]


def test_forks_in_the_middle_of_another_threads_appends_lose_and_block_nothing(
    tmp_path: Path,
) -> None:
    log = SqliteLog(tmp_path / "log.db")
    stop = threading.Event()
    appended = 0

    def append() -> None:
        nonlocal appended
        while not stop.is_set():
            log.append(numbered(0, 3))
            appended += 3

    def child() -> None:
        log.append(numbered(0, 2))

    def goes_on(before: int) -> bool:
        return appended > before

    thread = threading.Thread(target=append)
    thread.start()
    for _ in range(5):
        before = appended
        assert ended_well(in_fork(child))
        eventually(partial(goes_on, before), what="another append")
    stop.set()
    thread.join(timeout=30.0)
    offsets = [record.offset for record in read_all(log, 0)]
    assert offsets == list(range(appended + 5 * 2))
    log.close()


def test_a_consumer_stays_with_the_process_that_made_it(tmp_path: Path) -> None:
    log = SqliteLog(tmp_path / "log.db", partitions=1)
    log.append(numbered(0, 2))
    consumer = log.consumer("fold")
    consumer.poll(max_records=1, timeout_s=0.0)
    consumer.seek(0, 0)

    def child() -> None:
        with pytest.raises(Misuse, match="doesn't survive a fork"):
            consumer.poll(max_records=1, timeout_s=0.0)
        consumer.close()

    assert ended_well(in_fork(child))
    assert len(poll_until(consumer, 2)) == 2
    assert consumer.assignment == {0}
    consumer.close()
    log.close()


def test_a_fork_that_python_does_not_see_is_refused_instead_of_losing_appends(
    tmp_path: Path,
) -> None:
    log = SqliteLog(tmp_path / "log.db")
    log.append(numbered(0, 1))

    def child() -> None:
        with pytest.raises(Misuse, match="open it after the fork"):
            log.append(numbered(0, 1))

    # As a server written in C does it before its workers start.
    assert ended_well(in_fork(child, fork=ctypes.PyDLL(None).fork))
    assert log.append(numbered(0, 1)) == [1]
    log.close()
