"""The log port: what Tollkeeper needs of a log, with Kafka's semantics. Every adapter passes one suite.

A log has a fixed number of partitions; a partition is a gapless sequence of records with offsets from
0. Adapters know bytes, never events.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

import msgspec

MAX_RECORD_BYTES = 1_000_000  # of key and value; Kafka's default limit is 1 MiB with its framing


class LogRecord(msgspec.Struct, frozen=True, gc=False):
    """One record as read. `appended_at` is the log's own time in microseconds since the epoch."""

    partition: int
    offset: int
    key: bytes | None
    value: bytes
    appended_at: int

    @property
    def next_offset(self) -> int:
        """The offset after this record: where reading goes on."""
        return self.offset + 1


class Outgoing(msgspec.Struct, frozen=True, gc=False):
    """One record to append; `partition` is chosen by the caller (see `partitioner`)."""

    partition: int
    key: bytes | None
    value: bytes


class LogConsumer(Protocol):
    """A member of a consumer group. Its position is the caller's: nothing is read before `seek`.

    Group membership is *not* a fence: after a pause another member may own the partitions.
    """

    def poll(self, *, max_records: int, timeout_s: float) -> list[LogRecord]:
        """Records of the owned partitions that were positioned, in offset order within a partition.

        Returns at once when there are records, else waits up to `timeout_s`. Also keeps the membership
        alive and takes part in rebalances. Raises LogUnavailable, LogDiverged when a position lies
        outside of what a partition stores, LogGap when nothing stands at it but the log goes on, and
        LogCorrupt for failed checksums; the partition that such an error names has no position then,
        the others keep theirs.
        """
        ...

    @property
    def assignment(self) -> frozenset[int]:
        """The partitions owned as of the last `poll`. A partition that was newly assigned has no
        position: `poll` returns nothing of it until `seek`."""
        ...

    @property
    def assignment_epoch(self) -> int:
        """Grows with every change of the assignment, also when the same partitions come back."""
        ...

    def seek(self, partition: int, offset: int) -> None:
        """Position an owned partition."""
        ...

    def commit(self, next_offsets: Mapping[int, int]) -> None:
        """Publish progress for lag tools; never the truth, and lost quietly if ownership was lost."""
        ...

    def close(self) -> None:
        """Leave the group at once, so that others take over without waiting for the session's end."""
        ...


class Log(Protocol):
    """A log as a whole; cheap to open, safe to use from several threads."""

    @property
    def partition_count(self) -> int: ...

    @property
    def identity(self) -> str:
        """An id that a recreated log doesn't share."""
        ...

    def append(self, records: Sequence[Outgoing], *, timeout_s: float = 10.0) -> list[int]:
        """Append durably and answer each record's offset, in order.

        Raises LogUnavailable when any wasn't acknowledged; some may still stand on the log then, so a
        caller who tries again must tolerate duplicates. Order within a partition is kept. Raises
        InvalidInput, with nothing appended, for a record of more than MAX_RECORD_BYTES.
        """
        ...

    def read(self, partition: int, offset: int, *, max_records: int) -> list[LogRecord]:
        """Records from `offset` on, without a group; empty at the end."""
        ...

    def start_offsets(self) -> dict[int, int]:
        """The first offset still stored, of each partition."""
        ...

    def end_offsets(self) -> dict[int, int]:
        """The next offset to be written, of each partition."""
        ...

    def committed(self, group: str) -> dict[int, int]:
        """What the group committed last; partitions without a commit are absent."""
        ...

    def owners(self, group: str) -> dict[int, str]:
        """Which member of the group owns each partition, for people; what nobody owns is absent."""
        ...

    def consumer(self, group: str) -> LogConsumer:
        """Join a group."""
        ...

    def close(self) -> None: ...
