"""Connecting to the one SQL database that the write side and the ledger share.

SQLite: WAL, `synchronous=FULL` (an acknowledged commit survives a power cut) and every transaction
that may write begins IMMEDIATE, so that it can't fail halfway for want of the lock.

SQLite 3.7.0 to 3.51.2 can lose committed pages when a checkpoint meets a commit that starts the WAL
anew ("WAL-reset bug"). So automatic checkpoints are off; ours run while one connection keeps every
writer out.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import weakref
from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.engine import make_url
from sqlalchemy.exc import DBAPIError, OperationalError

from tollkeeper.errors import StoreUnavailable

BUSY_TIMEOUT_S = 30.0
CHECKPOINT_BYTES = 8 * 1024 * 1024
"""How long SQLite's WAL may grow before it is copied back: a thousand pages, SQLite's own default."""
WAIT_FOR_CHECKPOINT_S = 1.0
_READ_ONLY = "tollkeeper_read_only"


def open_engine(url: str) -> Engine:
    """An engine for a SQLAlchemy URL; cheap, connects on first use. Dispose of it when done."""
    if make_url(url).get_backend_name() != "sqlite":
        return create_engine(url, pool_pre_ping=True)
    engine = create_engine(url, connect_args={"timeout": BUSY_TIMEOUT_S})
    event.listen(engine, "connect", _prepare_sqlite)
    event.listen(engine, "begin", _begin_sqlite)
    _sqlite_engines.add(engine)
    return engine


@contextmanager
def writing(engine: Engine) -> Iterator[Connection]:
    """One transaction that may write: commits at the end, rolls back when an exception leaves it.

    Raises StoreUnavailable when the database can't be reached, is locked, read-only or full. If the
    commit itself failed, it may have happened: read before trying again.
    """
    with _named_failures(engine), engine.begin() as connection:
        yield connection
    if engine in _sqlite_engines:
        _checkpoint_when_due(engine)


@contextmanager
def reading(engine: Engine) -> Iterator[Connection]:
    """One consistent snapshot to read from; never waits for a writer."""
    with _named_failures(engine), engine.connect() as plain:
        options = {_READ_ONLY: True}
        if engine.dialect.name == "postgresql":
            options["postgresql_readonly"] = True
            plain = plain.execution_options(isolation_level="REPEATABLE READ")
        connection = plain.execution_options(**options)
        with connection.begin():
            yield connection


@contextmanager
def _named_failures(engine: Engine) -> Iterator[None]:
    try:
        yield
    except OperationalError as failure:
        raise StoreUnavailable(
            f"the database {engine.url.render_as_string(hide_password=True)} refused: {failure.orig}; "
            "check that it is reachable, writable and has room, then try again"
        ) from failure
    except DBAPIError as failure:
        if failure.connection_invalidated:
            raise StoreUnavailable(
                f"the connection to {engine.url.render_as_string(hide_password=True)} broke: {failure.orig}"
            ) from failure
        raise


def _prepare_sqlite(connection: sqlite3.Connection, _record: object) -> None:
    connection.isolation_level = None  # we say BEGIN ourselves
    for pragma in (
        "page_size=8192",
        "journal_mode=WAL",
        "synchronous=FULL",
        "foreign_keys=ON",
        "cache_size=-65536",
        "wal_autocheckpoint=0",
    ):
        connection.execute(f"PRAGMA {pragma}").close()


def _begin_sqlite(connection: Connection) -> None:
    read_only = connection.get_execution_options().get(_READ_ONLY, False)
    connection.exec_driver_sql("BEGIN" if read_only else "BEGIN IMMEDIATE")


def _checkpoint_when_due(engine: Engine) -> None:
    """Copy a long WAL back into the file. What fails is tried again after the next commit."""
    path = engine.url.database
    with contextlib.suppress(OSError, sqlite3.Error):
        if path and os.stat(f"{path}-wal").st_size >= CHECKPOINT_BYTES:
            _checkpoint(path)


def _checkpoint(path: str) -> None:
    with (
        contextlib.closing(sqlite3.connect(path, WAIT_FOR_CHECKPOINT_S)) as guard,
        contextlib.closing(sqlite3.connect(path, WAIT_FOR_CHECKPOINT_S)) as copier,
    ):
        guard.isolation_level = copier.isolation_level = None
        guard.execute("BEGIN IMMEDIATE")  # no writer until this is rolled back
        copier.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
        guard.execute("ROLLBACK")


_sqlite_engines: weakref.WeakSet[Engine] = weakref.WeakSet()


def _close_idle_before_fork() -> None:
    """SQLite's table of locks must not be copied into another process, whose locks they aren't."""
    for engine in list(_sqlite_engines):
        engine.dispose()


os.register_at_fork(before=_close_idle_before_fork)
