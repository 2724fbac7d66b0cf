"""The log on Apache Kafka under the contract of every log; with a real broker or not at all."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from typing import Any

import pytest
from kafka import KafkaAdminClient
from log.contract import LogContract
from log.making import PARTITIONS, LogMaker
from services.finding import Service

from tollkeeper.log.kafka import KafkaLog
from tollkeeper.log.kafka_settings import KafkaSettings
from tollkeeper.log.port import Log


def open_kafka(address: str, topic: str, partitions: int = PARTITIONS, **settings: Any) -> Log:
    """The factory that tests and their child processes share."""
    return KafkaLog(
        KafkaSettings(
            servers=(address,), topic=topic, partitions=partitions, replication=1, **settings
        )
    )


class TestKafkaLog(LogContract):
    """Apache Kafka through kafka-python."""

    session_timeout_s = 3.0

    @pytest.fixture
    def make_log(self, kafka: Service) -> Iterator[LogMaker]:
        topic = f"test-{secrets.token_hex(4)}"
        arguments = {
            "address": kafka.address,
            "topic": topic,
            "session_timeout_s": self.session_timeout_s,
        }
        made = KafkaLog(
            KafkaSettings(
                servers=(kafka.address,), topic=topic, partitions=PARTITIONS, replication=1
            )
        )

        def recreate() -> None:
            with KafkaAdminClient(bootstrap_servers=kafka.address) as admin:
                admin.delete_topics([topic])
            made.ensure()

        made.ensure()
        maker = LogMaker("log.test_kafka_log:open_kafka", arguments, recreate)
        yield maker
        maker.close()
        made.close()
