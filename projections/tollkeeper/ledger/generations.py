"""Which generation is live, and how far a generation has folded: read by folds and by every query."""

from __future__ import annotations

from sqlalchemy import Connection, select

from tollkeeper.errors import BrokenInvariant
from tollkeeper.ledger.port import Position
from tollkeeper.ledger.tables import consumer_offset, generation


def live_generation(connection: Connection) -> int:
    """The generation that queries read. Raises BrokenInvariant when there is none."""
    found = connection.execute(
        select(generation.c.generation).where(generation.c.status == "live")
    ).scalar()
    if found is None:
        raise BrokenInvariant("the database has no live generation: run `tollkeeper setup`")
    return int(found)


def positions(connection: Connection, number: int) -> dict[int, Position]:
    """The generation's position on each partition; a generation without rows was retired."""
    table = consumer_offset
    rows = connection.execute(
        select(
            table.c.log_partition,
            table.c.next_offset,
            table.c.log_identity,
            table.c.last_record_hash,
            table.c.last_appended_at,
            table.c.applied_offset,
        ).where(table.c.generation == number)
    )
    return {row[0]: Position(*row[1:]) for row in rows}
