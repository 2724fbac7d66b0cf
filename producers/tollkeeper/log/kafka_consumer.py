"""A member of a Kafka consumer group: kafka-python's consumer, tamed to the port's rules.

Where it reads from is the caller's decision alone: an assigned partition is paused until `seek`. After
any error that isn't expected the client is thrown away and joins anew: it was seen to spin or to go on
quietly otherwise.
"""

from __future__ import annotations

import logging
import os
import re
from collections import Counter
from collections.abc import Collection, Mapping
from time import monotonic
from typing import Any

from kafka import ConsumerRebalanceListener, KafkaConsumer, TopicPartition
from kafka.coordinator.assignors.range import RangePartitionAssignor
from kafka.errors import (
    CommitFailedError,
    CorruptRecordError,
    IllegalStateError,
    KafkaError,
    LogTruncationError,
    OffsetOutOfRangeError,
    RebalanceInProgressError,
)
from kafka.structs import OffsetAndMetadata

from tollkeeper.errors import LogDiverged, LogGap, LogUnavailable, Misuse
from tollkeeper.log.checks import check_offset
from tollkeeper.log.kafka_client import open_client
from tollkeeper.log.kafka_members import member_name
from tollkeeper.log.kafka_reading import FETCH_BYTES, Reader, corrupt, record_of
from tollkeeper.log.kafka_settings import KafkaSettings
from tollkeeper.log.port import LogRecord
from tollkeeper.logline import LogLine, failure

logger = logging.getLogger(__name__)

DAMAGES = 3
"""How often a partition's records may fail their checksum before it is the broker's disk that did it."""
COMMIT_MS = 5_000
JOIN_MS = 10_000
MAX_POLL_RECORDS = 5_000


