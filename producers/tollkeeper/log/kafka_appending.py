"""Appending to Kafka: idempotent, acknowledged by all replicas, and bounded in memory.

kafka-python bounds nothing: what is sent while the broker is away piles up. So every call waits for
its own records, and a producer that couldn't deliver in time is thrown away with what it holds.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence
from time import monotonic
from typing import Any

from kafka import KafkaProducer
from kafka.errors import KafkaError

from tollkeeper.errors import LogUnavailable
from tollkeeper.log.kafka_client import open_client
from tollkeeper.log.kafka_settings import KafkaSettings
from tollkeeper.log.port import MAX_RECORD_BYTES, Outgoing

LINGER_MS = 5
BATCH_BYTES = 256 * 1024
MAX_REQUEST_BYTES = MAX_RECORD_BYTES + 64 * 1024  # one record of the largest size and its framing
REQUEST_TIMEOUT_MS = 10_000
CLOSE_S = 1.0


class Appender:
    """One producer for all threads of a process; opened at first use, after a fork anew."""

    def __init__(self, settings: KafkaSettings) -> None:
        self._settings = settings
        self._lock = threading.Lock()
        self._producer: Any = None
        self._pid = os.getpid()

    def append(self, records: Sequence[Outgoing], *, timeout_s: float) -> list[int]:
        """Send all, wait for all; LogUnavailable when any wasn't acknowledged in time."""
        deadline = monotonic() + timeout_s
        producer: Any = None
        try:
            producer = self._open(timeout_s)
            topic = self._settings.topic
            send = producer.send
            futures = [
                send(topic, value=record.value, key=record.key, partition=record.partition)
                for record in records
            ]
            producer.flush(max(0.001, deadline - monotonic()))
            return [
                future.get(timeout=max(0.0, deadline - monotonic())).offset for future in futures
            ]
        except (KafkaError, OSError) as error:
            self._discard(producer)
            raise LogUnavailable(
                f"Kafka at {self._settings.shown} didn't acknowledge {len(records)} records within "
                f"{timeout_s:g} s: {type(error).__name__}: {error}"
            ) from error

    def close(self) -> None:
        """Close the producer; whoever waits for it hears LogUnavailable."""
        with self._lock:
            producer, self._producer = self._producer, None
        if producer is not None and self._pid == os.getpid():
            _end(producer, timeout_s=CLOSE_S)

    def _open(self, timeout_s: float) -> Any:
        with self._lock:
            if self._pid != os.getpid():  # the parent's threads and sockets aren't ours
                self._producer, self._pid = None, os.getpid()
            if self._producer is None:
                self._producer = open_client(
                    KafkaProducer,
                    self._settings,
                    timeout_s=timeout_s,
                    acks="all",
                    metrics_enabled=False,
                    enable_idempotence=True,
                    linger_ms=LINGER_MS,
                    batch_size=BATCH_BYTES,
                    max_request_size=MAX_REQUEST_BYTES,
                    request_timeout_ms=REQUEST_TIMEOUT_MS,
                    delivery_timeout_ms=2 * REQUEST_TIMEOUT_MS,
                    max_block_ms=int(timeout_s * 1_000),
                    allow_auto_create_topics=False,
                )
                # At the end of the process kafka-python would close it before the emitter has sent all.
                self._producer._unregister_cleanup()
            return self._producer

    def _discard(self, producer: Any) -> None:
        """Throw a producer away that may still hold records, so that they don't pile up."""
        with self._lock:
            if producer is None or self._producer is not producer:
                return
            self._producer = None
        _end(producer, timeout_s=0.0)


def _end(producer: Any, *, timeout_s: float) -> None:
    """Close, and give up what couldn't be sent by then; whoever waits for it hears an error.

    kafka-python's `close` flushes first, and where that doesn't succeed it raises and leaves thread,
    connections and records as they are, for ever. Without the flush it sends until the timeout and
    then gives up, as it says.
    """
    producer.flush = lambda timeout=None: None
    producer.close(timeout=timeout_s)
