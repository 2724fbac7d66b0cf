"""The database file: its WAL stays bounded, nothing committed is lost, forks don't share it."""

from __future__ import annotations

import ctypes
import os
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from functools import partial
from pathlib import Path

import pytest
from sqlalchemy import Engine
from support.forking import ended_well, in_fork
from support.waiting import eventually

from tollkeeper.errors import Misuse
from tollkeeper.log.sqlite import SqliteLog
from tollkeeper.outbox import sqlite_file
from tollkeeper.outbox.database import open_engine, reading, writing
from tollkeeper.outbox.sqlite_file import CHECKPOINT_BYTES

ROW = "x" * 300_000
BOUND = 2 * CHECKPOINT_BYTES
CHILD = """
import sys
from tollkeeper.outbox.database import open_engine, writing
engine = open_engine(sys.argv[1])
for _ in range(40):
    with writing(engine) as connection:
        connection.exec_driver_sql("INSERT INTO note (text) VALUES (?)", ("x" * 300_000,))
engine.dispose()
"""


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    engine = open_engine(f"sqlite:///{tmp_path}/ledger.sqlite")
    with writing(engine) as connection:
        connection.exec_driver_sql("CREATE TABLE note (id INTEGER PRIMARY KEY, text TEXT) STRICT")
    yield engine
    engine.dispose()


def note(engine: Engine, text: str = ROW, times: int = 1) -> None:
    for _ in range(times):
        with writing(engine) as connection:
            connection.exec_driver_sql("INSERT INTO note (text) VALUES (?)", (text,))


def count(engine: Engine) -> int:
    with reading(engine) as connection:
        return int(connection.exec_driver_sql("SELECT count(*) FROM note").scalar_one())


def wal_bytes(engine: Engine) -> int:
    return os.stat(f"{engine.url.database}-wal").st_size


def is_whole(engine: Engine) -> bool:
    with closing(sqlite3.connect(str(engine.url.database))) as plain:
        return bool(plain.execute("PRAGMA integrity_check").fetchone() == ("ok",))


