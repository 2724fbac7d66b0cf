"""How fast the emitter brings usage to Kafka through its durable spool, beside kafka-python's bare `send`."""

from __future__ import annotations

import secrets
import tempfile
from pathlib import Path
from time import perf_counter

from bench.bench_emitter import encoded, groups_of
from bench.measuring import events_per_s
from kafka import KafkaProducer
from services.sharing import a_kafka

from tollkeeper.events.ids import new_emitter_id
from tollkeeper.log.kafka import KafkaLog
from tollkeeper.log.kafka_appending import BATCH_BYTES, LINGER_MS
from tollkeeper.log.kafka_settings import KafkaSettings
from tollkeeper.log.partitioner import partition_for
from tollkeeper.metering.emitter import Emitter
from tollkeeper.metering.usage import Usage

PARTITIONS = 8
FLUSHED_S = 120.0


def run(events: int) -> dict[str, float]:
    """Events per second until the broker has acknowledged all; `ratio…` is emitter over bare."""
    groups = groups_of(events)
    with a_kafka() as broker:
        settings = KafkaSettings(
            servers=(broker.address,),
            topic=f"bench-{secrets.token_hex(4)}",
            partitions=PARTITIONS,
            replication=1,
        )
        log = KafkaLog(settings)
        log.ensure()
        log.close()
        rates = events_per_s(
            events,
            {
                "emitter_to_kafka_events_per_s": lambda: _emit(settings, groups),
                "bare_send_events_per_s": lambda: _send(settings, groups),
            },
        )
    ratio = rates["emitter_to_kafka_events_per_s"] / rates["bare_send_events_per_s"]
    return {"events": events, **rates, "ratio_to_bare_send": round(ratio, 3)}


def _emit(settings: KafkaSettings, groups: list[list[Usage]]) -> float:
    with tempfile.TemporaryDirectory() as spool:
        emitter = Emitter(lambda: KafkaLog(settings), Path(spool))
        began = perf_counter()
        for group in groups:
            emitter.emit_many(group)
        assert emitter.flush(FLUSHED_S)
        took = perf_counter() - began
        emitter.close()
    return took


def _send(settings: KafkaSettings, groups: list[list[Usage]]) -> float:
    """Bytes that are ready, with the same producer settings."""
    emitter = new_emitter_id()
    ready = [
        (key, value, partition_for(key.decode(), PARTITIONS))
        for group in groups
        for key, value in encoded(group, emitter)
    ]
    producer = KafkaProducer(
        **settings.client_options,
        acks="all",
        enable_idempotence=True,
        linger_ms=LINGER_MS,
        batch_size=BATCH_BYTES,
        metrics_enabled=False,
    )
    began = perf_counter()
    for key, value, partition in ready:
        producer.send(settings.topic, value=value, key=key, partition=partition)
    producer.flush(FLUSHED_S)
    took = perf_counter() - began
    producer.close()
    return took
