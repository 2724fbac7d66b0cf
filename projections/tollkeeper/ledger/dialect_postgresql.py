"""The ledger's statements on PostgreSQL: rows go in through binary COPY, keys as arrays.

Charges are copied straight into their table, which takes two thirds of the time of a temporary table
and `INSERT ... SELECT`; only a batch that repeats an event id goes that longer way.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import lru_cache

import psycopg
from sqlalchemy import Connection, LargeBinary, Table, Text, text
from sqlalchemy.exc import DBAPIError, IntegrityError, OperationalError

from tollkeeper.errors import StoreUnavailable
from tollkeeper.ledger.dialect import SPEND_KEY, SPEND_SUMS, AnyRow
from tollkeeper.ledger.port import Move
from tollkeeper.ledger.rows import ChargedBefore, ChargeRow, PlainRow
from tollkeeper.ledger.tables import charge, spend

TAKE_OVER_AFTER_S = 2.0
"""How long a fold that has lost its partitions may hold them; then its session is ended.

A process that was stopped in the middle of a transaction would hold them for ever.
"""
CAREFUL_BATCHES = 20
"""How many batches after a repeated id are expected to have one as well: copying would be in vain."""

_FOLDS = 0x746F6C6C  # the class of our advisory locks, "toll": they share their space with others
_CAREFUL = "tollkeeper_careful_batches"
_CHARGE_COLUMNS = ("generation", *ChargeRow._fields)
_SPEND_COLUMNS = ("generation", *SPEND_KEY, *SPEND_SUMS)

# One after the other and no further than to the first that is taken: who waits for it then holds none
# behind it, so two folds can't wait for each other.
_TRY = text(
    """
    WITH RECURSIVE tried(count, is_ours) AS (
        SELECT 0, true
        UNION ALL
        SELECT count + 1,
            pg_try_advisory_xact_lock(:folds, (CAST(:partitions AS int4[]))[count + 1])
        FROM tried WHERE is_ours AND count < cardinality(CAST(:partitions AS int4[]))
    )
    SELECT bool_and(is_ours) FROM tried
    """
)
_WAIT = text("SELECT set_config('lock_timeout', :lock_timeout, true)")
_LOCK = text("SELECT count(pg_advisory_xact_lock(:folds, p)) FROM unnest(:partitions) AS p")
_END_HOLDERS = text(
    """
    SELECT count(pg_terminate_backend(pid)) FROM pg_locks
    WHERE locktype = 'advisory' AND granted AND pid <> pg_backend_pid()
        AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
        AND classid::bigint = :folds AND objid::bigint = ANY(:partitions) AND objsubid = 2
    """
)
_ADVANCE = text(
    """
    UPDATE consumer_offset AS o SET
        next_offset = m.next, last_record_hash = m.hash, last_appended_at = m.time,
        applied_offset = coalesce(m.applied, o.applied_offset)
    FROM unnest(
        CAST(:partitions AS int8[]), CAST(:firsts AS int8[]), CAST(:nexts AS int8[]),
        CAST(:identities AS text[]), CAST(:hashes AS bytea[]), CAST(:times AS int8[]),
        CAST(:applied AS int8[])
    ) AS m(partition, first, next, identity, hash, time, applied)
    WHERE o.generation = :generation AND o.log_partition = m.partition
        AND o.next_offset = m.first AND o.log_identity = m.identity
    """
)
_INSERT_STAGED = (
    f"INSERT INTO charge ({', '.join(_CHARGE_COLUMNS)}) SELECT {', '.join(_CHARGE_COLUMNS)} "
    "FROM staged_charge ORDER BY ctid ON CONFLICT DO NOTHING"
)
_BEFORE = text(
    """
    SELECT c.organization, c.event_id, c.payload_hash, c.log_partition, c.log_offset
    FROM staged_charge AS k JOIN charge AS c ON c.generation = k.generation
        AND c.organization = k.organization AND c.event_id = k.event_id
    """
)
ADD_STAGED_SPEND = (
    f"INSERT INTO spend ({', '.join(_SPEND_COLUMNS)}) SELECT {', '.join(_SPEND_COLUMNS)} "
    f"FROM staged_spend ORDER BY ctid ON CONFLICT (generation, {', '.join(SPEND_KEY)}) DO UPDATE SET "
    + ", ".join(f"{name} = spend.{name} + excluded.{name}" for name in SPEND_SUMS)
)


class PostgresqlDialect:
    """See `dialect.Dialect`."""

    def advance(self, connection: Connection, generation: int, moves: Sequence[Move]) -> bool:
        """All of them in one statement, under each partition's lock.

        Positions alone would be fence enough. The lock adds a name for whoever is in the way.
        """
        _lock(connection, generation, [move.partition for move in moves])
        moved = connection.execute(
            _ADVANCE,
            {
                "generation": generation,
                "partitions": [move.partition for move in moves],
                "firsts": [move.first_offset for move in moves],
                "nexts": [move.to.next_offset for move in moves],
                "identities": [move.to.log_identity for move in moves],
                "hashes": [move.to.last_record_hash for move in moves],
                "times": [move.to.last_appended_at for move in moves],
                "applied": [move.to.applied_offset for move in moves],
            },
        )
        return bool(moved.rowcount == len(moves))

    def insert_charges(
        self, connection: Connection, generation: int, rows: Sequence[PlainRow]
    ) -> Mapping[tuple[str, str], ChargedBefore]:
        """Copy them; where an id is there already, stage them and insert what is new."""
        if not rows:
            return {}
        numbered = [(generation, *row) for row in rows]
        careful = connection.info.get(_CAREFUL, 0)
        if not careful:
            try:
                with connection.begin_nested():
                    _copy(connection, charge, "charge", _CHARGE_COLUMNS, numbered)
                return {}
            except IntegrityError as repeated:
                if not isinstance(repeated.orig, psycopg.errors.UniqueViolation):
                    raise
                careful = CAREFUL_BATCHES
        connection.info[_CAREFUL] = careful - 1
        _stage(connection, charge, _CHARGE_COLUMNS, numbered)
        inserted = connection.exec_driver_sql(_INSERT_STAGED)
        if inserted.rowcount == len(rows):
            return {}
        return {(row[0], row[1]): ChargedBefore(*row[2:]) for row in connection.execute(_BEFORE)}

    def add_spend(self, connection: Connection, generation: int, rows: Sequence[PlainRow]) -> None:
        """Stage the rows and add them in one statement."""
        _stage(connection, spend, _SPEND_COLUMNS, [(generation, *row) for row in rows])
        connection.exec_driver_sql(ADD_STAGED_SPEND)

    def upsert(self, connection: Connection, table: Table, rows: Sequence[PlainRow]) -> None:
        """Stage the rows and insert or replace them in one statement."""
        _stage(connection, table, tuple(table.columns.keys()), rows)
        connection.exec_driver_sql(upsert_staged(table))

    def by_keys(
        self,
        connection: Connection,
        table: Table,
        names: tuple[str, ...],
        keys: Collection[tuple[object, ...]],
        generation: int | None = None,
        index: str | None = None,
    ) -> Iterator[AnyRow]:
        """Keys in arrays, and a lookup for each: of a new generation the planner believes that it
        is empty, and would rather read through all of it."""
        if not keys:
            return
        columns = zip(names, zip(*keys, strict=True), strict=True)
        parameters: dict[str, object] = {name: list(values) for name, values in columns}
        if generation is not None:
            parameters["generation"] = generation
        has_generation = generation is not None
        statement = text(_by_keys(table, names, has_generation, index)).columns(*table.columns)
        yield from connection.execute(statement, parameters)


POSTGRESQL = PostgresqlDialect()


def _lock(connection: Connection, generation: int, partitions: Sequence[int]) -> None:
    """Take each partition's lock; end the session of a fold that doesn't give it back."""
    # The generation counts in thousands at most, a partition too: together they fit 31 bits.
    keys = [generation % 2**15 << 16 | partition for partition in partitions]
    wanted = {"folds": _FOLDS, "partitions": keys}
    if connection.execute(_TRY, wanted).scalar():
        return
    if not _locked_in_time(connection, wanted):
        connection.execute(_END_HOLDERS, wanted)
        if not _locked_in_time(connection, wanted):
            raise StoreUnavailable(
                f"another fold of partitions {partitions} doesn't end; look for its session in "
                "pg_stat_activity"
            )


def _locked_in_time(connection: Connection, wanted: Mapping[str, object]) -> bool:
    """Wait for the locks, at most so long."""
    try:
        with connection.begin_nested():
            # Not DEFAULT afterwards: that would be the server's, and not what this session has set.
            before = connection.exec_driver_sql("SHOW lock_timeout").scalar()
            connection.execute(_WAIT, {"lock_timeout": f"{round(TAKE_OVER_AFTER_S * 1000)}ms"})
            connection.execute(_LOCK, wanted)
            connection.execute(_WAIT, {"lock_timeout": before})
    except OperationalError as refused:
        if isinstance(refused.orig, psycopg.errors.LockNotAvailable):
            return False
        raise
    return True


def _stage(
    connection: Connection, table: Table, columns: Sequence[str], rows: Iterable[PlainRow]
) -> None:
    """Rows into a temporary table like this one, which every commit empties."""
    staged = f"staged_{table.name}"
    connection.exec_driver_sql(
        f"CREATE TEMPORARY TABLE IF NOT EXISTS {staged} (LIKE {table.name}) ON COMMIT DELETE ROWS"
    )
    connection.exec_driver_sql(f"DELETE FROM {staged}")  # TRUNCATE makes a new file of it each time
    _copy(connection, table, staged, columns, rows)


def _copy(
    connection: Connection,
    table: Table,
    into: str,
    columns: Sequence[str],
    rows: Iterable[PlainRow],
) -> None:
    driver = connection.connection.driver_connection
    assert isinstance(driver, psycopg.Connection)
    statement = f"COPY {into} ({', '.join(columns)}) FROM STDIN (FORMAT binary)"
    with (
        _wrapped(connection, statement),
        driver.cursor() as cursor,
        cursor.copy(statement) as copy,
    ):
        copy.set_types([copy_type(table, name) for name in columns])
        write_row = copy.write_row
        for row in rows:
            write_row(row)


@contextmanager
def _wrapped(connection: Connection, statement: str) -> Iterator[None]:
    """The driver's errors as SQLAlchemy raises them, since COPY goes past it."""
    try:
        yield
    except psycopg.Error as error:
        raise DBAPIError.instance(
            statement, None, error, psycopg.Error, dialect=connection.dialect
        ) from error


