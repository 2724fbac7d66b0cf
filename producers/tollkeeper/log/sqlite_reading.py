"""Queries on the partitions of the embedded log. Run on the caller's connection."""

from __future__ import annotations

import sqlite3
from itertools import starmap

from tollkeeper.log.port import LogRecord


def read_records(
    connection: sqlite3.Connection, partition: int, offset: int, max_records: int
) -> list[LogRecord]:
    """At most `max_records` records of the partition from `offset` on, in order."""
    rows = connection.execute(
        f'SELECT {partition:d}, "offset", key, value, appended_at FROM partition_{partition:d}'
        ' WHERE "offset" >= ? ORDER BY "offset" LIMIT ?',
        (offset, max_records),
    )
    return list(starmap(LogRecord, rows))


def end_offset(connection: sqlite3.Connection, partition: int) -> int:
    """The next offset to be written."""
    (last,) = connection.execute(f'SELECT max("offset") FROM partition_{partition:d}').fetchone()
    return 0 if last is None else int(last) + 1


def start_offset(connection: sqlite3.Connection, partition: int) -> int:
    """The first offset still stored, or 0 in an empty partition."""
    (first,) = connection.execute(f'SELECT min("offset") FROM partition_{partition:d}').fetchone()
    return 0 if first is None else int(first)
