"""Connecting to the one SQL database that the write side and the ledger share, and its transactions.

SQLite: WAL, `synchronous=FULL` (an acknowledged commit survives a power cut) and every transaction
that may write begins IMMEDIATE, so that it can't fail halfway for want of the lock. How its file is
kept is `sqlite_file`'s. PostgreSQL: READ COMMITTED; see `postgresql`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

from sqlalchemy import Connection, Engine, Table, create_engine, event, text
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import DBAPIError, OperationalError, ProgrammingError

from tollkeeper.errors import InvalidInput, StoreUnavailable, TollkeeperError
from tollkeeper.outbox import sqlite_file
from tollkeeper.outbox.postgresql import next_step, open_postgresql

BUSY_TIMEOUT_S = 30.0
HIDDEN = "hidden"
_READ_ONLY = "tollkeeper_read_only"


def open_engine(url: str) -> Engine:
    """An engine for a SQLAlchemy URL; cheap, connects on first use. Dispose of it when done."""
    if (parsed := make_url(url)).get_backend_name() == "postgresql":
        return open_postgresql(parsed)
    engine = create_engine(url, connect_args={"timeout": BUSY_TIMEOUT_S})
    sqlite_file.register(engine)
    event.listen(engine, "begin", _begin_sqlite)
    return engine


@contextmanager
def writing(engine: Engine) -> Iterator[Connection]:
    """One transaction that may write: commits at the end, rolls back when an exception leaves it.

    Raises StoreUnavailable when the database can't be reached, is locked, read-only or full. If the
    commit itself failed, it may have happened: read before trying again.
    """
    with _using(engine):
        with engine.begin() as connection:
            yield connection
        if file := sqlite_file.file_of(engine):
            file.checkpoint_when_due()


@contextmanager
def reading(engine: Engine) -> Iterator[Connection]:
    """One consistent snapshot to read from; never waits for a writer."""
    with _using(engine), engine.connect() as plain:
        options = {_READ_ONLY: True}
        if engine.dialect.name == "postgresql":
            options["postgresql_readonly"] = True
            plain = plain.execution_options(isolation_level="REPEATABLE READ")
        connection = plain.execution_options(**options)
        with connection.begin():
            yield connection


@contextmanager
def alone(engine: Engine, lock: int) -> Iterator[None]:
    """Only one process at a time is in here with the same number; the others wait.

    For rare work of several transactions on PostgreSQL. SQLite has no such lock: there the caller's
    own, on a file, must do.
    """
    if engine.dialect.name != "postgresql":
        yield
        return
    with _named_failures(engine), engine.connect() as connection:
        connection.execute(text("SELECT pg_advisory_lock(:lock)"), {"lock": lock})
        connection.commit()
        try:
            yield
        finally:
            connection.execute(text("SELECT pg_advisory_unlock(:lock)"), {"lock": lock})
            connection.commit()


def keep_writers_out(connection: Connection, table: Table) -> None:
    """Until this transaction ends nobody else writes the table; in SQLite nobody does anyway."""
    if connection.dialect.name == "postgresql":
        connection.execute(text(f"LOCK TABLE {table.name} IN SHARE ROW EXCLUSIVE MODE"))


@contextmanager
def _using(engine: Engine) -> Iterator[None]:
    file = sqlite_file.file_of(engine)
    with _named_failures(engine), file.in_use() if file else nullcontext():
        yield


@contextmanager
def _named_failures(engine: Engine) -> Iterator[None]:
    try:
        yield
    except DBAPIError as failure:
        raise (_named(failure, shown_url(engine.url)) or failure) from failure


def _named(failure: DBAPIError, shown: str) -> TollkeeperError | None:
    """What the database's error means to us; None when it means that our statement is wrong."""
    if step := next_step(failure.orig):
        return StoreUnavailable(f"the database {shown} refused: {_line(failure.orig)}; {step}")
    if failure.statement is None and isinstance(failure, ProgrammingError):
        return InvalidInput("TOLLKEEPER_SQL", f"must have no such option: {_line(failure.orig)}")
    if failure.connection_invalidated:
        return StoreUnavailable(f"the connection to {shown} broke: {_line(failure.orig)}")
    if not isinstance(failure, OperationalError):
        return None
    check = "reachable, writable and has room"
    if failure.statement is None and "postgresql" in shown:
        check = "what TOLLKEEPER_SQL says, and takes connections"
    return StoreUnavailable(
        f"the database {shown} refused: {_line(failure.orig)}; check that it is {check}, then try again"
    )


def _line(error: BaseException | None) -> str:
    """An error of the driver's in one line, without the place in our statement."""
    lines = (line.strip() for line in str(error).splitlines())
    return " ".join(line for line in lines if line and not line.startswith(("LINE ", "^")))


def shown_url(url: str | URL) -> str:
    """A SQLAlchemy URL for people: no password, neither before the host nor among the options."""
    parsed = make_url(url)
    query = {
        name: HIDDEN if "pass" in name.lower() or "key" in name.lower() else value
        for name, value in parsed.query.items()
    }
    return parsed.set(query=query).render_as_string(hide_password=True)


def _begin_sqlite(connection: Connection) -> None:
    read_only = connection.get_execution_options().get(_READ_ONLY, False)
    connection.exec_driver_sql("BEGIN" if read_only else "BEGIN IMMEDIATE")