def copy_type(table: Table, name: str) -> str:
    """The name of a column's type, as binary COPY must be told it."""
    kind = table.c[name].type
    if isinstance(kind, LargeBinary):
        return "bytea"
    return "text" if isinstance(kind, Text) else "int8"


@lru_cache(maxsize=32)
def upsert_staged(table: Table) -> str:
    """The statement that takes a table's staged rows over."""
    columns = [column.name for column in table.columns]
    keys = [column.name for column in table.primary_key]
    updates = [f"{name} = excluded.{name}" for name in columns if name not in keys]
    return (
        f"INSERT INTO {table.name} ({', '.join(columns)}) SELECT {', '.join(columns)} "
        f"FROM staged_{table.name} ORDER BY ctid "
        f"ON CONFLICT ({', '.join(keys)}) DO UPDATE SET {', '.join(updates)}"
    )


@lru_cache(maxsize=32)
def _by_keys(table: Table, names: tuple[str, ...], has_generation: bool, index: str | None) -> str:
    """OFFSET 0 keeps the lookup from becoming a join; hiding the generation, as `+ 0` does, keeps keys
    that begin with it from being mistaken for the index that was named."""
    arrays = ", ".join(f"CAST(:{name} AS {copy_type(table, name)}[])" for name in names)
    are_equal = " AND ".join(f"f.{name} = k.{name}" for name in names)
    hidden = "+ 0" if index else ""
    return (
        f"SELECT {', '.join(f't.{column.name}' for column in table.columns)} "
        f"FROM unnest({arrays}) AS k({', '.join(names)}) "
        f"CROSS JOIN LATERAL (SELECT * FROM {table.name} AS f WHERE {are_equal} "
        f"{f'AND f.generation {hidden} = :generation' if has_generation else ''} OFFSET 0) AS t"
    )
