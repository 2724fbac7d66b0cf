"""The topic: made by `setup` with all that the log port promises, and verified before it is trusted."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable, Iterator
from time import monotonic, sleep
from typing import Any

import msgspec
from kafka import KafkaAdminClient
from kafka.admin import NewTopic
from kafka.errors import (
    CoordinatorLoadInProgressError,
    CoordinatorNotAvailableError,
    GroupIdNotFoundError,
    InvalidReplicationFactorError,
    InvalidTopicError,
    KafkaError,
    NotCoordinatorError,
    PolicyViolationError,
    TopicAlreadyExistsError,
    TopicAuthorizationFailedError,
)

from tollkeeper.errors import InvalidInput, LogUnavailable
from tollkeeper.log.kafka_client import open_client
from tollkeeper.log.kafka_settings import KafkaSettings

CONFIG = {
    "cleanup.policy": "delete",
    "retention.ms": "-1",
    "retention.bytes": "-1",
    "message.timestamp.type": "LogAppendTime",
    "unclean.leader.election.enable": "false",
}
"""What the topic must have: kept for ever, whole, and stamped by the broker's clock."""
ASK_MS = 10_000
COORDINATOR_PAUSE_S = 0.1
_COORDINATOR_STARTS = (
    CoordinatorLoadInProgressError,
    CoordinatorNotAvailableError,
    NotCoordinatorError,
)


_REFUSED = {
    InvalidReplicationFactorError: (
        "TOLLKEEPER_REPLICATION",
        "must be at most the number of the cluster's brokers",
    ),
    InvalidTopicError: (
        "TOLLKEEPER_TOPIC",
        "must be letters, digits, dots, dashes and underscores, at most 249",
    ),
    TopicAuthorizationFailedError: (
        "TOLLKEEPER_KAFKA_USERNAME",
        "must name a user who may create the topic; or have it made by somebody who may",
    ),
    PolicyViolationError: ("TOLLKEEPER_TOPIC", "was refused by the cluster's policy for topics"),
}
"""Kafka answers, and says no: trying again would not help."""


class Topic(msgspec.Struct, frozen=True):
    """The topic as the cluster knows it."""

    topic_id: str
    partitions: int


def ensure_topic(settings: KafkaSettings) -> Topic:
    """Make the topic where it is missing, then verify it. Raises LogUnavailable, InvalidInput."""
    with asking(settings) as admin:
        config = dict(CONFIG)
        if settings.replication > 1:
            config["min.insync.replicas"] = "2"
        wanted = NewTopic(
            name=settings.topic,
            num_partitions=settings.partitions,
            replication_factor=settings.replication,
            topic_configs=config,
        )
        # One broker can always hold one copy: until it is registered, a cluster that starts has none.
        starting = (InvalidReplicationFactorError,) if settings.replication == 1 else ()
        try:
            _again_while(starting, lambda: admin.create_topics([wanted], timeout_ms=ASK_MS))
            admin.wait_for_topics([settings.topic], timeout_ms=ASK_MS)
        except TopicAlreadyExistsError:
            pass  # it is verified all the same
        except tuple(_REFUSED) as refused:
            raise InvalidInput(*_REFUSED[type(refused)]) from refused
        topic = _describe(admin, settings)
        _verify(admin, settings)
        return topic


class TopicLookup:
    """Asks for the topic over one connection that is kept; threads take turns, a fork opens its own."""

    def __init__(self, settings: KafkaSettings) -> None:
        self._settings = settings
        self._lock = threading.Lock()
        self._admin: Any = None
        self._pid = os.getpid()

    def find(self) -> Topic:
        """The topic's id and partitions, as they are now. LogUnavailable when it isn't there: it is
        made by `setup` only."""
        with self._lock:
            try:
                return self._find()
            except (KafkaError, OSError) as error:
                self._discard()
                raise _away(self._settings, error) from error

    def _find(self) -> Topic:
        """A kept connection that failed says nothing about the broker, which may have restarted since."""
        if self._admin is not None and self._pid == os.getpid():
            try:
                return _describe(self._admin, self._settings)
            except (KafkaError, OSError):
                self._discard()
        return _describe(self._open(), self._settings)

    def close(self) -> None:
        """Close the connection."""
        with self._lock:
            self._discard()

    def _open(self) -> Any:
        if self._pid != os.getpid():
            self._admin, self._pid = None, os.getpid()
        if self._admin is None:
            self._admin = _admin_client(self._settings)
        return self._admin

    def _discard(self) -> None:
        admin, self._admin = self._admin, None
        if admin is not None and self._pid == os.getpid():
            admin.close()


