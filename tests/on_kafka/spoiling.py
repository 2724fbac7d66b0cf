"""What may happen to a topic behind Tollkeeper's back: recreated, deleted from, truncated, with holes."""

from __future__ import annotations

import shutil
import signal

from kafka import KafkaAdminClient, KafkaProducer, TopicPartition
from on_kafka.installation import Installation
from services.kafka_local import LocalKafka
from support.events import usage
from support.waiting import eventually

from tollkeeper.events.codec import encode
from tollkeeper.log.port import Outgoing

WRITTEN_S = 10.0


def call(organization: str, event_id: str, **fields: object) -> bytes:
    """The record of a usage event of 3 USD a thousand."""
    return encode(usage(event_id=event_id, organization=organization, **fields))


def append(installation: Installation, partition: int, *values: bytes) -> list[int]:
    """Append as they are; answers the offsets."""
    return installation.app.log.append(
        [Outgoing(partition, b"key", value) for value in values], timeout_s=20
    )


def recreate(installation: Installation, broker: LocalKafka) -> None:
    """Delete the topic and make it anew by `setup`'s way."""
    with KafkaAdminClient(bootstrap_servers=broker.address) as admin:
        admin.delete_topics([installation.topic])
    anew = installation.opened()
    anew.log.ensure()  # type: ignore[attr-defined]  # Kafka's alone


def delete_before(
    installation: Installation, broker: LocalKafka, partition: int, offset: int
) -> None:
    """Delete the records before `offset`, as retention would."""
    with KafkaAdminClient(bootstrap_servers=broker.address) as admin:
        admin.delete_records({TopicPartition(installation.topic, partition): offset})


def damage(installation: Installation, broker: LocalKafka, partition: int) -> None:
    """Flip the last bit of a partition's newest record while the broker is down, as a bad disk would.

    The broker was stopped in good order, so it trusts its files and sends what they hold.
    """
    broker.kill(signal.SIGTERM)
    (segment,) = (broker.data / f"{installation.topic}-{partition}").glob("*.log")
    stored = bytearray(segment.read_bytes())
    stored[-2] ^= 1
    segment.write_bytes(stored)
    broker.start()


def empty(installation: Installation, broker: LocalKafka, partition: int) -> None:
    """Lose a partition's records while the broker is down, as a disk that is restored from nothing.

    The topic keeps its id: what tells is only that the partition is shorter.
    """
    broker.kill()
    folder = broker.data / f"{installation.topic}-{partition}"
    for path in folder.iterdir():
        if path.name != "partition.metadata":
            path.unlink()
    # Kafka would otherwise take the checkpointed end for the log's own.
    for name in ("recovery-point-offset-checkpoint", "log-start-offset-checkpoint"):
        (broker.data / name).unlink(missing_ok=True)
    shutil.rmtree(broker.data / ".kafka_cleanshutdown", ignore_errors=True)
    broker.start()


def append_in_a_transaction(
    installation: Installation, broker: LocalKafka, partition: int, value: bytes
) -> None:
    """Commit one record in a Kafka transaction: its marker takes an offset that holds no record."""
    marked = installation.app.log.end_offsets()[partition] + 2
    producer = KafkaProducer(
        bootstrap_servers=broker.address, transactional_id=f"tests-{installation.topic}"
    )
    try:
        producer.init_transactions()
        producer.begin_transaction()
        producer.send(installation.topic, value=value, key=b"key", partition=partition)
        producer.commit_transaction()
    finally:
        producer.close()
    eventually(
        lambda: installation.app.log.end_offsets()[partition] == marked,
        WRITTEN_S,
        what="the marker is written",
    )
