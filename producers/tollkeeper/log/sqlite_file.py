"""The SQLite file under the embedded log: opening, short transactions, errors in words, forks.

Knows the tables but not what is done with them. Every wait is bounded; every SQLite or operating
system error leaves as LogUnavailable with its cause and the next step.
"""

from __future__ import annotations

import os
import secrets
import sqlite3
import threading
import time
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from tollkeeper.errors import InvalidInput, LogUnavailable, Misuse

T = TypeVar("T")

WAIT_FOR_LOCK_S = 10.0
FORMAT = 1
_APPLICATION_ID = 0x746F6C6C  # "toll": tells our file from any other SQLite file
_OLDEST_SQLITE = (3, 37)  # STRICT tables
_BUSY_SLICE_MS = (
    20  # SQLite's own back-off grows to 100 ms; short slices keep a waiting writer's turn near
)
_QUIET_FOR_FORK_S = 30.0
_BUSY = frozenset({sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_PROTOCOL})

# `log` describes the file itself. `partition_N` is one partition, filled by append only: its rowid is
# the offset, so appending always touches the right edge of a tree. The group tables are coordination
# between running consumers; `group_commit` is what consumers published for lag tools. Heartbeats are
# in microseconds of the machine's monotonic clock, which all its processes share.
_TABLES = """
CREATE TABLE log (
    identity TEXT NOT NULL, partition_count INTEGER NOT NULL, format INTEGER NOT NULL
) STRICT;
CREATE TABLE consumer_group (
    name TEXT PRIMARY KEY, epoch INTEGER NOT NULL, assigned_epoch INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TABLE group_member (
    group_name TEXT NOT NULL, member TEXT NOT NULL, epoch INTEGER NOT NULL,
    heartbeat_at INTEGER NOT NULL, session_micros INTEGER NOT NULL,
    PRIMARY KEY (group_name, member)
) STRICT, WITHOUT ROWID;
CREATE TABLE group_owner (
    group_name TEXT NOT NULL, partition INTEGER NOT NULL, member TEXT NOT NULL,
    PRIMARY KEY (group_name, partition)
) STRICT, WITHOUT ROWID;
CREATE TABLE group_commit (
    group_name TEXT NOT NULL, partition INTEGER NOT NULL, next_offset INTEGER NOT NULL,
    PRIMARY KEY (group_name, partition)
) STRICT, WITHOUT ROWID;
"""
_PARTITION_TABLE = """
CREATE TABLE partition_{} (
    "offset" INTEGER PRIMARY KEY, key BLOB, value BLOB NOT NULL, appended_at INTEGER NOT NULL
) STRICT
"""


