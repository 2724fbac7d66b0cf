"""What may be appended and read: the same on every log, checked before anything is sent."""

from __future__ import annotations

from collections.abc import Sequence

from tollkeeper.errors import InvalidInput, Misuse
from tollkeeper.log.port import MAX_RECORD_BYTES, Outgoing


def check_outgoing(records: Sequence[Outgoing], partition_count: int) -> int:
    """The bytes of all records; InvalidInput or Misuse when one of them can't be appended."""
    total = 0
    for record in records:
        check_partition(record.partition, partition_count)
        size = len(record.value) + len(record.key or b"")
        if size > MAX_RECORD_BYTES:
            raise InvalidInput(
                "value", f"key and value have at most {MAX_RECORD_BYTES} bytes, not {size}"
            )
        total += size
    return total


def check_partition(partition: int, partition_count: int) -> None:
    """Misuse when there is no such partition."""
    if not 0 <= partition < partition_count:
        raise Misuse(f"partition {partition} isn't one of 0 to {partition_count - 1}")


def check_offset(verb: str, offset: int) -> None:
    """Misuse when the offset is negative."""
    if offset < 0:
        raise Misuse(f"{verb}: offset {offset} is negative")
