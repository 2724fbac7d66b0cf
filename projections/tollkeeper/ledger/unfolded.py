"""Facts on the log that neither the fold nor the write side knows: SQL was set back behind them.

A command is answered when the log has its events, which may be long before the fold reads them. So a
database that was restored or lost in between shows it only here: on the log's unfolded end stands an
event that `decided_event` lacks. Deciding without it would give its version away a second time, and
the fold would ignore what the second caller heard was done.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from functools import cache

from sqlalchemy import Connection, Engine, select

from tollkeeper.errors import InvalidEvent, Undecodable, UnknownSchema
from tollkeeper.events.codec import decode
from tollkeeper.events.gate import DefaultGatePolicySet
from tollkeeper.events.organization import OrganizationFact
from tollkeeper.events.prices import PricesPublished, PricesWithdrawn
from tollkeeper.events.quarantine import QuarantineDiscarded, QuarantineReleased
from tollkeeper.events.registry import registry
from tollkeeper.log.port import Log, LogRecord
from tollkeeper.outbox.database import reading
from tollkeeper.outbox.streams import (
    organization_stream,
    policies_stream,
    prices_stream,
    quarantine_stream,
)
from tollkeeper.outbox.tables import decided_event

RECORDS_A_READ = 2_000


class UnfoldedFacts:
    """Looks through a partition's unfolded end; every record once in the life of this object.

    Usage, nearly all of it, is told by its first five bytes and costs no more than being read.
    """

    def __init__(self, engine: Engine, log: Log) -> None:
        self._engine = engine
        self._log = log
        self._known_until: dict[int, int] = {}

    def is_lacking(self, partition: int, next_offset: int) -> bool:
        """Whether a fact from `next_offset` up to the end as it is now isn't known to SQL."""
        end = self._log.end_offsets()[partition]
        offset = max(next_offset, self._known_until.get(partition, 0))
        while offset < end:
            records = self._log.read(partition, offset, max_records=RECORDS_A_READ)
            if not records:
                break
            if self._lacks(records):
                return True
            offset = records[-1].next_offset
            self._known_until[partition] = offset
        return False

    def _lacks(self, records: Sequence[LogRecord]) -> bool:
        facts = [(stream, one.value) for one in records if (stream := _stream_of(one))]
        if not facts:
            return False
        with reading(self._engine) as connection:
            known: dict[str, set[bytes]] = {}
            for stream, value in facts:
                if stream not in known:
                    known[stream] = _values(connection, stream)
                if value not in known[stream]:
                    return True
        return False


def _values(connection: Connection, stream: str) -> set[bytes]:
    columns = decided_event.c
    return set(connection.execute(select(columns.value).where(columns.stream == stream)).scalars())


def _stream_of(record: LogRecord) -> str | None:
    """The stream of a decided event; None for all else."""
    if record.value[:5] in _usage_headers():
        return None
    try:
        event = decode(record.value)
    except (Undecodable, InvalidEvent, UnknownSchema):
        return None  # quarantined by the fold, or its stop; no command of this release wrote it
    if isinstance(event, OrganizationFact):
        return organization_stream(event.organization)
    if isinstance(event, PricesPublished | PricesWithdrawn):
        return prices_stream(record.partition)
    if isinstance(event, DefaultGatePolicySet):
        return policies_stream(record.partition)
    if isinstance(event, QuarantineReleased | QuarantineDiscarded):
        return quarantine_stream(event.letter_partition, event.letter_offset)
    return None


@cache
def _usage_headers() -> frozenset[bytes]:
    return frozenset(
        struct.pack(">BI", 0, number)
        for number, schema in registry().by_id.items()
        if schema.event == "UsageRecorded"
    )
