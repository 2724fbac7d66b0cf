"""The log on Apache Kafka: an adapter of the port. Knows bytes, never events.

One topic, not transactional, so offsets are contiguous and a gap is a loss that is noticed.
"""

from __future__ import annotations

from collections.abc import Sequence

from tollkeeper.failpoints import failpoint
from tollkeeper.log.checks import check_offset, check_outgoing, check_partition
from tollkeeper.log.kafka_appending import Appender
from tollkeeper.log.kafka_consumer import KafkaGroupConsumer
from tollkeeper.log.kafka_members import owners
from tollkeeper.log.kafka_reading import Reader
from tollkeeper.log.kafka_settings import KafkaSettings
from tollkeeper.log.kafka_topic import Topic, TopicLookup, committed_offsets, ensure_topic
from tollkeeper.log.port import LogRecord, Outgoing


class KafkaLog:
    """An adapter of the port. Making one costs nothing: it connects at first use.

    The topic is made by `ensure` and never by accident. Safe to share between threads; a fork opens
    its own connections. Raises LogUnavailable when the cluster or the topic isn't there.
    """

    def __init__(self, settings: KafkaSettings) -> None:
        self.settings = settings
        self._appender = Appender(settings)
        self._reader = Reader(settings)
        self._lookup = TopicLookup(settings)
        self._is_checked = False

    def ensure(self) -> Topic:
        """Make the topic where it is missing, and verify its partitions and configuration."""
        return ensure_topic(self.settings)

    @property
    def partition_count(self) -> int:
        """The fixed number of partitions, as the settings have it; the topic's own is verified."""
        return self.settings.partitions

    @property
    def identity(self) -> str:
        """The topic's id, asked each time: who compares it with the id that records were folded from
        must not be told of a topic that was recreated since."""
        return self._lookup.find().topic_id

    def append(self, records: Sequence[Outgoing], *, timeout_s: float = 10.0) -> list[int]:
        """See the port. What wasn't acknowledged may still come to stand on the log."""
        if not records:
            return []
        check_outgoing(records, self.partition_count)
        self._check_topic()
        failpoint("log.before_append")
        offsets = self._appender.append(records, timeout_s=timeout_s)
        failpoint("log.after_append")
        return offsets

    def read(self, partition: int, offset: int, *, max_records: int) -> list[LogRecord]:
        """Records from `offset` on, without a group; empty at the end."""
        self._check_topic()
        check_partition(partition, self.partition_count)
        check_offset("read", offset)
        return self._reader.read(partition, offset, max_records)

    def start_offsets(self) -> dict[int, int]:
        """The first offset still stored, of each partition."""
        self._check_topic()
        return self._reader.starts(list(range(self.partition_count)))

    def end_offsets(self) -> dict[int, int]:
        """The next offset to be written, of each partition."""
        self._check_topic()
        return self._reader.ends(list(range(self.partition_count)))

    def committed(self, group: str) -> dict[int, int]:
        """What the group committed last; partitions without a commit are absent."""
        return committed_offsets(self.settings, self._group_id(group))

    def owners(self, group: str) -> dict[int, str]:
        """Which member of the group owns each partition; what nobody owns is absent."""
        return owners(self.settings, self._group_id(group))

    def consumer(self, group: str) -> KafkaGroupConsumer:
        """A member of the group; it joins at its first `poll`."""
        self._check_topic()
        return KafkaGroupConsumer(self.settings, self._group_id(group), self._reader)

    def close(self) -> None:
        """Close every connection; consumers are closed by their owners."""
        self._appender.close()
        self._reader.close()
        self._lookup.close()

    def _group_id(self, group: str) -> str:
        """A group belongs to the cluster, not to a topic: two logs must not share one."""
        return f"{self.settings.topic}.{group}"

    def _check_topic(self) -> None:
        """Once: the topic must be there and have as many partitions as the settings say."""
        if not self._is_checked:
            self._lookup.find()
            self._is_checked = True
