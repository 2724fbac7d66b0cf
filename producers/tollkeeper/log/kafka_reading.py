"""Reading Kafka without a group: history in order, and where each partition begins and ends."""

from __future__ import annotations

import os
import threading
from time import monotonic
from typing import Any

from kafka import KafkaConsumer, TopicPartition
from kafka.errors import CorruptRecordError, KafkaError, OffsetOutOfRangeError

from tollkeeper.errors import LogCorrupt, LogUnavailable
from tollkeeper.log.kafka_client import open_client
from tollkeeper.log.kafka_settings import KafkaSettings
from tollkeeper.log.port import LogRecord

READ_TIMEOUT_S = 30.0
ASK_MS = 10_000
FETCH_BYTES = 4 * 1024 * 1024


class Reader:
    """One consumer without a group; threads take turns. After any error it is thrown away."""

    def __init__(self, settings: KafkaSettings) -> None:
        self._settings = settings
        self._lock = threading.RLock()
        self._consumer: Any = None
        self._pid = os.getpid()
        self._place: tuple[int, int] | None = None  # partition and position of what comes next

    def read(self, partition: int, offset: int, max_records: int) -> list[LogRecord]:
        """Records from `offset` on; nothing at the end, or when the offset isn't stored any more."""
        with self._lock:
            if self.ends([partition])[partition] <= offset:
                return []
            try:
                return self._poll(partition, offset, max_records)
            except OffsetOutOfRangeError:
                self.close()
                return self.read(partition, self.starts([partition])[partition], max_records)
            except CorruptRecordError as error:
                self.close()
                raise corrupt(partition, error) from error
            except (KafkaError, OSError) as error:
                raise self._away(error) from error

    def starts(self, partitions: list[int]) -> dict[int, int]:
        """The first stored offset of each."""
        return self._offsets("beginning_offsets", partitions)

    def ends(self, partitions: list[int]) -> dict[int, int]:
        """The next offset to be written of each."""
        return self._offsets("end_offsets", partitions)

    def close(self) -> None:
        """Close the consumer."""
        with self._lock:
            consumer, self._consumer, self._place = self._consumer, None, None
            if consumer is not None and self._pid == os.getpid():
                consumer.close(autocommit=False, timeout_ms=1_000)

    def _poll(self, partition: int, offset: int, max_records: int) -> list[LogRecord]:
        consumer = self._open()
        if self._place != (partition, offset):
            topic_partition = TopicPartition(self._settings.topic, partition)
            consumer.assign([topic_partition])
            consumer.seek(topic_partition, offset)
        self._place = None
        deadline = monotonic() + READ_TIMEOUT_S
        while monotonic() < deadline:
            found = consumer.poll(timeout_ms=500, max_records=max_records)
            records = [record_of(one) for batch in found.values() for one in batch]
            if records:
                self._place = (partition, records[-1].next_offset)
                return records
        raise LogUnavailable(
            f"partition {partition} of {self._settings.shown}: offset {offset} exists, but didn't come "
            f"within {READ_TIMEOUT_S:.0f} s"
        )

    def _offsets(self, question: str, partitions: list[int]) -> dict[int, int]:
        with self._lock:
            wanted = [TopicPartition(self._settings.topic, partition) for partition in partitions]
            try:
                answer = getattr(self._open(), question)(wanted, timeout_ms=ASK_MS)
            except (KafkaError, OSError) as error:
                raise self._away(error) from error
            return {one.partition: int(answer[one]) for one in wanted}

    def _open(self) -> Any:
        if self._pid != os.getpid():
            self._consumer, self._place, self._pid = None, None, os.getpid()
        if self._consumer is None:
            self._consumer = open_client(
                KafkaConsumer,
                self._settings,
                timeout_s=ASK_MS / 1_000,
                group_id=None,
                metrics_enabled=False,
                enable_auto_commit=False,
                auto_offset_reset="none",
                isolation_level="read_committed",
                check_crcs=True,
                allow_auto_create_topics=False,
                max_partition_fetch_bytes=FETCH_BYTES,
            )
        return self._consumer

    def _away(self, error: Exception) -> LogUnavailable:
        self.close()
        return LogUnavailable(
            f"Kafka at {self._settings.shown} can't be read: {type(error).__name__}: {error}"
        )


def corrupt(partition: int, error: CorruptRecordError) -> LogCorrupt:
    """The halt of a partition whose bytes don't match their checksum."""
    return LogCorrupt(
        f"partition {partition}: what the broker has stored is damaged ({error}); nothing was skipped: "
        "let another replica lead, or have the segment restored",
        partition=partition,
    )


def record_of(found: Any) -> LogRecord:
    """A record as the port has it. A record without a value is no event: its bytes are none."""
    return LogRecord(
        found.partition, found.offset, found.key, found.value or b"", found.timestamp * 1_000
    )