class LogFile:
    """Connections to one log file, lent one at a time to whichever thread works.

    `durable=False` is for coordination that may be lost with the machine: it saves the fsync and never
    weakens what durable connections have committed to the same file.
    """

    def __init__(self, path: Path, partitions: int, *, durable: bool = True) -> None:
        self.path = path
        self.partitions = partitions
        self._durable = durable
        self._turn = threading.Condition()
        self._idle: list[sqlite3.Connection] = []
        self._lent = 0
        self._forking = False
        self._closed = False
        self._pid = os.getpid()
        self._inode = (0, 0)
        _remember(self)

    def read(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Run `work`, which only reads, on a connection; again while the file is briefly locked."""
        deadline = time.monotonic() + WAIT_FOR_LOCK_S
        while True:
            try:
                return self._lend(work)
            except sqlite3.Error as error:
                if _is_busy(error) and time.monotonic() < deadline:
                    continue
                raise unavailable(self.path, error) from error
            except OSError as error:
                raise unavailable(self.path, error) from error

    def write(
        self, work: Callable[[sqlite3.Connection], T], *, timeout_s: float = WAIT_FOR_LOCK_S
    ) -> T:
        """Run `work` in one transaction: all of it is committed, or nothing and LogUnavailable."""
        deadline = time.monotonic() + timeout_s

        def transaction(connection: sqlite3.Connection) -> T:
            _begin(connection, deadline)
            result = work(connection)
            connection.execute("COMMIT")
            return result

        try:
            return self._lend(transaction)
        except (sqlite3.Error, OSError) as error:
            raise unavailable(self.path, error) from error

    def close(self) -> None:
        """Close every connection once it is given back; later calls raise Misuse."""
        with self._turn:
            self._closed = True
            self._close_idle()

    def _lend(self, work: Callable[[sqlite3.Connection], T]) -> T:
        connection = self._take()
        sound = False
        try:
            result = work(connection)
            sound = True
            return result
        finally:
            self._give_back(connection, sound=sound)

    def _take(self) -> sqlite3.Connection:
        with self._turn:
            if self._closed:
                raise Misuse(f"the log {self.path} was closed")
            self._turn.wait_for(lambda: not self._forking, timeout=_QUIET_FOR_FORK_S)
            self._check_process()
            self._drop_replaced()
            self._lent += 1
            if self._idle:
                return self._idle.pop()
        try:
            return self._open()
        except BaseException:
            with self._turn:
                self._lent -= 1
                self._turn.notify_all()
            raise

    def _give_back(self, connection: sqlite3.Connection, *, sound: bool) -> None:
        with self._turn:
            self._lent -= 1
            if sound and not self._closed:
                self._idle.append(connection)
            else:
                # Closing rolls back. After an error a fresh connection is the safe one.
                connection.close()
            self._turn.notify_all()

    def _close_idle(self) -> None:
        while self._idle:
            self._idle.pop().close()

    def _check_process(self) -> None:
        if self._pid == os.getpid():
            return
        if self._idle or self._lent:
            # SQLite's table of locks was copied by a fork that our hook didn't see: a connection opened
            # now would trust locks that this process doesn't hold, and could write to a deleted WAL.
            raise Misuse(
                f"the log {self.path} was open while the process was forked by other means than "
                "os.fork: open it after the fork, or close it before"
            )
        self._pid = os.getpid()

    def _drop_replaced(self) -> None:
        """Forget connections to a file that isn't at the path any more: their appends would be lost."""
        if self._idle and _inode(self.path) != self._inode:
            self._close_idle()

    def _open(self) -> sqlite3.Connection:
        if sqlite3.sqlite_version_info < _OLDEST_SQLITE:
            raise LogUnavailable(
                f"the embedded log needs SQLite 3.37 or newer, this Python has {sqlite3.sqlite_version}"
            )
        connection = sqlite3.connect(
            self.path, timeout=_BUSY_SLICE_MS / 1000, isolation_level=None, check_same_thread=False
        )
        try:
            _prepare(connection, self.path, self.partitions, durable=self._durable)
        except BaseException:
            connection.close()
            raise
        self._inode = _inode(self.path)
        return connection

    def before_fork(self) -> None:
        """Close everything: SQLite's locks don't survive a fork, and no copy of them may be left."""
        with self._turn:
            self._forking = True
            self._turn.wait_for(lambda: self._lent == 0, timeout=_QUIET_FOR_FORK_S)
            self._close_idle()

    def after_fork_in_parent(self) -> None:
        """Let the waiting threads go on."""
        with self._turn:
            self._forking = False
            self._turn.notify_all()

    def after_fork_in_child(self) -> None:
        """Start anew: the parent's threads aren't here, and one may have held the lock."""
        self._turn = threading.Condition()
        self._forking = False


def unavailable(path: Path, error: sqlite3.Error | OSError) -> LogUnavailable:
    """The error in words: which file, what happened, what to do."""
    return LogUnavailable(f"the log {path}: {_cause(path, error)} ({error})")


def _cause(path: Path, error: sqlite3.Error | OSError) -> str:
    name = getattr(error, "sqlite_errorname", "") or ""
    if not path.parent.is_dir():
        return f"the directory {path.parent} doesn't exist: create it or correct the path"
    if name.startswith("SQLITE_FULL") or getattr(error, "errno", None) == 28:
        return f"the disk is full: free space in {path.parent}, then try again"
    if name.startswith(("SQLITE_BUSY", "SQLITE_LOCKED", "SQLITE_PROTOCOL")):
        return "another process held the write lock for too long: find it, then try again"
    if name.startswith(("SQLITE_READONLY", "SQLITE_CANTOPEN", "SQLITE_PERM", "SQLITE_AUTH")):
        return f"can't be opened for writing: give this user write access to {path.parent}"
    if name.startswith(("SQLITE_CORRUPT", "SQLITE_NOTADB")):
        return "the file is damaged or no log: restore it from a copy or correct the path"
    return "the file can't be read or written: look at the disk, then try again"


def _begin(connection: sqlite3.Connection, deadline: float) -> None:
    while True:
        try:
            connection.execute("BEGIN IMMEDIATE")
            return
        except sqlite3.OperationalError as error:
            if not _is_busy(error) or time.monotonic() >= deadline:
                raise


def _is_busy(error: sqlite3.Error) -> bool:
    return getattr(error, "sqlite_errorcode", 0) & 0xFF in _BUSY


def _prepare(connection: sqlite3.Connection, path: Path, partitions: int, *, durable: bool) -> None:
    deadline = time.monotonic() + WAIT_FOR_LOCK_S
    while True:
        try:
            _verify_or_create(connection, path, partitions)
            break
        except sqlite3.OperationalError as error:
            # Switching a new file to WAL doesn't wait for a process that does the same just now.
            if not _is_busy(error) or time.monotonic() >= deadline:
                raise
            if connection.in_transaction:
                connection.execute("ROLLBACK")
    connection.execute(f"PRAGMA synchronous = {'FULL' if durable else 'NORMAL'}")


def _verify_or_create(connection: sqlite3.Connection, path: Path, partitions: int) -> None:
    connection.execute("PRAGMA synchronous = FULL")
    found = _description(connection, path)
    if found is None:
        connection.execute("PRAGMA journal_mode = WAL")
        _begin(connection, time.monotonic() + WAIT_FOR_LOCK_S)
        if _description(connection, path) is None:
            _create(connection, partitions)
        connection.execute("COMMIT")
        found = _description(connection, path)
    assert found is not None
    partition_count, form = found
    if form != FORMAT:
        raise InvalidInput(
            "log",
            f"{path} has format {form}, this release reads {FORMAT}: use the matching release",
        )
    if partition_count != partitions:
        raise InvalidInput(
            "partitions",
            f"the log {path} was created with {partition_count} partitions and is opened with "
            f"{partitions}: the count is fixed, so set it to {partition_count}",
        )


def _description(connection: sqlite3.Connection, path: Path) -> tuple[int, int] | None:
    """Partition count and format, or None for a file that is empty still."""
    (application,) = connection.execute("PRAGMA application_id").fetchone()
    if application == _APPLICATION_ID:
        row: tuple[int, int] = connection.execute(
            "SELECT partition_count, format FROM log"
        ).fetchone()
        return row
    (tables,) = connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()
    if tables or application:
        raise InvalidInput("log", f"{path} is another program's SQLite file: correct the path")
    return None


def _create(connection: sqlite3.Connection, partitions: int) -> None:
    for statement in _TABLES.split(";"):
        if statement.strip():
            connection.execute(statement)
    for partition in range(partitions):
        connection.execute(_PARTITION_TABLE.format(partition))
    connection.execute(
        "INSERT INTO log (identity, partition_count, format) VALUES (?, ?, ?)",
        (secrets.token_hex(16), partitions, FORMAT),
    )
    connection.execute(f"PRAGMA application_id = {_APPLICATION_ID}")


def _inode(path: Path) -> tuple[int, int]:
    try:
        status = os.stat(path)
    except OSError:
        return (0, 0)
    return (status.st_dev, status.st_ino)


_files: weakref.WeakSet[LogFile] = weakref.WeakSet()
_files_lock = threading.Lock()
_hooked = False


def _remember(file: LogFile) -> None:
    global _hooked
    with _files_lock:
        _files.add(file)
        if not _hooked:
            os.register_at_fork(
                before=_before_fork,
                after_in_parent=_after_in_parent,
                after_in_child=_after_in_child,
            )
            _hooked = True


def _before_fork() -> None:
    _files_lock.acquire()
    for file in list(_files):
        file.before_fork()


def _after_in_parent() -> None:
    for file in list(_files):
        file.after_fork_in_parent()
    _files_lock.release()


def _after_in_child() -> None:
    for file in list(_files):
        file.after_fork_in_child()
    _files_lock.release()