def committed_offsets(settings: KafkaSettings, group: str) -> dict[int, int]:
    """What the group committed last; nothing when it never did. Raises LogUnavailable."""
    with asking(settings) as admin:
        found = _group_offsets(admin, group)
    return {
        partition.partition: offset.offset
        for partition, offset in found.get(group, found).items()
        if partition.topic == settings.topic and offset.offset >= 0
    }


def _group_offsets(admin: Any, group: str) -> dict[Any, Any]:
    try:
        found: dict[Any, Any] = coordinated(lambda: admin.list_group_offsets(group))
        return found
    except GroupIdNotFoundError:
        return {}


def coordinated(ask: Callable[[], Any]) -> Any:
    """The answer of a group's coordinator, asked again while a broker that just started loads its groups.

    That it loads must not be taken for "nothing was committed": a ledger that was set back would go
    unnoticed.
    """
    return _again_while(_COORDINATOR_STARTS, ask)


def _again_while(starting: tuple[type[KafkaError], ...], ask: Callable[[], Any]) -> Any:
    """The answer of a cluster that may just have started, which is what these errors say."""
    deadline = monotonic() + ASK_MS / 1_000
    while True:
        try:
            return ask()
        except starting:
            if monotonic() >= deadline:
                raise
            sleep(COORDINATOR_PAUSE_S)


@contextlib.contextmanager
def asking(settings: KafkaSettings) -> Iterator[Any]:
    """An administrator's client meanwhile. Raises LogUnavailable for whatever it can't be told."""
    try:
        with _admin_client(settings) as admin:
            yield admin
    except (KafkaError, OSError) as error:
        raise _away(settings, error) from error


def _admin_client(settings: KafkaSettings) -> Any:
    return open_client(
        KafkaAdminClient, settings, timeout_s=ASK_MS / 1_000, request_timeout_ms=ASK_MS
    )


def _away(settings: KafkaSettings, error: Exception) -> LogUnavailable:
    return LogUnavailable(
        f"Kafka at {settings.shown} doesn't answer: {type(error).__name__}: {error}"
    )


def _describe(admin: Any, settings: KafkaSettings) -> Topic:
    (found,) = admin.describe_topics([settings.topic])
    if found["error_code"]:
        raise LogUnavailable(
            f"there is no topic {settings.topic} at {settings.shown}; run `tollkeeper setup`"
        )
    count = len(found["partitions"])
    if count != settings.partitions:
        raise InvalidInput(
            "TOLLKEEPER_PARTITIONS",
            f"is {settings.partitions}, but the topic {settings.topic} has {count} partitions, which "
            "never change",
        )
    return Topic(str(found["topic_id"]), count)


def _verify(admin: Any, settings: KafkaSettings) -> None:
    from kafka.admin import ConfigResource, ConfigResourceType

    resource = ConfigResource(ConfigResourceType.TOPIC, settings.topic)
    found = admin.describe_configs([resource], config_filter="all")["topic"][settings.topic]
    wrong = {
        name: found[name]["value"]
        for name, value in CONFIG.items()
        if name in found and found[name]["value"] != value
    }
    if settings.replication > 1 and int(found["min.insync.replicas"]["value"]) < 2:
        wrong["min.insync.replicas"] = found["min.insync.replicas"]["value"]
    if wrong:
        name, value = sorted(wrong.items())[0]
        expected = CONFIG.get(name, "2")
        raise InvalidInput(
            f"topic {settings.topic}", f"has {name}={value} where {expected} is needed: alter it"
        )
