"""The SQLite file under write side and ledger: its settings, its checkpoints, and forks.

SQLite 3.7.0 to 3.51.2 can lose committed pages when a checkpoint meets a commit that starts the WAL
anew ("WAL-reset bug"). So automatic checkpoints are off; ours run while one connection keeps every
writer out. Knows nothing of tables.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import threading
import weakref
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import Engine, event

# Hooks before a fork run newest first, and a transaction here may ask the log: so ours comes later,
# and waits for such transactions while the log still answers them.
import tollkeeper.log.sqlite_file  # noqa: F401  (for its hook alone)
from tollkeeper.errors import Misuse, StoreUnavailable

CHECKPOINT_BYTES = 8 * 1024 * 1024
"""How long the WAL may grow before it is copied back: a thousand pages, as many as SQLite's default."""
TRY_AGAIN_BYTES = CHECKPOINT_BYTES // 8
"""How much further it may grow until the next try, when a reader or writer was in the way."""
WAIT_FOR_CHECKPOINT_S = 1.0
WAIT_FOR_FORK_S = 30.0
_PRAGMAS = (
    "page_size=8192",
    "journal_mode=WAL",
    "synchronous=FULL",
    "foreign_keys=ON",
    "cache_size=-65536",
    "wal_autocheckpoint=0",
    # The first commit after a whole checkpoint cuts the WAL to this: then its length tells again how
    # much isn't copied back. Half of it stays, since a file that grows makes each fsync dearer.
    f"journal_size_limit={CHECKPOINT_BYTES // 2}",
)


class SqliteFile:
    """One engine's file in this process; every transaction holds `in_use` around it."""

    def __init__(self, engine: Engine) -> None:
        self._engine = weakref.ref(engine)
        self._path = engine.url.database or ""
        self._turn = threading.Condition()
        self._users: Counter[int] = Counter()
        self._is_forking = False
        self._pid = os.getpid()
        self._due_at_bytes = CHECKPOINT_BYTES
        event.listen(engine, "connect", _prepare)

    @contextmanager
    def in_use(self) -> Iterator[None]:
        """Let no fork happen meanwhile. Raises Misuse where a fork was made in the middle of a use."""
        me = threading.get_ident()
        with self._turn:
            # Who is inside already must go on, or the fork would wait for it and it for the fork.
            if not self._turn.wait_for(
                lambda: not self._is_forking or me in self._users, timeout=WAIT_FOR_FORK_S
            ):
                raise StoreUnavailable(f"{self._path}: a fork takes too long; try again")
            self._check_process()
            self._users[me] += 1
        try:
            yield
        finally:
            with self._turn:
                self._users[me] -= 1
                self._users += Counter()  # drops who is at zero
                self._turn.notify_all()

    def checkpoint_when_due(self) -> None:
        """Copy a long WAL back into the file. What fails is tried again when it has grown further."""
        size = self._wal_bytes()
        if size < CHECKPOINT_BYTES:
            self._due_at_bytes = CHECKPOINT_BYTES
        elif size >= self._due_at_bytes:
            with contextlib.suppress(sqlite3.Error):  # what was committed is safe in the WAL
                checkpoint(self._path)
            self._due_at_bytes = size + TRY_AGAIN_BYTES

    def before_fork(self) -> None:
        """Close everything: SQLite's table of locks must not be copied into another process."""
        me = threading.get_ident()
        engine = self._engine()
        with self._turn:
            self._is_forking = True
            self._turn.wait_for(lambda: set(self._users) <= {me}, timeout=WAIT_FOR_FORK_S)
            if engine is not None:
                engine.dispose()

    def after_fork_in_parent(self) -> None:
        """Let the waiting threads go on."""
        with self._turn:
            self._is_forking = False
            self._turn.notify_all()

    def after_fork_in_child(self) -> None:
        """Start anew, unless a connection came along that was lent at the fork."""
        self._turn = threading.Condition()
        self._is_forking = False
        if not self._users:
            self._pid = os.getpid()

    def _check_process(self) -> None:
        if self._pid != os.getpid():
            # A connection opened here would trust locks that this process doesn't hold.
            raise Misuse(
                f"the database {self._path} was in use while the process was forked: "
                "open it after the fork"
            )

    def _wal_bytes(self) -> int:
        try:
            return os.stat(f"{self._path}-wal").st_size
        except OSError:
            return 0


def checkpoint(path: str) -> None:
    """Copy back what no reader still needs in the WAL, while nobody writes. Raises sqlite3.Error."""
    with (
        contextlib.closing(sqlite3.connect(path, WAIT_FOR_CHECKPOINT_S)) as guard,
        contextlib.closing(sqlite3.connect(path, WAIT_FOR_CHECKPOINT_S)) as copier,
    ):
        guard.isolation_level = copier.isolation_level = None
        guard.execute("BEGIN IMMEDIATE")  # no writer until this is rolled back
        copier.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
        guard.execute("ROLLBACK")


def file_of(engine: Engine) -> SqliteFile | None:
    """The engine's file; None when it isn't SQLite or wasn't made by `register`."""
    return _files.get(engine)


def register(engine: Engine) -> None:
    """Prepare the engine's connections, and have its file told of every fork in this process."""
    with _files_lock:
        _files[engine] = SqliteFile(engine)


def _prepare(connection: sqlite3.Connection, _record: object) -> None:
    connection.isolation_level = None  # we say BEGIN ourselves
    for pragma in _PRAGMAS:
        connection.execute(f"PRAGMA {pragma}").close()


_files: weakref.WeakKeyDictionary[Engine, SqliteFile] = weakref.WeakKeyDictionary()
_files_lock = threading.Lock()


def _before_fork() -> None:
    _files_lock.acquire()
    for file in list(_files.values()):
        file.before_fork()


def _after_fork_in_parent() -> None:
    for file in list(_files.values()):
        file.after_fork_in_parent()
    _files_lock.release()


def _after_fork_in_child() -> None:
    for file in list(_files.values()):
        file.after_fork_in_child()
    _files_lock.release()


# At import, so that no fork falls between one engine's registering and another's.
os.register_at_fork(
    before=_before_fork,
    after_in_parent=_after_fork_in_parent,
    after_in_child=_after_fork_in_child,
)
