"""What differs between databases in how the ledger is read and written: one small port, two adapters.

Everything here runs on the caller's connection, inside the caller's transaction.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any, Protocol, TypeAlias

from sqlalchemy import Connection, Row, Table

from tollkeeper.errors import Misuse
from tollkeeper.ledger.port import Move
from tollkeeper.ledger.rows import ChargedBefore, PlainRow
from tollkeeper.ledger.tables import COUNT_COLUMNS, NANOS_COLUMNS

AnyRow: TypeAlias = Row[tuple[Any, ...]]

SPEND_KEY = ("organization", "period_start", "day", "member", "surface", "model")
SPEND_SUMS = ("events", *COUNT_COLUMNS, *NANOS_COLUMNS)


class Dialect(Protocol):
    """How one kind of database does what the ledger asks of it."""

    def advance(self, connection: Connection, generation: int, moves: Sequence[Move]) -> bool:
        """See `port.LedgerTransaction.advance`; the moves come in the order of partitions.

        Raises StoreUnavailable when another fold of theirs doesn't end in a bounded time.
        """
        ...

    def insert_charges(
        self, connection: Connection, generation: int, rows: Sequence[PlainRow]
    ) -> Mapping[tuple[str, str], ChargedBefore]:
        """See `port.LedgerTransaction.insert_charges`."""
        ...

    def add_spend(self, connection: Connection, generation: int, rows: Sequence[PlainRow]) -> None:
        """Add to the table `spend`; a row is SPEND_KEY and SPEND_SUMS, the rows sorted by key.

        Raises IntegrityError or DataError when a sum leaves the range of 64 bits.
        """
        ...

    def upsert(self, connection: Connection, table: Table, rows: Sequence[PlainRow]) -> None:
        """Insert rows in the table's column order, or replace those with their primary key."""
        ...

    def by_keys(
        self,
        connection: Connection,
        table: Table,
        names: tuple[str, ...],
        keys: Collection[tuple[object, ...]],
        generation: int | None = None,
        index: str | None = None,
    ) -> Iterator[AnyRow]:
        """The table's rows whose columns `names` have one of these combinations of values, in no order.

        `index` names the one that leads to them, for a planner that wouldn't see it.
        """
        ...


def dialect_of(connection: Connection) -> Dialect:
    """The adapter for this connection's database; each loads its driver only when it is used."""
    match connection.dialect.name:
        case "sqlite":
            from tollkeeper.ledger import dialect_sqlite

            return dialect_sqlite.SQLITE
        case "postgresql":
            from tollkeeper.ledger import dialect_postgresql

            return dialect_postgresql.POSTGRESQL
        case other:
            raise Misuse(f"the ledger runs on SQLite and PostgreSQL, not on {other}")
