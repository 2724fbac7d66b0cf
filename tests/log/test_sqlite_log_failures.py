"""The embedded log when something refuses: LogUnavailable says what, and nothing is half-written."""

from __future__ import annotations

import os
import resource
import shutil
import signal
import sqlite3
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from log.children import Child
from log.making import LogMaker, numbered, read_all
from support.waiting import eventually

from tollkeeper import failpoints
from tollkeeper.errors import InvalidInput, LogUnavailable, Misuse
from tollkeeper.log.port import Outgoing
from tollkeeper.log.sqlite import SqliteLog

NOBODY = 65534
A_PAGE = bytes(4000)


@contextmanager
def opened(path: Path, *, partitions: int = 2) -> Iterator[SqliteLog]:
    with closing(SqliteLog(path, partitions=partitions)) as log:
        yield log


@contextmanager
def unprivileged() -> Iterator[None]:
    """Root may write anywhere, so it steps down for a moment."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)


@pytest.fixture
def open_directory() -> Iterator[Path]:
    """A directory that an unprivileged user can reach."""
    directory = Path(tempfile.mkdtemp(prefix="tollkeeper-log-"))
    directory.chmod(0o755)
    yield directory
    directory.chmod(0o755)
    shutil.rmtree(directory)


def test_opening_with_another_partition_count_names_both_counts(tmp_path: Path) -> None:
    with opened(tmp_path / "log.db", partitions=2) as log:
        log.append(numbered(0, 1))
    with opened(tmp_path / "log.db", partitions=3) as other:
        with pytest.raises(InvalidInput, match=r"partitions: .*with 2 partitions.*with 3"):
            other.end_offsets()
        with pytest.raises(InvalidInput, match="set it to 2"):
            other.append(numbered(0, 1))


@pytest.mark.parametrize("partitions", [0, -1])
def test_a_log_has_at_least_one_partition(tmp_path: Path, partitions: int) -> None:
    with pytest.raises(InvalidInput, match="partitions: must be at least 1"):
        SqliteLog(tmp_path / "log.db", partitions=partitions)


def test_constructing_touches_no_file(tmp_path: Path) -> None:
    with opened(tmp_path / "absent" / "log.db"):
        assert list(tmp_path.iterdir()) == []


def test_another_programs_database_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    with closing(sqlite3.connect(path)) as other:
        other.execute("CREATE TABLE charge (amount INTEGER)")
    before = path.read_bytes()
    with opened(path) as log, pytest.raises(InvalidInput, match=r"log: .*another program"):
        log.append(numbered(0, 1))
    assert path.read_bytes() == before


def test_a_file_that_is_no_database_is_named_damaged(tmp_path: Path) -> None:
    path = tmp_path / "log.db"
    path.write_bytes(b"not a database, but long enough to have a header " * 40)
    with opened(path) as log, pytest.raises(LogUnavailable, match="damaged or no log"):
        log.append(numbered(0, 1))


def test_a_missing_directory_is_named_and_not_made(tmp_path: Path) -> None:
    path = tmp_path / "absent" / "log.db"
    with opened(path) as log:
        with pytest.raises(LogUnavailable, match="absent doesn't exist: create it"):
            log.append(numbered(0, 1))
        path.parent.mkdir()
        assert log.append(numbered(0, 1)) == [0]


def test_an_unwritable_directory_is_named(open_directory: Path) -> None:
    open_directory.chmod(0o555)
    with opened(open_directory / "log.db") as log, unprivileged():
        with pytest.raises(LogUnavailable, match="write access to") as caught:
            log.append(numbered(0, 1))
        assert str(open_directory) in str(caught.value)
    assert list(open_directory.iterdir()) == []


def test_a_read_only_log_file_refuses_to_append(open_directory: Path) -> None:
    path = open_directory / "log.db"
    with opened(path) as log:
        log.append(numbered(0, 2))
    path.chmod(0o444)
    open_directory.chmod(0o555)
    with opened(path) as log, unprivileged(), pytest.raises(LogUnavailable, match="write access"):
        log.append(numbered(0, 1))
    open_directory.chmod(0o755)
    path.chmod(0o644)
    with opened(path) as log:
        assert log.append(numbered(0, 1)) == [2]


def test_a_write_lock_held_elsewhere_ends_in_log_unavailable_within_the_timeout(
    tmp_path: Path,
) -> None:
    with opened(tmp_path / "log.db") as log:
        log.append(numbered(0, 1))
        with closing(sqlite3.connect(tmp_path / "log.db", isolation_level=None)) as holder:
            holder.execute("BEGIN IMMEDIATE")
            with pytest.raises(LogUnavailable, match="held the write lock for too long"):
                log.append(numbered(0, 1), timeout_s=0.1)
            assert [record.offset for record in read_all(log, 0)] == [0]
            holder.execute("ROLLBACK")
        assert log.append(numbered(0, 1)) == [1]


def test_a_closed_log_is_misuse(tmp_path: Path) -> None:
    log = SqliteLog(tmp_path / "log.db")
    log.append(numbered(0, 1))
    log.close()
    log.close()
    with pytest.raises(Misuse, match="closed"):
        log.append(numbered(0, 1))


def fill_up(log: SqliteLog) -> tuple[list[bytes], LogUnavailable]:
    """Append until it fails; what was acknowledged, and the failure."""
    acknowledged: list[bytes] = []
    for number in range(10_000):
        batch = [Outgoing(0, None, b"%d-%d " % (number, n) + A_PAGE) for n in range(5)]
        try:
            log.append(batch)
        except LogUnavailable as error:
            return acknowledged, error
        acknowledged += [record.value for record in batch]
    raise AssertionError("nothing ever failed")


def check_after_failure(log: SqliteLog, acknowledged: list[bytes]) -> None:
    assert acknowledged
    assert [record.value for record in read_all(log, 0)] == acknowledged
    assert log.end_offsets() == {0: len(acknowledged), 1: 0}


def test_a_full_disk_refuses_and_keeps_exactly_what_was_acknowledged(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(disk)]
    mounted = subprocess.run(mount, capture_output=True, text=True, check=False)
    if mounted.returncode != 0:
        pytest.skip(f"no small disk can be mounted here: {mounted.stderr.strip()}")
    try:
        with opened(disk / "log.db") as log:
            acknowledged, error = fill_up(log)
            assert "the disk is full: free space in" in str(error)
            check_after_failure(log, acknowledged)
            subprocess.run(["mount", "-o", "remount,size=8m", str(disk)], check=True)
            assert log.append(numbered(0, 1)) == [len(acknowledged)]
            with opened(disk / "log.db") as fresh:
                check_after_failure(fresh, [*acknowledged, b"0"])
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def test_a_file_size_limit_refuses_and_keeps_exactly_what_was_acknowledged(tmp_path: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    with opened(tmp_path / "log.db") as log:
        log.append(numbered(1, 0))
        resource.setrlimit(resource.RLIMIT_FSIZE, (512 * 1024, hard))
        try:
            acknowledged, error = fill_up(log)
            check_after_failure(log, acknowledged)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        assert str(tmp_path) in str(error)
        assert log.append(numbered(0, 1)) == [len(acknowledged)]
        with opened(tmp_path / "log.db") as fresh:
            check_after_failure(fresh, [*acknowledged, b"0"])


@pytest.mark.parametrize(("place", "stands"), [("before", 0), ("after", 3)])
def test_an_operating_system_error_around_the_commit_is_log_unavailable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str, stands: int
) -> None:
    monkeypatch.setitem(failpoints._armed, f"log.{place}_append", ("enospc", 1))
    with opened(tmp_path / "log.db") as log:
        with pytest.raises(LogUnavailable, match="the disk is full"):
            log.append(numbered(0, 3))
        assert len(read_all(log, 0)) == stands


@pytest.fixture
def make_log(tmp_path: Path) -> Iterator[LogMaker]:
    arguments = {"path": str(tmp_path / "log.db"), "session_timeout_s": 2.0}
    maker = LogMaker("log.test_sqlite_log:open_sqlite", arguments, lambda: None)
    yield maker
    maker.close()


def acknowledged_by(child: Child) -> dict[tuple[int, int], str]:
    return {
        (partition, offset): value
        for message in child.messages
        for partition, offset, value in message.get("acknowledged", [])
    }


def stored(make_log: LogMaker) -> dict[tuple[int, int], str]:
    log = make_log()
    return {
        (p, record.offset): record.value.decode()
        for p in range(log.partition_count)
        for record in read_all(log, p)
    }


@pytest.mark.parametrize(("place", "batches"), [("before", 2), ("after", 3)])
def test_a_process_killed_around_an_append_leaves_whole_batches_only(
    make_log: LogMaker, place: str, batches: int
) -> None:
    armed = {"TOLLKEEPER_FAILPOINTS": f"log.{place}_append=kill@3"}
    with make_log.child("appender", "a", "9", "10", environment=armed) as child:
        child.go()
        assert child.wait() == -signal.SIGKILL
    acknowledged = acknowledged_by(child)
    found = stored(make_log)
    assert len(acknowledged) == 20
    assert len(found) == batches * 10
    assert acknowledged.items() <= found.items()


def test_a_process_killed_while_it_appends_loses_nothing_that_was_acknowledged(
    make_log: LogMaker,
) -> None:
    with make_log.child("appender", "a", "100000", "10") as child:
        child.go()
        eventually(lambda: len(child.messages) > 50, 30.0, what="50 batches")
        child.send_signal(signal.SIGKILL)
        child.wait()
    acknowledged = acknowledged_by(child)
    found = stored(make_log)
    assert acknowledged.items() <= found.items()
    assert len(found) - len(acknowledged) in (0, 10)
    log = make_log()
    assert sum(log.end_offsets().values()) == len(found)
