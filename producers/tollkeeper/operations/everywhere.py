"""Facts that every partition of the log carries: one stream each, all of them the same.

Each partition's stream is a beginning of the longest one: a command that finds a shorter one (SQL was
lost before the relay was done) first brings the facts that it lacks, as they stand on the others.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from msgspec.structs import replace
from sqlalchemy import Connection

from tollkeeper.outbox.store import Decided, newest_versions, read_stream


class Everywhere:
    """The streams of one kind of fact; `stream_of` names a partition's."""

    def __init__(self, partition_count: int, stream_of: Callable[[int], str]) -> None:
        self._partition_count = partition_count
        self._stream_of = stream_of

    @property
    def prefix(self) -> str:
        """What the streams of all partitions begin with."""
        return self._stream_of(0).removesuffix("0")

    def rows(self, value: bytes, version: int, *, command_id: str, now: int) -> list[Decided]:
        """One record for every partition, as the next version of each stream."""
        return [
            Decided(
                stream=self._stream_of(partition),
                version=version,
                log_partition=partition,
                record_key=None,
                value=value,
                command_id=command_id,
                decided_at=now,
            )
            for partition in range(self._partition_count)
        ]

    def longest(self, connection: Connection) -> list[Decided]:
        """The stream that has all there is."""
        versions = self._versions(connection)
        return read_stream(connection, self._stream_of(versions.index(max(versions))))

    def lacking(self, connection: Connection, longest: Sequence[Decided]) -> list[Decided]:
        """What the longest stream has and other partitions lack, as rows for those."""
        return [
            replace(
                row, stream=self._stream_of(partition), log_partition=partition, log_offset=None
            )
            for partition, version in enumerate(self._versions(connection))
            for row in longest[version:]
        ]

    def is_complete(self, connection: Connection) -> bool:
        """Whether all partitions have the same."""
        return len(set(self._versions(connection))) == 1

    def _versions(self, connection: Connection) -> list[int]:
        """The newest version of each partition's stream."""
        streams = [self._stream_of(number) for number in range(self._partition_count)]
        found = newest_versions(connection, streams)
        return [found.get(stream, 0) for stream in streams]
