"""Emitters as the log has them: who may have holds, and who was retired, where and since when."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping

import msgspec
from sqlalchemy import Connection, Select, func, literal_column, select, union_all

from tollkeeper.ledger.dialect import dialect_of
from tollkeeper.ledger.tables import emitter

_COLUMNS = emitter.c
PARTITIONS_A_QUERY = 100


class Emitters(msgspec.Struct, frozen=True):
    """All that any partition has seen. Who is retired on one is retired, and may not hold any more."""

    started: tuple[str, ...]
    retired: tuple[str, ...]


def emitters(connection: Connection, generation: int) -> Emitters:
    """What a new epoch's list is made of."""
    found = connection.execute(
        select(_COLUMNS.emitter, func.max(_COLUMNS.retired_offset))
        .where(_COLUMNS.generation == generation)
        .group_by(_COLUMNS.emitter)
        .order_by(_COLUMNS.emitter)
    ).all()
    return Emitters(
        started=tuple(name for name, retired_offset in found if retired_offset is None),
        retired=tuple(name for name, retired_offset in found if retired_offset is not None),
    )


def retired_since(
    connection: Connection, generation: int, partition: int, offset: int
) -> tuple[str, ...]:
    """Those whose retirement this partition has at `offset` or after it."""
    return tuple(sorted(retired_from(connection, generation, {partition: offset})[partition]))


def retired_from(
    connection: Connection, generation: int, offsets: Mapping[int, int]
) -> defaultdict[int, set[str]]:
    """The same for many partitions, each from an offset of its own."""
    found: defaultdict[int, set[str]] = defaultdict(set)
    ordered = sorted(offsets.items())
    for at in range(0, len(ordered), PARTITIONS_A_QUERY):
        # One lookup each: in a single condition a planner would see but one third of the table.
        branches = [
            _retired_from(generation, *one) for one in ordered[at : at + PARTITIONS_A_QUERY]
        ]
        for row in connection.execute(union_all(*branches)):
            found[row.log_partition].add(row.emitter)
    return found


def retired_among(
    connection: Connection, generation: int, seen: Collection[tuple[int, str]]
) -> defaultdict[int, set[str]]:
    """By partition, which of these emitters (partition, name) were retired there."""
    found: defaultdict[int, set[str]] = defaultdict(set)
    for row in dialect_of(connection).by_keys(
        connection, emitter, ("log_partition", "emitter"), seen, generation
    ):
        if row.retired_offset is not None:
            found[row.log_partition].add(row.emitter)
    return found


def _retired_from(generation: int, partition: int, offset: int) -> Select[tuple[int, str]]:
    # The generation is hidden, so that the key which begins with it isn't mistaken for the index.
    return select(_COLUMNS.log_partition, _COLUMNS.emitter).where(
        _COLUMNS.generation + literal_column("0") == generation,
        _COLUMNS.log_partition == partition,
        _COLUMNS.retired_offset >= offset,
    )
