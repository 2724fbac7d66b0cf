"""The relay: brings decided events to the log, one at a time of each stream, in order.

It may die anywhere and may run twice: then an event stands on the log twice, which the fold ignores by
version. What it never does is send a version before the one that precedes it was acknowledged.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

from sqlalchemy import Engine, update

from tollkeeper.failpoints import failpoint
from tollkeeper.log.port import Log, Outgoing
from tollkeeper.logline import LogLine
from tollkeeper.outbox.database import reading, writing
from tollkeeper.outbox.store import Decided, waiting
from tollkeeper.outbox.tables import decided_event

logger = logging.getLogger(__name__)

STREAMS_A_ROUND = 1_000


class Relay:
    """One relay; any number may run."""

    def __init__(self, engine: Engine, log: Log, *, check_log: Callable[[], None]) -> None:
        """`check_log` raises when this isn't the log to which the database's events belong."""
        self._engine = engine
        self._log = log
        self._check_log = check_log

    def run_once(self, stream_prefix: str = "", *, timeout_s: float = 10.0) -> int:
        """Send the oldest waiting event of each stream; answers how many were acknowledged.

        `stream_prefix` is one stream, or all below it when it ends in `/`, or all when it is empty.
        Raises LogUnavailable when the log is away: everything keeps waiting. So it does when this is
        another log, which raises LogDiverged.
        """
        with reading(self._engine) as connection:
            events = waiting(connection, stream_prefix=stream_prefix, limit=STREAMS_A_ROUND)
        if not events:
            return 0
        self._check_log()
        outgoing = [Outgoing(one.log_partition, one.record_key, one.value) for one in events]
        failpoint("relay.before_append")
        offsets = self._log.append(outgoing, timeout_s=timeout_s)
        failpoint("relay.after_append")
        self._acknowledge(events, offsets)
        failpoint("relay.after_mark")
        return len(events)

    def run_until_empty(self, stream_prefix: str = "", *, timeout_s: float = 10.0) -> int:
        """Send until nothing waits; bounded by what waits, since each round shortens every stream."""
        total = 0
        while sent := self.run_once(stream_prefix, timeout_s=timeout_s):
            total += sent
        return total

    def _acknowledge(self, events: list[Decided], offsets: list[int]) -> None:
        with writing(self._engine) as connection:
            for event, offset in zip(events, offsets, strict=True):
                connection.execute(
                    update(decided_event)
                    .where(
                        decided_event.c.stream == event.stream,
                        decided_event.c.version == event.version,
                        decided_event.c.log_offset.is_(None),  # the fold may have been faster
                    )
                    .values(log_offset=offset)
                )
                logger.debug(
                    LogLine(
                        "relayed",
                        stream=event.stream,
                        version=event.version,
                        command_id=event.command_id,
                        partition=event.log_partition,
                        offset=offset,
                    )
                )
