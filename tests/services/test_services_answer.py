"""Each service answers in whichever way it was found, and what a test makes in it is its own.

`.ci/run` runs these in every way there is, which TOLLKEEPER_TEST_SERVICES names.
"""

from __future__ import annotations

import os
import secrets
import socket
from urllib.parse import urlsplit

from services.databases import new_database
from services.finding import ONLY, Service
from sqlalchemy import create_engine, inspect, text
from sqlalchemy.pool import NullPool

from tollkeeper.log.kafka import KafkaLog
from tollkeeper.log.kafka_settings import KafkaSettings
from tollkeeper.log.port import Outgoing


def test_all_were_found_in_the_way_that_was_asked_for(
    kafka: Service, postgresql: Service, redis: Service
) -> None:
    ways = {service.way for service in (kafka, postgresql, redis)}
    if wanted := os.environ.get(ONLY):
        assert ways == {wanted}


def test_a_log_on_kafka_gives_back_what_was_appended(kafka: Service) -> None:
    topic = f"test-{secrets.token_hex(4)}"
    log = KafkaLog(
        KafkaSettings(servers=(kafka.address,), topic=topic, partitions=2, replication=1)
    )
    log.ensure()
    try:
        assert log.append([Outgoing(1, b"org", b"one"), Outgoing(1, b"org", b"two")]) == [0, 1]
        assert [record.value for record in log.read(1, 0, max_records=9)] == [b"one", b"two"]
        assert log.end_offsets() == {0: 0, 1: 2}
    finally:
        log.close()


def test_postgresql_keeps_what_was_committed(postgresql_url: str) -> None:
    engine = create_engine(postgresql_url, poolclass=NullPool)
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE charge (charge_nanos bigint)"))
        connection.execute(text("INSERT INTO charge VALUES (:n)"), {"n": 2**63 - 1})
    with engine.connect() as connection:
        assert connection.execute(text("SELECT charge_nanos FROM charge")).scalar() == 2**63 - 1


def test_every_test_has_a_database_of_its_own(postgresql: Service, postgresql_url: str) -> None:
    with new_database(postgresql.address) as other:
        first, second = (create_engine(url, poolclass=NullPool) for url in (postgresql_url, other))
        with first.begin() as connection:
            connection.execute(text("CREATE TABLE only_here (n int)"))
        assert inspect(first).has_table("only_here")
        assert not inspect(second).has_table("only_here")


def test_redis_gives_back_what_was_set(redis: Service) -> None:
    key = f"test-{secrets.token_hex(4)}"
    at = urlsplit(redis.address)
    with socket.create_connection((at.hostname or "", at.port or 0), timeout=5) as connection:
        connection.sendall(f"SET {key} 7\r\nGET {key}\r\nDEL {key}\r\n".encode())
        answers = connection.makefile("rb")
        assert [answers.readline() for _ in range(4)] == [
            b"+OK\r\n",
            b"$1\r\n",
            b"7\r\n",
            b":1\r\n",
        ]
        answers.close()
