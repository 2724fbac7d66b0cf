"""Inserting charges: the ledger's fastest statement, and its dedupe by primary key."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from operator import itemgetter

from sqlalchemy import Connection, text

from tollkeeper.ledger.rows import ChargedBefore, ChargeRow, PlainRow

_COLUMNS = ", ".join(ChargeRow._fields)
_MARKS = ", ".join("?" * len(ChargeRow._fields))

_KEY = itemgetter(ChargeRow._fields.index("organization"), ChargeRow._fields.index("event_id"))

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


def insert_charges(
    connection: Connection, generation: int, rows: Sequence[PlainRow]
) -> Mapping[tuple[str, str], ChargedBefore]:
    """See `port.LedgerTransaction.insert_charges`; this one is SQLite's.

    Rows go to the driver as they are: SQLAlchemy's own executemany would cost as much again.
    """
    if not rows:
        return {}
    inserted = connection.exec_driver_sql(
        f"INSERT INTO charge (generation, {_COLUMNS}) VALUES ({generation:d}, {_MARKS}) "
        "ON CONFLICT DO NOTHING",
        rows,
    )
    if inserted.rowcount == len(rows):
        return {}
    keys = json.dumps([_KEY(row) for row in rows])
    found = connection.execute(_BEFORE, {"keys": keys, "generation": generation})
    return {(row[0], row[1]): ChargedBefore(*row[2:]) for row in found}
