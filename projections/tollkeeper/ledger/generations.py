"""Which generation is live, and how far a generation has folded: read by folds and by every query."""

from __future__ import annotations

from sqlalchemy import Connection, bindparam, select

from tollkeeper.errors import BrokenInvariant
from tollkeeper.ledger.port import Position
from tollkeeper.ledger.tables import consumer_offset, generation

_LIVE = select(generation.c.generation).where(generation.c.status == "live")
_POSITIONS = select(
    consumer_offset.c.log_partition,
    consumer_offset.c.next_offset,
    consumer_offset.c.log_identity,
    consumer_offset.c.last_record_hash,
    consumer_offset.c.last_appended_at,
    consumer_offset.c.applied_offset,
).where(consumer_offset.c.generation == bindparam("number"))


def live_generation(connection: Connection) -> int:
    """The generation that queries read. Raises BrokenInvariant when there is none."""
    found = connection.execute(_LIVE).scalar()
    if found is None:
        raise BrokenInvariant("the database has no live generation: run `tollkeeper setup`")
    return int(found)


def positions(connection: Connection, number: int) -> dict[int, Position]:
    """The generation's position on each partition; a generation without rows was retired."""
    rows = connection.execute(_POSITIONS, {"number": number})
    return {row[0]: Position(*row[1:]) for row in rows}