@pytest.fixture
def checkpoints(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Every checkpoint that was made, by path."""
    made: list[str] = []
    make = sqlite_file.checkpoint

    def counted(path: str) -> None:
        made.append(path)
        make(path)

    monkeypatch.setattr(sqlite_file, "checkpoint", counted)
    return made


def test_the_wal_stays_bounded_at_the_cost_of_few_checkpoints(
    engine: Engine, checkpoints: list[str]
) -> None:
    """Its length is no measure of what it holds unless it is cut after a checkpoint."""
    longest = 0
    for _ in range(160):
        note(engine)
        longest = max(longest, wal_bytes(engine))
    assert longest < BOUND
    assert 4 <= len(checkpoints) <= 160 * len(ROW) // CHECKPOINT_BYTES * 3
    assert count(engine) == 160
    assert is_whole(engine)


def test_no_connection_checkpoints_by_itself(engine: Engine) -> None:
    with reading(engine) as connection:
        assert connection.exec_driver_sql("PRAGMA wal_autocheckpoint").scalar() == 0


def test_a_reader_that_stays_open_keeps_its_snapshot_and_delays_no_writer(
    engine: Engine, checkpoints: list[str]
) -> None:
    note(engine)
    with reading(engine) as reader:
        see = partial(reader.exec_driver_sql, "SELECT count(*), sum(length(text)) FROM note")
        assert tuple(see().one()) == (1, len(ROW))
        note(engine, times=100)  # 30 MB that can't be copied back as long as it is read
        assert tuple(see().one()) == (1, len(ROW))
        assert len(checkpoints) < 40  # one for every bit of growth, not one for every commit
    note(engine, times=10)
    assert wal_bytes(engine) < BOUND
    assert count(engine) == 111
    assert is_whole(engine)


def test_a_writer_in_the_way_of_a_checkpoint_costs_no_commit_and_it_is_tried_again(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite_file, "WAIT_FOR_CHECKPOINT_S", 0.0)
    make = sqlite_file.checkpoint
    refused: list[sqlite3.OperationalError] = []

    def disturbed(path: str) -> None:
        if len(refused) == 2:
            return make(path)
        with closing(sqlite3.connect(path, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            try:
                make(path)
            except sqlite3.OperationalError as locked:
                refused.append(locked)
                raise

    monkeypatch.setattr(sqlite_file, "checkpoint", disturbed)
    note(engine, times=60)
    assert [str(one) for one in refused] == ["database is locked"] * 2
    assert wal_bytes(engine) < BOUND
    assert count(engine) == 60


def test_threads_and_processes_that_write_at_once_leave_the_database_whole(engine: Engine) -> None:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    children = [
        subprocess.Popen([sys.executable, "-c", CHILD, str(engine.url)], env=environment)
        for _ in range(2)
    ]
    with ThreadPoolExecutor(3) as pool:
        list(pool.map(lambda _: note(engine, times=20), range(3)))
    assert [child.wait(timeout=60) for child in children] == [0, 0]
    note(engine, "small")
    assert count(engine) == 2 * 40 + 3 * 20 + 1
    assert wal_bytes(engine) < 2 * BOUND
    assert is_whole(engine)


def test_a_forked_child_writes_through_connections_of_its_own(engine: Engine) -> None:
    note(engine, "before")
    child_says, tells_parent = os.pipe()
    parent_says, tells_child = os.pipe()

    def child() -> None:
        note(engine, "child")
        os.write(tells_parent, b".")
        os.read(parent_says, 1)
        note(engine, "child after the parent's close")

    pid = in_fork(child)
    os.read(child_says, 1)
    # With inherited locks this close takes the parent for the last user and deletes the WAL, into
    # which the child goes on writing.
    engine.dispose()
    os.write(tells_child, b".")
    assert ended_well(pid)
    for end in (child_says, tells_parent, parent_says, tells_child):
        os.close(end)
    assert count(engine) == 3
    assert is_whole(engine)


def test_forks_amid_other_threads_transactions_lose_and_block_nothing(
    engine: Engine, tmp_path: Path
) -> None:
    """Some transactions ask the log, whose connections mustn't be copied either."""
    log = SqliteLog(tmp_path / "log.db", partitions=1)
    stop = threading.Event()
    written = 0

    def write() -> None:
        nonlocal written
        while not stop.wait(0.001):  # SQLite's lock is unfair to who waits for a busy writer
            with writing(engine) as connection:
                log.end_offsets()
                connection.exec_driver_sql("INSERT INTO note (text) VALUES ('parent')")
            written += 1

    def goes_on(before: int) -> bool:
        return written > before

    thread = threading.Thread(target=write)
    thread.start()
    for _ in range(5):
        assert ended_well(in_fork(lambda: note(engine, "child", 2)))
        eventually(partial(goes_on, written), what="another transaction")
    stop.set()
    thread.join(timeout=30.0)
    assert count(engine) == written + 5 * 2
    assert is_whole(engine)
    log.close()


def test_before_a_fork_transactions_end_while_the_log_still_answers_them() -> None:
    """Hooks before a fork run newest first, so the log's has to be registered first."""
    script = (
        "import os\n"
        "os.register_at_fork = lambda before=None, **_: before and print(before.__module__)\n"
        "import tollkeeper.outbox.database\n"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    printed = subprocess.run(
        [sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=True
    ).stdout.split()
    ours = [name for name in printed if name.endswith("sqlite_file")]
    assert ours == ["tollkeeper.log.sqlite_file", "tollkeeper.outbox.sqlite_file"]


def test_a_fork_that_python_does_not_see_is_refused_instead_of_sharing_locks(
    engine: Engine,
) -> None:
    note(engine, "before")

    def child() -> None:
        with pytest.raises(Misuse, match="open it after the fork"):
            note(engine, "child")

    assert ended_well(in_fork(child, fork=ctypes.PyDLL(None).fork))
    note(engine, "after")
    assert count(engine) == 2


def test_a_fork_inside_a_transaction_is_refused_in_the_child(engine: Engine) -> None:
    def child() -> None:
        with pytest.raises(Misuse, match="open it after the fork"):
            count(engine)

    with writing(engine) as connection:
        connection.exec_driver_sql("INSERT INTO note (text) VALUES ('parent')")
        assert ended_well(in_fork(child))
    assert count(engine) == 1
