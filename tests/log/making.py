"""What the log contract's tests share: handles on one log, records, groups driven until they settle."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from log.children import Child, open_log
from support.waiting import eventually

from tollkeeper.log.port import Log, LogConsumer, LogRecord, Outgoing

PARTITIONS = 4
SETTLED_S = 30.0


class LogMaker:
    """Makes handles on the one log of a test, here and in child processes."""

    def __init__(
        self, factory: str, arguments: dict[str, Any], recreate: Callable[[], None]
    ) -> None:
        self._factory = factory
        self._arguments = arguments
        self._handles: list[Log] = []
        self._consumers: list[LogConsumer] = []
        self.recreate = recreate

    def __call__(self, **overrides: Any) -> Log:
        """Another handle; closed at the end of the test."""
        log = open_log(self._factory, {**self._arguments, **overrides})
        self._handles.append(log)
        return log

    def consumer(self, group: str = "fold", **overrides: Any) -> LogConsumer:
        """A member with a handle of its own; closed at the end of the test."""
        consumer = self(**overrides).consumer(group)
        self._consumers.append(consumer)
        return consumer

    def child(self, role: str, *rest: str, environment: dict[str, str] | None = None) -> Child:
        """A child process on the same log."""
        return Child(
            role, self._factory, json.dumps(self._arguments), *rest, environment=environment
        )

    def close(self) -> None:
        """Close what the test left open."""
        for consumer in self._consumers:
            consumer.close()
        for log in self._handles:
            log.close()


def numbered(partition: int, count: int, *, first: int = 0) -> list[Outgoing]:
    """Records whose value is their number."""
    return [Outgoing(partition, b"org", b"%d" % n) for n in range(first, first + count)]


def read_all(log: Log, partition: int, *, at_a_time: int = 1000) -> list[LogRecord]:
    """A whole partition."""
    records: list[LogRecord] = []
    for _ in range(10_000):
        part = log.read(partition, len(records), max_records=at_a_time)
        if not part:
            return records
        records += part
    raise AssertionError("the partition doesn't end")


def settle(
    consumers: Sequence[LogConsumer], condition: Callable[[], object], what: str = "the group"
) -> None:
    """Poll every consumer until the condition holds; partitions without a position give nothing.

    All at once, each in a thread of its own, as processes would: Kafka's joins wait for one another,
    and members that took turns were seen to overtake each other for ever.
    """

    def poll(consumer: LogConsumer) -> None:
        consumer.poll(max_records=1, timeout_s=0.02)

    with ThreadPoolExecutor(len(consumers)) as threads:

        def step() -> object:
            list(threads.map(poll, consumers))
            return condition()

        eventually(step, SETTLED_S, what=what)


def settle_in_new_epoch(consumers: Sequence[LogConsumer]) -> None:
    """Poll until all partitions are shared out and every consumer has heard of the change."""
    before = [consumer.assignment_epoch for consumer in consumers]
    settle(
        consumers,
        lambda: (
            are_shared_out(consumers)
            and all(c.assignment_epoch > epoch for c, epoch in zip(consumers, before, strict=True))
        ),
    )


def are_shared_out(members: Sequence[LogConsumer | Child]) -> bool:
    """Whether every partition has exactly one owner among the members."""
    owned = sorted(partition for member in members for partition in member.assignment)
    return owned == list(range(PARTITIONS))


def poll_until(consumer: LogConsumer, count: int, *, max_records: int = 100) -> list[LogRecord]:
    """Poll until `count` records have come."""
    records: list[LogRecord] = []

    def step() -> bool:
        records.extend(consumer.poll(max_records=max_records, timeout_s=0.1))
        return len(records) >= count

    eventually(step, SETTLED_S, what=f"{count} records")
    return records
