"""Is this still the log that a generation was folded from? Checked before a fold goes on."""

from __future__ import annotations

from hashlib import blake2b

from tollkeeper.errors import LogDiverged
from tollkeeper.ledger.port import Position
from tollkeeper.log.port import Log, LogRecord


def record_hash(record: LogRecord) -> bytes:
    """Identifies the record at its place: kept with the position, checked when reading goes on."""
    state = blake2b(f"{record.partition}/{record.offset}/".encode(), digest_size=16)
    state.update(record.key or b"")
    state.update(b"/")
    state.update(record.value)
    return state.digest()


def check_same_log(log: Log, partition: int, position: Position) -> None:
    """The record before a position must be the one that was folded last; raises LogDiverged."""
    if position.log_identity != log.identity:
        raise LogDiverged(
            f"partition {partition} was folded from log {position.log_identity}, but this is log "
            f"{log.identity}: it was recreated; find the old log, or begin with an empty database",
            partition=partition,
        )
    _check_nothing_was_deleted(log, partition, position.next_offset)
    if position.next_offset == 0:
        return
    found = log.read(partition, position.next_offset - 1, max_records=1)
    if not found or found[0].offset != position.next_offset - 1:
        raise LogDiverged(
            f"partition {partition} was folded up to offset {position.next_offset}, but the log ends at "
            f"{log.end_offsets()[partition]}: it was truncated or restored to an older state",
            partition=partition,
        )
    if record_hash(found[0]) != position.last_record_hash:
        raise LogDiverged(
            f"partition {partition}: the record at offset {found[0].offset} isn't the one that was "
            "folded: the log was rewritten or restored from elsewhere",
            partition=partition,
        )


def _check_nothing_was_deleted(log: Log, partition: int, next_offset: int) -> None:
    """The record before `next_offset`, or the first one, must still be there."""
    start = log.start_offsets()[partition]
    if start > max(0, next_offset - 1):
        raise LogDiverged(
            f"partition {partition} was folded up to offset {next_offset}, but the log begins at {start}: "
            "records were deleted; restore the topic, and see that its retention is unlimited",
            partition=partition,
        )
