"""The SQLite file under the embedded log: connections, short transactions, checkpoints, forks.

Knows nothing of records and groups. Every wait is bounded; every error of SQLite or the operating
system leaves as LogUnavailable with its cause and the next step.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import threading
import time
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from tollkeeper.errors import Misuse, TollkeeperError
from tollkeeper.log.sqlite_errors import begin_writing, is_busy, unavailable
from tollkeeper.log.sqlite_schema import check_mark, check_not_lost, verify_or_create

T = TypeVar("T")

WAIT_FOR_LOCK_S = 10.0
WAIT_FOR_FORK_S = 30.0
WAIT_FOR_CHECKPOINT_S = 1.0
CHECKPOINT_EVERY_BYTES = 4 * 1024 * 1024
_BUSY_SLICE_S = (
    0.02  # SQLite's own back-off grows to 100 ms; short slices keep a waiting writer's turn near
)
_BYTES_PER_COMMIT = 16 * 1024  # about four pages go to the WAL even for the smallest transaction


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
        self._inode: tuple[int, int] | None = None
        self._bytes_since_checkpoint = 0
        _remember(self)

    def read(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Run `work`, which only reads, on a connection; again while the file is briefly locked."""
        deadline = time.monotonic() + WAIT_FOR_LOCK_S
        while True:
            try:
                return self._lend(work)
            except sqlite3.Error as error:
                if not is_busy(error) or time.monotonic() >= deadline:
                    raise unavailable(self.path, error) from error
            except OSError as error:
                raise unavailable(self.path, error) from error

    def write(
        self,
        work: Callable[[sqlite3.Connection], T],
        *,
        payload_bytes: int = 0,
        timeout_s: float = WAIT_FOR_LOCK_S,
    ) -> T:
        """Run `work` in one transaction: all of it is committed, or nothing and LogUnavailable.

        `payload_bytes` tells roughly what is written, which decides when the WAL is copied back.
        """
        deadline = time.monotonic() + timeout_s

        def transaction(connection: sqlite3.Connection) -> T:
            begin_writing(connection, deadline)
            result = work(connection)
            connection.execute("COMMIT")
            return result

        try:
            result = self._lend(transaction)
        except (sqlite3.Error, OSError) as error:
            raise unavailable(self.path, error) from error
        self._bytes_since_checkpoint += payload_bytes + _BYTES_PER_COMMIT
        if self._bytes_since_checkpoint >= CHECKPOINT_EVERY_BYTES:
            self._checkpoint()
        return result

    def close(self) -> None:
        """Close every connection, lent ones when they are given back; later calls raise Misuse."""
        with self._turn:
            self._closed = True
            self._close_idle()

    def before_fork(self) -> None:
        """Close everything: SQLite's table of locks must not be copied into another process."""
        with self._turn:
            self._forking = True
            self._turn.wait_for(lambda: self._lent == 0, timeout=WAIT_FOR_FORK_S)
            self._close_idle()

    def after_fork_in_parent(self) -> None:
        """Let the waiting threads go on."""
        with self._turn:
            self._forking = False
            self._turn.notify_all()

    def after_fork_in_child(self) -> None:
        """Start anew: the parent's threads aren't here, and one of them may have held the lock."""
        self._turn = threading.Condition()
        self._forking = False

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
            self._turn.wait_for(lambda: not self._forking, timeout=WAIT_FOR_FORK_S)
            if self._closed:
                raise Misuse(f"the log {self.path} was closed")
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
                # Closing rolls back, and after an error a fresh connection is the safe one.
                connection.close()
            self._turn.notify_all()

    def _open(self) -> sqlite3.Connection:
        deadline = time.monotonic() + WAIT_FOR_LOCK_S
        while True:
            try:
                return self._try_to_open(deadline)
            except sqlite3.Error as error:
                # Switching a new file to WAL doesn't wait for another process that does it just now.
                if not is_busy(error) or time.monotonic() >= deadline:
                    raise
                time.sleep(_BUSY_SLICE_S)

    def _try_to_open(self, deadline: float) -> sqlite3.Connection:
        check_not_lost(self.path)
        connection = sqlite3.connect(
            self.path, timeout=_BUSY_SLICE_S, isolation_level=None, check_same_thread=False
        )
        try:
            connection.execute("PRAGMA wal_autocheckpoint = 0")  # see _checkpoint
            verify_or_create(connection, self.path, self.partitions, deadline=deadline)
            check_mark(connection, self.path)
            connection.execute(f"PRAGMA synchronous = {'FULL' if self._durable else 'NORMAL'}")
        except BaseException:
            connection.close()
            raise
        self._inode = _inode(self.path)
        if _size(self.path.with_name(self.path.name + "-wal")) >= CHECKPOINT_EVERY_BYTES:
            # Left behind by processes that ended before it was their turn to copy it back.
            self._bytes_since_checkpoint += CHECKPOINT_EVERY_BYTES
        return connection

    def _close_idle(self) -> None:
        while self._idle:
            self._idle.pop().close()

    def _check_process(self) -> None:
        if self._pid == os.getpid():
            return
        if self._idle or self._lent:
            # A fork that our hook didn't see copied SQLite's table of locks: a connection opened here
            # would trust locks that this process doesn't hold, and could write to a deleted WAL.
            raise Misuse(
                f"the log {self.path} was in use while the process was forked: open it after the fork"
            )
        self._pid = os.getpid()

    def _drop_replaced(self) -> None:
        """Forget connections to a file that isn't at the path any more: appends to it would be lost."""
        if self._idle and _inode(self.path) != self._inode:
            self._close_idle()

    def _checkpoint(self) -> None:
        """Copy the WAL back into the file, while one connection keeps every writer out.

        SQLite 3.7.0 to 3.51.2 can lose committed pages when a checkpoint meets a commit that starts the
        WAL anew ("WAL-reset bug"), so no checkpoint here ever runs beside a writer. What fails is tried
        again after the next commit: what was committed is safe in the WAL.
        """

        def copy_back(guard: sqlite3.Connection) -> None:
            begin_writing(guard, time.monotonic() + WAIT_FOR_CHECKPOINT_S)
            with contextlib.closing(self._open()) as connection:
                connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
            guard.execute("ROLLBACK")
            self._bytes_since_checkpoint = 0

        with contextlib.suppress(sqlite3.Error, OSError, TollkeeperError):
            self._lend(copy_back)


def _inode(path: Path) -> tuple[int, int] | None:
    try:
        status = os.stat(path)
    except OSError:
        return None
    return (status.st_dev, status.st_ino)


def _size(path: Path) -> int:
    try:
        return os.stat(path).st_size
    except OSError:
        return 0


_files: weakref.WeakSet[LogFile] = weakref.WeakSet()
_files_lock = threading.Lock()


def _remember(file: LogFile) -> None:
    """Have the file told of every fork in this process."""
    with _files_lock:
        _files.add(file)


def _before_fork() -> None:
    _files_lock.acquire()
    for file in list(_files):
        file.before_fork()


def _after_fork_in_parent() -> None:
    for file in list(_files):
        file.after_fork_in_parent()
    _files_lock.release()


def _after_fork_in_child() -> None:
    for file in list(_files):
        file.after_fork_in_child()
    _files_lock.release()


# At import, so that no fork can fall between one thread's registering and another's: then the hooks
# behind the fork would run without the one before it.
os.register_at_fork(
    before=_before_fork,
    after_in_parent=_after_fork_in_parent,
    after_in_child=_after_fork_in_child,
)
