"""How fresh a figure is: what the log has that the ledger hasn't folded yet (RULES R32)."""

from __future__ import annotations

from collections.abc import Collection

import msgspec
from sqlalchemy import Connection

from tollkeeper.errors import LogUnavailable
from tollkeeper.ledger.generations import live_generation, positions
from tollkeeper.log.port import Log
from tollkeeper.money.instants import MICROS_PER_SECOND
from tollkeeper.reports.documents import instant


class Freshness(msgspec.Struct, frozen=True):
    """`lag_events` and `lag_s` are None when the log couldn't be asked, or is another or shorter one.

    `as_of_micros` is the instant up to which the figures are complete: now when nothing lags, else when
    the last folded record reached the log; None when nothing was ever folded.
    """

    as_of_micros: int | None
    lag_events: int | None
    lag_s: float | None
    positions: dict[int, int]

    @property
    def is_stale(self) -> bool:
        """Whether records wait to be folded, or nobody knows."""
        return self.lag_events != 0

    def as_document(self) -> dict[str, object]:
        """The keys that the command line promises."""
        return {
            "as_of": instant(self.as_of_micros),
            "lag_events": self.lag_events,
            "lag_s": self.lag_s,
            "positions": {str(partition): offset for partition, offset in self.positions.items()},
        }


def freshness(
    connection: Connection, log: Log, *, now: int, partitions: Collection[int] | None = None
) -> Freshness:
    """The freshness of the live ledger on some partitions, or on all of them."""
    known = positions(connection, live_generation(connection))
    chosen = {
        partition: position
        for partition, position in sorted(known.items())
        if partitions is None or partition in partitions
    }
    reached = {partition: position.next_offset for partition, position in chosen.items()}
    appended = [one.last_appended_at for one in chosen.values() if one.last_appended_at is not None]
    last_folded = max(appended, default=None)
    try:
        ends = log.end_offsets()
        if any(
            position.log_identity != log.identity or ends[partition] < position.next_offset
            for partition, position in chosen.items()
        ):
            return Freshness(last_folded, None, None, reached)
        waiting = {
            partition: ends[partition] - offset
            for partition, offset in reached.items()
            if ends[partition] > offset
        }
        oldest = [log.read(partition, reached[partition], max_records=1) for partition in waiting]
    except LogUnavailable:
        return Freshness(last_folded, None, None, reached)
    if not waiting:
        return Freshness(now, 0, 0.0, reached)
    since = min((records[0].appended_at for records in oldest if records), default=now)
    lag_s = max(0, now - since) / MICROS_PER_SECOND
    return Freshness(last_folded, sum(waiting.values()), lag_s, reached)
