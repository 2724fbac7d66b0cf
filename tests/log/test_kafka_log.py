"""The log on Apache Kafka under the contract of every log; with a real broker or not at all."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from kafka import KafkaAdminClient
from log.children import Child
from log.contract import LogContract
from log.making import PARTITIONS, SETTLED_S, LogMaker, are_shared_out
from services.finding import Service
from support.waiting import eventually

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

    def test_two_and_three_members_share_all_partitions_and_a_fifth_owns_nothing(
        self, make_log: LogMaker
    ) -> None:
        """Each in a process of its own, as they run: kafka-python's joins wait for one another, and
        members that take turns in one thread were seen to overtake each other for ever."""
        with ExitStack() as stack:
            members: list[Child] = []
            for _ in range(5):
                before = [member.assignment_epoch for member in members]
                members.append(stack.enter_context(make_log.child("member", "fold")))

                def is_settled(now: list[Child] = members, epochs: list[int] = before) -> bool:
                    moved = zip(now, epochs, strict=False)
                    return are_shared_out(now) and all(
                        member.assignment_epoch > epoch for member, epoch in moved
                    )

                eventually(is_settled, SETTLED_S, what=f"a group of {len(members)}")
            assert sorted(len(member.assignment) for member in members) == [0, 1, 1, 1, 1]
