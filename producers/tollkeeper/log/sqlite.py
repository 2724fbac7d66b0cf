"""The embedded log: Kafka's semantics in one SQLite file, for one machine and any number of processes.

An append is one transaction and durable when it returns. Knows bytes, never events.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path

from tollkeeper.errors import InvalidInput
from tollkeeper.failpoints import failpoint
from tollkeeper.log import sqlite_group
from tollkeeper.log.checks import check_offset, check_outgoing, check_partition
from tollkeeper.log.port import LogRecord, Outgoing
from tollkeeper.log.sqlite_consumer import SqliteConsumer
from tollkeeper.log.sqlite_errors import unavailable
from tollkeeper.log.sqlite_file import LogFile
from tollkeeper.log.sqlite_reading import end_offset, read_records, start_offset

SESSION_TIMEOUT_S = 6.0
MAX_POLL_INTERVAL_S = 300.0


def now_micros() -> int:
    """The wall clock in microseconds since the epoch."""
    return time.time_ns() // 1000


class SqliteLog:
    """An adapter of the port. Making one costs nothing: the file is opened or created at first use.

    The directory must exist. `partitions` is fixed when the file is created; opening it with another
    count raises InvalidInput. Safe to share between threads and to carry through a fork; consumers stay
    in the process that made them.
    """

    def __init__(
        self,
        path: Path,
        *,
        partitions: int = 8,
        clock: Callable[[], int] = now_micros,
        session_timeout_s: float = SESSION_TIMEOUT_S,
        max_poll_interval_s: float = MAX_POLL_INTERVAL_S,
    ) -> None:
        if partitions < 1:
            raise InvalidInput("partitions", f"must be at least 1, not {partitions}")
        self._file = LogFile(path, partitions)
        self._clock = clock
        self._session_timeout_s = session_timeout_s
        self._max_poll_interval_s = max_poll_interval_s

    @property
    def partition_count(self) -> int:
        """The fixed number of partitions."""
        return self._file.partitions

    @property
    def identity(self) -> str:
        """Random, made with the file: a recreated log has another."""

        def read(connection: sqlite3.Connection) -> str:
            (identity,) = connection.execute("SELECT identity FROM log").fetchone()
            return str(identity)

        return self._file.read(read)

    def append(self, records: Sequence[Outgoing], *, timeout_s: float = 10.0) -> list[int]:
        """Append all in one transaction and answer their offsets, in order.

        Raises LogUnavailable when the disk is full, the file is locked for `timeout_s` or can't be
        written; nothing of the call stands on the log then, except after a failed fsync or when the
        process was interrupted behind the commit.
        """
        if not records:
            return []
        payload_bytes = check_outgoing(records, self.partition_count)
        try:
            failpoint("log.before_append")
            offsets = self._file.write(
                lambda connection: self._insert(connection, records),
                payload_bytes=payload_bytes,
                timeout_s=timeout_s,
            )
            failpoint("log.after_append")
        except OSError as error:
            raise unavailable(self._file.path, error) from error
        return offsets

    def read(self, partition: int, offset: int, *, max_records: int) -> list[LogRecord]:
        """Records from `offset` on, without a group; empty at the end."""
        check_partition(partition, self.partition_count)
        check_offset("read", offset)
        return self._file.read(
            lambda connection: read_records(connection, partition, offset, max_records)
        )

    def start_offsets(self) -> dict[int, int]:
        """The first offset still stored, of each partition."""
        return self._file.read(
            lambda connection: {p: start_offset(connection, p) for p in range(self.partition_count)}
        )

    def end_offsets(self) -> dict[int, int]:
        """The next offset to be written, of each partition."""
        return self._file.read(
            lambda connection: {p: end_offset(connection, p) for p in range(self.partition_count)}
        )

    def committed(self, group: str) -> dict[int, int]:
        """What the group committed last; partitions without a commit are absent."""
        return self._file.read(
            lambda connection: dict(
                connection.execute(
                    "SELECT partition, next_offset FROM group_commit WHERE group_name = ?", (group,)
                ).fetchall()
            )
        )

    def owners(self, group: str) -> dict[int, str]:
        """Which member of the group owns each partition; what nobody owns is absent."""
        return self._file.read(lambda connection: sqlite_group.owners(connection, group))

    def consumer(self, group: str) -> SqliteConsumer:
        """A member of the group; it joins at its first `poll`."""
        return SqliteConsumer(
            self._file,
            group,
            session_timeout_s=self._session_timeout_s,
            max_poll_interval_s=self._max_poll_interval_s,
        )

    def back_up(self, to: Path) -> None:
        """Copy the whole log into a new file, while others append. Copying the file itself isn't enough:
        what was appended last stands in another one (SQLite's WAL)."""
        try:
            to.touch(exist_ok=False)
            with closing(sqlite3.connect(to)) as copy:
                self._file.read(lambda connection: connection.backup(copy))
        except (OSError, sqlite3.Error) as error:
            raise unavailable(to, error) from error

    def close(self) -> None:
        """Close the file; consumers are closed by their owners."""
        self._file.close()

    def _insert(self, connection: sqlite3.Connection, records: Sequence[Outgoing]) -> list[int]:
        """Write the rows; the clock is read under the write lock, so times follow the offsets."""
        appended_at = self._clock()
        next_offsets: dict[int, int] = {}
        rows: dict[int, list[tuple[int, bytes | None, bytes, int]]] = {}
        offsets = []
        for record in records:
            partition = record.partition
            if partition not in rows:
                next_offsets[partition] = end_offset(connection, partition)
                rows[partition] = []
            offset = next_offsets[partition]
            next_offsets[partition] = offset + 1
            offsets.append(offset)
            rows[partition].append((offset, record.key, record.value, appended_at))
        for partition in sorted(rows):
            connection.executemany(
                f"INSERT INTO partition_{partition:d} VALUES (?, ?, ?, ?)", rows[partition]
            )
        return offsets
