"""A member of a consumer group on the embedded log: poll, seek, heartbeats in the background.

One thread uses a consumer, as with Kafka's client. Where it reads from is the caller's decision alone.
"""

from __future__ import annotations

import os
import secrets
import sqlite3
import time
from collections.abc import Mapping

from tollkeeper.errors import LogDiverged, Misuse
from tollkeeper.log import sqlite_group
from tollkeeper.log.port import LogRecord
from tollkeeper.log.sqlite_file import LogFile
from tollkeeper.log.sqlite_heartbeat import Heartbeats, monotonic_micros
from tollkeeper.log.sqlite_reading import end_offset, read_records

_SHORTEST_WAIT_S = 0.001
_LONGEST_WAIT_S = 0.02  # bounds how late an idle consumer sees a new record
_ROUNDS_OF_JOINING = 3  # joining, agreeing and taking over can follow one another in a single poll


class SqliteConsumer:
    """See the port. Joins its group at the first `poll`, not before."""

    def __init__(
        self, log_file: LogFile, group: str, *, session_timeout_s: float, max_poll_interval_s: float
    ) -> None:
        self._group = group
        # The process id is for people who look for an owner.
        self._member = f"{os.getpid()}-{secrets.token_hex(4)}"
        # Its own file handle: the change counter that spares idle queries belongs to a connection.
        self._file = LogFile(log_file.path, log_file.partitions, durable=False)
        self._session_micros = int(session_timeout_s * 1_000_000)
        self._heartbeats = Heartbeats(
            LogFile(log_file.path, log_file.partitions, durable=False),
            group,
            self._member,
            session_timeout_s=session_timeout_s,
            max_poll_interval_s=max_poll_interval_s,
        )
        self._assignment: frozenset[int] = frozenset()
        self._assignment_epoch = 0
        self._group_epoch = 0  # of the assignment that is held; 0: none is
        self._positions: dict[int, int] = {}
        self._turn = 0
        self._seen: tuple[sqlite3.Connection, int] | None = None
        self._pid = os.getpid()
        self._closed = False

    @property
    def assignment(self) -> frozenset[int]:
        """The partitions owned as of the last `poll`."""
        return self._assignment

    @property
    def assignment_epoch(self) -> int:
        """Grows with every change of the assignment, also when the same partitions come back."""
        return self._assignment_epoch

    def poll(self, *, max_records: int, timeout_s: float) -> list[LogRecord]:
        """See the port. Raises LogDiverged when a position lies past the partition's end."""
        self._check_usable()
        if max_records < 1:
            raise Misuse(f"poll: max_records must be at least 1, not {max_records}")
        deadline = time.monotonic() + timeout_s
        wait_s = _SHORTEST_WAIT_S
        with self._heartbeats.polling():
            while True:
                if self._heartbeats.is_overdue():
                    self._heartbeats.beat()
                records = self._look(max_records)
                left_s = deadline - time.monotonic()
                if records or left_s <= 0:
                    return records
                self._heartbeats.wait(min(wait_s, left_s))
                wait_s = min(2 * wait_s, _LONGEST_WAIT_S)

    def seek(self, partition: int, offset: int) -> None:
        """Position an owned partition; Misuse when it isn't owned or the offset is negative."""
        self._check_usable()
        if partition not in self._assignment:
            raise Misuse(f"seek: partition {partition} isn't owned by this consumer")
        if offset < 0:
            raise Misuse(f"seek: offset {offset} is negative")
        self._positions[partition] = offset
        self._seen = None

    def commit(self, next_offsets: Mapping[int, int]) -> None:
        """See the port: for lag tools, ignored for what isn't owned."""
        self._check_usable()
        owned = {p: offset for p, offset in next_offsets.items() if p in self._assignment}
        if owned:
            self._file.write(
                lambda connection: sqlite_group.commit(
                    connection,
                    self._group,
                    self._member,
                    epoch=self._group_epoch,
                    next_offsets=owned,
                )
            )

    def close(self) -> None:
        """Leave the group at once; when the log is away the session's end does it."""
        if self._closed:
            return
        self._closed = True
        self._revoke()
        if self._pid == os.getpid():
            self._heartbeats.close()
        self._file.close()

    def _check_usable(self) -> None:
        if self._closed:
            raise Misuse("the consumer was closed")
        if self._pid != os.getpid():
            raise Misuse("a consumer doesn't survive a fork: make one in the child")

    def _look(self, max_records: int) -> list[LogRecord]:
        """What there is now; takes part in the group's rebalances on the way."""
        for _ in range(_ROUNDS_OF_JOINING):
            records = self._file.read(lambda connection: self._step(connection, max_records))
            if records is not None:
                return records
            self._join()
        return []

    def _step(self, connection: sqlite3.Connection, max_records: int) -> list[LogRecord] | None:
        """Records, or None when the group waits for this member to join."""
        (version,) = connection.execute("PRAGMA data_version").fetchone()
        if self._seen == (connection, version):
            return []
        standing = sqlite_group.standing(connection, self._group, self._member)
        if standing.member_epoch is None or standing.member_epoch != standing.group_epoch:
            self._revoke()
            return None
        if standing.assigned_epoch == standing.group_epoch != self._group_epoch:
            self._assignment = sqlite_group.owned_partitions(connection, self._group, self._member)
            self._assignment_epoch += 1
            self._group_epoch = standing.group_epoch
        records = self._fetch(connection, max_records)
        if not records:
            # The version from before all the queries: what is committed after it is seen next time.
            self._seen = (connection, version)
        return records

    def _join(self) -> None:
        began_at = monotonic_micros()
        self._file.write(
            lambda connection: sqlite_group.join(
                connection,
                self._group,
                self._member,
                now=monotonic_micros(),
                session_micros=self._session_micros,
            )
        )
        self._seen = None
        self._heartbeats.joined(began_at)

    def _revoke(self) -> None:
        if self._group_epoch:
            self._assignment_epoch += 1
        self._assignment = frozenset()
        self._positions = {}
        self._group_epoch = 0

    def _fetch(self, connection: sqlite3.Connection, max_records: int) -> list[LogRecord]:
        """Records of the positioned partitions; positions move only when all of them were read."""
        partitions = sorted(self._positions)
        positions = dict(self._positions)
        self._turn += 1
        records: list[LogRecord] = []
        # The first round shares evenly, the second gives away what short partitions left over.
        for is_shared_evenly in (True, False):
            for index in range(len(partitions)):
                partition = partitions[(self._turn + index) % len(partitions)]
                share = max_records - len(records)
                if is_shared_evenly:
                    share = -(-share // (len(partitions) - index))
                if share > 0:
                    taken = read_records(connection, partition, positions[partition], share)
                    positions[partition] += len(taken)
                    records += taken
        self._positions = positions
        if not records:
            self._check_positions(connection)
        return records

    def _check_positions(self, connection: sqlite3.Connection) -> None:
        for partition, position in self._positions.items():
            if position > (end := end_offset(connection, partition)):
                del self._positions[partition]
                raise LogDiverged(
                    f"partition {partition}: position {position} lies past the log's end {end}: the "
                    "log was truncated or recreated",
                    partition=partition,
                )
