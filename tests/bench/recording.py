"""What a fold wrote to PostgreSQL, batch by batch, taken down to be written again by a bare loop."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

from tollkeeper.ledger.dialect_postgresql import PostgresqlDialect

Row = tuple[Any, ...]


class Written:
    """The rows of one transaction. Charges and spend begin with the generation."""

    def __init__(self) -> None:
        self.charges: list[Row] = []
        self.spend: list[Row] = []
        self.upserts: list[tuple[str, list[Row]]] = []
        self.ends: dict[int, int] = {}


@contextmanager
def recorded() -> Iterator[list[Written]]:
    """Take down every transaction of this process while this is open."""
    batches: list[Written] = []
    insert_charges, add_spend = PostgresqlDialect.insert_charges, PostgresqlDialect.add_spend
    upsert, advance = PostgresqlDialect.upsert, PostgresqlDialect.advance

    def on_advance(self: Any, connection: Any, generation: int, moves: Any) -> bool:
        batches.append(Written())
        batches[-1].ends = {move.partition: move.to.next_offset for move in moves}
        return advance(self, connection, generation, moves)

    def on_charges(self: Any, connection: Any, generation: int, rows: Any) -> Any:
        batches[-1].charges = [(generation, *row) for row in rows]
        return insert_charges(self, connection, generation, rows)

    def on_spend(self: Any, connection: Any, generation: int, rows: Any) -> None:
        batches[-1].spend = [(generation, *row) for row in rows]
        add_spend(self, connection, generation, rows)

    def on_upsert(self: Any, connection: Any, table: Any, rows: Any) -> None:
        batches[-1].upserts.append((str(table.name), list(rows)))
        upsert(self, connection, table, rows)

    with (
        patch.object(PostgresqlDialect, "advance", on_advance),
        patch.object(PostgresqlDialect, "insert_charges", on_charges),
        patch.object(PostgresqlDialect, "add_spend", on_spend),
        patch.object(PostgresqlDialect, "upsert", on_upsert),
    ):
        yield batches
