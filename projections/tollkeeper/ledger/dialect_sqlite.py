"""The ledger's statements on SQLite: rows go to the driver as they are, keys in one JSON parameter.

SQLAlchemy's own executemany would cost as much again as the driver's.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from functools import lru_cache
from operator import itemgetter

from sqlalchemy import Connection, Table, TextualSelect, func, text, update

from tollkeeper.ledger.dialect import SPEND_KEY, SPEND_SUMS, AnyRow
from tollkeeper.ledger.port import Move
from tollkeeper.ledger.rows import ChargedBefore, ChargeRow, PlainRow
from tollkeeper.ledger.tables import consumer_offset

_CHARGE_COLUMNS = ", ".join(ChargeRow._fields)
_CHARGE_MARKS = ", ".join("?" * len(ChargeRow._fields))
_CHARGE_KEY = itemgetter(
    ChargeRow._fields.index("organization"), ChargeRow._fields.index("event_id")
)

# One parameter whatever the batch's size. CROSS JOIN fixes the order: left to itself the planner reads
# the whole history and searches the batch for each of its rows.
_BEFORE = text(
    """
    SELECT c.organization, c.event_id, c.payload_hash, c.log_partition, c.log_offset
    FROM json_each(:keys) AS k
    CROSS JOIN charge AS c ON c.generation = :generation
        AND c.organization = k.value ->> 0 AND c.event_id = k.value ->> 1
    """
)

_SPEND = (*SPEND_KEY, *SPEND_SUMS)
_ADD_SPEND = (
    f"INSERT INTO spend (generation, {', '.join(_SPEND)}) VALUES (",
    f"{', ?' * len(_SPEND)}) ON CONFLICT (generation, {', '.join(SPEND_KEY)}) DO UPDATE SET "
    + ", ".join(f"{name} = {name} + excluded.{name}" for name in SPEND_SUMS),
)


class SqliteDialect:
    """See `dialect.Dialect`."""

    def advance(self, connection: Connection, generation: int, moves: Sequence[Move]) -> bool:
        """Nobody else is here: a transaction that may write has begun IMMEDIATE."""
        table = consumer_offset
        for move in moves:
            moved = connection.execute(
                update(table)
                .where(
                    table.c.generation == generation,
                    table.c.log_partition == move.partition,
                    table.c.next_offset == move.first_offset,
                    table.c.log_identity == move.to.log_identity,
                )
                .values(
                    next_offset=move.to.next_offset,
                    last_record_hash=move.to.last_record_hash,
                    last_appended_at=move.to.last_appended_at,
                    applied_offset=func.coalesce(move.to.applied_offset, table.c.applied_offset),
                )
            )
            if moved.rowcount == 0:
                return False
        return True

    def insert_charges(
        self, connection: Connection, generation: int, rows: Sequence[PlainRow]
    ) -> Mapping[tuple[str, str], ChargedBefore]:
        """Insert, and look up what stood there before only when some rows weren't inserted."""
        if not rows:
            return {}
        inserted = connection.exec_driver_sql(
            f"INSERT INTO charge (generation, {_CHARGE_COLUMNS}) "
            f"VALUES ({generation:d}, {_CHARGE_MARKS}) ON CONFLICT DO NOTHING",
            rows,
        )
        if inserted.rowcount == len(rows):
            return {}
        keys = json.dumps([_CHARGE_KEY(row) for row in rows])
        found = connection.execute(_BEFORE, {"keys": keys, "generation": generation})
        return {(row[0], row[1]): ChargedBefore(*row[2:]) for row in found}

    def add_spend(self, connection: Connection, generation: int, rows: Sequence[PlainRow]) -> None:
        """STRICT tables refuse the float that an overflowing sum becomes."""
        connection.exec_driver_sql(f"{_ADD_SPEND[0]}{generation:d}{_ADD_SPEND[1]}", rows)

    def upsert(self, connection: Connection, table: Table, rows: Sequence[PlainRow]) -> None:
        """One prepared statement, stepped once a row."""
        connection.exec_driver_sql(_upsert_into(table), list(rows))

    def by_keys(
        self,
        connection: Connection,
        table: Table,
        names: tuple[str, ...],
        keys: Collection[tuple[object, ...]],
        generation: int | None = None,
        index: str | None = None,
    ) -> Iterator[AnyRow]:
        """SQLite can't look up a list of combined keys, and guesses that walking through a generation is
        cheaper than many lookups: CROSS JOIN and the index's name leave it no choice."""
        if not keys:
            return
        parameters: dict[str, object] = {"keys": json.dumps(list(keys))}
        if generation is not None:
            parameters["generation"] = generation
        statement = _by_keys(table, names, generation is not None, index)
        yield from connection.execute(statement, parameters)


SQLITE = SqliteDialect()


@lru_cache(maxsize=32)
def _upsert_into(table: Table) -> str:
    columns = [column.name for column in table.columns]
    keys = [column.name for column in table.primary_key]
    updates = [f"{name} = excluded.{name}" for name in columns if name not in keys]
    return (
        f"INSERT INTO {table.name} ({', '.join(columns)}) VALUES ({', '.join('?' * len(columns))}) "
        f"ON CONFLICT ({', '.join(keys)}) DO UPDATE SET {', '.join(updates)}"
    )


@lru_cache(maxsize=32)
def _by_keys(
    table: Table, names: tuple[str, ...], has_generation: bool, index: str | None
) -> TextualSelect:
    are_equal = " AND ".join(f"t.{name} = k.value ->> {n}" for n, name in enumerate(names))
    return text(
        f"SELECT {', '.join(f't.{column.name}' for column in table.columns)} "
        f"FROM json_each(:keys) AS k CROSS JOIN {table.name} AS t "
        f"{f'INDEXED BY {index} ' if index else ''}"
        f"ON {are_equal} "
        f"{'AND t.generation = :generation' if has_generation else ''}"
    ).columns(*table.columns)
