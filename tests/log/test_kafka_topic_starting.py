"""A cluster that just started has no broker yet, and says that one copy is too many: it is asked again."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from kafka.errors import InvalidReplicationFactorError

from tollkeeper.errors import InvalidInput
from tollkeeper.log import kafka_topic
from tollkeeper.log.kafka_settings import KafkaSettings
from tollkeeper.log.kafka_topic import Topic, ensure_topic


class StartingCluster:
    """Refuses so often, then makes the topic."""

    def __init__(self, refusals: int) -> None:
        self.refusals = refusals

    def create_topics(self, _topics: Any, *, timeout_ms: int) -> None:
        if self.refusals:
            self.refusals -= 1
            raise InvalidReplicationFactorError("no broker is registered")

    def wait_for_topics(self, _topics: Any, *, timeout_ms: int) -> None:
        pass


def setting_up(monkeypatch: pytest.MonkeyPatch, cluster: StartingCluster, replication: int) -> None:
    """`ensure_topic` on this cluster, where no time passes."""

    @contextmanager
    def asking(_settings: KafkaSettings) -> Iterator[StartingCluster]:
        yield cluster

    monkeypatch.setattr(kafka_topic, "asking", asking)
    monkeypatch.setattr(kafka_topic, "sleep", lambda _seconds: None)
    monkeypatch.setattr(kafka_topic, "_describe", lambda *_: Topic("t", 2))
    monkeypatch.setattr(kafka_topic, "_verify", lambda *_: None)
    ensure_topic(KafkaSettings(servers=("broker:9092",), partitions=2, replication=replication))


def test_the_only_copy_waits_for_its_broker(monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = StartingCluster(3)
    setting_up(monkeypatch, cluster, replication=1)
    assert cluster.refusals == 0


def test_more_copies_than_brokers_are_refused_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = StartingCluster(3)
    with pytest.raises(InvalidInput, match="TOLLKEEPER_REPLICATION"):
        setting_up(monkeypatch, cluster, replication=3)
    assert cluster.refusals == 2
