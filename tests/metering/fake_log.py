"""A log in memory that can be away, and helpers to look at what arrived."""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any

from tollkeeper.errors import LogUnavailable
from tollkeeper.events.codec import Event, decode
from tollkeeper.events.usage import UsageRecorded
from tollkeeper.log.port import Log, LogConsumer, LogRecord, Outgoing
from tollkeeper.metering.usage import Usage

NOON = 1_793_880_000_000_000


class MemoryLog:
    """Keeps records in lists. `is_away` refuses appends; `fail_times` refuses that many."""

    identity = "memory"

    def __init__(self, partition_count: int = 4) -> None:
        self.partition_count = partition_count
        self.is_away = False
        self.fail_times = 0
        self.fail_with: Exception = LogUnavailable("away")
        self.attempts = 0
        self.opened = 0
        self.closed = 0
        self._lock = threading.Lock()
        self._records: dict[int, list[LogRecord]] = defaultdict(list)

    def open(self) -> MemoryLog:
        """What an emitter is given to open the log."""
        self.opened += 1
        return self

    def append(self, records: Sequence[Outgoing], *, timeout_s: float = 10.0) -> list[int]:
        with self._lock:
            self.attempts += 1
            if self.is_away or self.fail_times > 0:
                self.fail_times -= 1
                raise self.fail_with
            return [self._add(record) for record in records]

    def _add(self, record: Outgoing) -> int:
        stored = self._records[record.partition]
        stored.append(LogRecord(record.partition, len(stored), record.key, record.value, NOON))
        return len(stored) - 1

    def read(self, partition: int, offset: int, *, max_records: int) -> list[LogRecord]:
        with self._lock:
            return self._records[partition][offset : offset + max_records]

    def start_offsets(self) -> dict[int, int]:
        return dict.fromkeys(range(self.partition_count), 0)

    def end_offsets(self) -> dict[int, int]:
        with self._lock:
            return {p: len(self._records[p]) for p in range(self.partition_count)}

    def committed(self, group: str) -> dict[int, int]:
        raise NotImplementedError

    def owners(self, group: str) -> dict[int, str]:
        raise NotImplementedError

    def consumer(self, group: str) -> LogConsumer:
        raise NotImplementedError

    def close(self) -> None:
        self.closed += 1


def events_on(log: Log) -> dict[int, list[Event]]:
    """Every event on the log, partition by partition, in order; each under the key that it should have."""
    found: dict[int, list[Event]] = {}
    for partition, end in sorted(log.end_offsets().items()):
        events: list[Event] = []
        while len(events) < end:
            for record in log.read(partition, len(events), max_records=10_000):
                event = decode(record.value)
                organization = getattr(event, "organization", None)
                assert record.key == (None if organization is None else organization.encode())
                events.append(event)
        found[partition] = events
    return found


def usages_on(log: Log) -> list[UsageRecorded]:
    """Every usage on the log, partition by partition, in order."""
    everywhere = events_on(log).values()
    return [e for events in everywhere for e in events if isinstance(e, UsageRecorded)]


def ids_on(log: Log) -> list[str]:
    """The event ids on the log."""
    return [event.event_id for event in usages_on(log)]


def assert_no_gaps(events: Iterable[UsageRecorded]) -> None:
    """Each emitter counted each organization's distinct records 1, 2, 3 … and used none twice."""
    ids: dict[tuple[str, str, int], str] = {}
    counted: dict[tuple[str, str], set[int]] = defaultdict(set)
    for event in events:
        key = (event.emitter, event.organization, event.sequence)
        assert ids.setdefault(key, event.event_id) == event.event_id, f"{key} names two events"
        counted[key[:2]].add(event.sequence)
    for who, sequences in counted.items():
        assert sequences == set(range(1, len(sequences) + 1)), f"{who} left a gap"


def usage(number: int = 1, organization: str = "acme", **fields: Any) -> Usage:
    """A usage whose input tokens are `number`."""
    values: dict[str, Any] = {
        "organization": organization,
        "member": "ann",
        "surface": "web",
        "model": "claude-sonnet-5",
        "input_tokens": number,
        "occurred_at": NOON,
        **fields,
    }
    return Usage(**values)