class KafkaGroupConsumer:
    """See the port. Joins its group at the first `poll`."""

    def __init__(self, settings: KafkaSettings, group: str, reader: Reader) -> None:
        self._settings = settings
        self._group = group
        self._reader = reader
        self._client: Any = None
        self._listener = _Listener()
        self._assignment: frozenset[int] = frozenset()
        self._assignment_epoch = 0
        self._positions: dict[int, int] = {}
        self._damages: Counter[int] = Counter()
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
        """See the port. Raises LogDiverged when a position lies outside of what is stored, and
        LogGap where the broker has no record at a position but goes on behind it, and LogCorrupt
        where its records fail their checksum again and again."""
        self._check_usable()
        if max_records < 1:
            raise Misuse(f"poll: max_records must be at least 1, not {max_records}")
        deadline = monotonic() + timeout_s
        while True:
            left_ms = max(0, round((deadline - monotonic()) * 1_000))
            try:
                client = self._open()
                found = client.poll(timeout_ms=left_ms, max_records=max_records)
            except OffsetOutOfRangeError as error:
                raise self._diverged(error.args[0]) from error
            except LogTruncationError as error:
                raise self._diverged(error.divergent_offsets) from error
            except CorruptRecordError as error:
                self._note_damage(error)
                if monotonic() < deadline:
                    continue
                return []
            except (KafkaError, OSError) as error:
                self._discard()
                raise LogUnavailable(
                    f"Kafka at {self._settings.shown} can't be polled: {type(error).__name__}: {error}"
                ) from error
            is_changed = self._take_up_assignment()
            records = self._positioned(found)
            if not found and not is_changed:
                self._look_for_holes()
            if records or is_changed or monotonic() >= deadline:
                return records

    def seek(self, partition: int, offset: int) -> None:
        """Position an owned partition; Misuse when it isn't owned or the offset is negative."""
        self._check_usable()
        if partition not in self._assignment:
            raise Misuse(f"seek: partition {partition} isn't owned by this consumer")
        check_offset("seek", offset)
        place = TopicPartition(self._settings.topic, partition)
        try:
            self._client.seek(place, offset)
            self._client.resume(place)
        except (IllegalStateError, ValueError, KeyError):
            return  # it was taken away meanwhile: the next poll tells
        self._positions[partition] = offset

    def commit(self, next_offsets: Mapping[int, int]) -> None:
        """See the port: for lag tools, ignored for what isn't owned."""
        self._check_usable()
        owned = {
            TopicPartition(self._settings.topic, partition): OffsetAndMetadata(offset, "", -1)
            for partition, offset in next_offsets.items()
            if partition in self._assignment
        }
        if not owned or self._client is None:
            return
        try:
            self._client.commit(owned, timeout_ms=COMMIT_MS)
        except (CommitFailedError, RebalanceInProgressError, IllegalStateError) as lost:
            logger.info(LogLine("commit_lost", group=self._group, **failure(lost)))
        except (KafkaError, OSError) as error:
            raise LogUnavailable(
                f"Kafka at {self._settings.shown} didn't take a commit: {type(error).__name__}: {error}"
            ) from error

    def close(self) -> None:
        """Leave the group at once; when the broker is away the session's end does it."""
        if not self._closed:
            self._closed = True
            self._discard()

    def _open(self) -> Any:
        if self._client is None:
            settings = self._settings
            self._client = open_client(
                KafkaConsumer,
                settings,
                timeout_s=JOIN_MS / 1_000,
                client_id=member_name(),
                group_id=self._group,
                metrics_enabled=False,
                partition_assignment_strategy=(
                    RangePartitionAssignor,
                ),  # eager: all is revoked first
                enable_auto_commit=False,
                auto_offset_reset="none",
                isolation_level="read_committed",
                check_crcs=True,
                allow_auto_create_topics=False,
                session_timeout_ms=int(settings.session_timeout_s * 1_000),
                heartbeat_interval_ms=int(settings.session_timeout_s * 1_000 / 3),
                max_poll_interval_ms=int(settings.max_poll_interval_s * 1_000),
                max_poll_records=MAX_POLL_RECORDS,
                max_partition_fetch_bytes=FETCH_BYTES,
            )
            self._listener = _Listener(self._client)
            self._client.subscribe([settings.topic], listener=self._listener)
            # A leader that joins before it knows the topic deals out nothing, and nobody rejoins.
            self._client.partitions_for_topic(settings.topic)
        return self._client

    def _take_up_assignment(self) -> bool:
        """Notice what the listener saw: whether the assignment is another than it was."""
        changes = self._listener.changes
        if changes == self._listener.noticed:
            return False
        self._listener.noticed = changes
        self._assignment_epoch += 1
        self._positions = {}
        self._assignment = frozenset(one.partition for one in self._client.assignment())
        return True

    def _positioned(self, found: Mapping[Any, list[Any]]) -> list[LogRecord]:
        """What belongs to partitions that were positioned since they were assigned."""
        records: list[LogRecord] = []
        for place, batch in found.items():
            if place.partition in self._positions:
                records += map(record_of, batch)
                self._positions[place.partition] = records[-1].next_offset
        return records

    def _look_for_holes(self) -> None:
        """A client that moved on without having given a record has passed offsets that hold none.

        Those are the markers of a transaction, or what compaction left. Raises LogGap.
        """
        for partition, position in self._positions.items():
            place = TopicPartition(self._settings.topic, partition)
            try:
                reached = self._client.position(place, timeout_ms=0)
            except (KafkaError, OSError):
                return  # the next poll tells
            if reached is not None and reached > position:
                self._forget(place)
                raise LogGap(
                    f"partition {partition}: offset {position} is missing, the log goes on at {reached}; "
                    "a transaction's marker or a deleted record stood there, ask the log's operator",
                    partition=partition,
                )

    def _diverged(self, places: Collection[Any]) -> LogDiverged:
        """Forget a position that isn't stored; the other partitions keep theirs."""
        place = next(iter(places))
        partition = place.partition
        position = self._forget(place)
        start = self._reader.starts([partition])[partition]
        end = self._reader.ends([partition])[partition]
        cause = "records were deleted" if position < start else "it was truncated or recreated"
        return LogDiverged(
            f"partition {partition}: position {position} lies outside of the log's {start} to {end}: "
            f"{cause}; restore the topic, and see that its retention is unlimited",
            partition=partition,
        )

    def _forget(self, place: Any) -> int:
        """Give a partition's position up, so that nothing is read of it; answers what it was."""
        self._client.pause(place)
        self._client.seek(place, 0)
        return self._positions.pop(place.partition, 0)

    def _note_damage(self, error: CorruptRecordError) -> None:
        """Join anew and ask again, in case the network did it; raises LogCorrupt when it stays."""
        self._discard()
        found = re.search(r"partition=(\d+)\)", str(error))
        if found is None:
            raise LogUnavailable(
                f"Kafka at {self._settings.shown} sends damaged records: {error}"
            ) from error
        partition = int(found[1])
        self._damages[partition] += 1
        if self._damages[partition] >= DAMAGES:
            raise corrupt(partition, error) from error

    def _discard(self) -> None:
        client, self._client = self._client, None
        if self._assignment:
            self._assignment_epoch += 1
        self._assignment, self._positions = frozenset(), {}
        if client is not None and self._pid == os.getpid():
            try:
                client.close(autocommit=False, timeout_ms=1_000)
            except (KafkaError, OSError) as error:
                logger.info(LogLine("close_failed", group=self._group, **failure(error)))

    def _check_usable(self) -> None:
        if self._closed:
            raise Misuse("the consumer was closed")
        if self._pid != os.getpid():
            raise Misuse("a consumer doesn't survive a fork: make one in the child")


class _Listener(ConsumerRebalanceListener):  # type: ignore[misc]  # kafka-python has no types
    """Counts changes, on the client's own thread; a call that waits would deadlock there.

    What is assigned gets a position and is paused at once, so that nothing is fetched, no committed
    offset is asked for and no reset policy ever decides where to read.
    """

    def __init__(self, client: Any = None) -> None:
        self._client = client
        self.changes = 0
        self.noticed = 0

    def on_partitions_revoked(self, revoked: Collection[Any]) -> None:
        if revoked:
            self.changes += 1

    def on_partitions_assigned(self, assigned: Collection[Any]) -> None:
        for place in assigned:
            self._client.seek(place, 0)
        if assigned:
            self._client.pause(*assigned)
        self.changes += 1

    def on_partitions_lost(self, lost: Collection[Any]) -> None:
        self.changes += 1
