"""The log in memory, behind the log's port: what it acknowledged stands; answers may be lost.

Membership of the group is the scheduler's choice, so that two consumers may own a partition at once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress

from simulation.scheduler import Process, Scheduler

from tollkeeper.errors import InvalidInput, LogUnavailable
from tollkeeper.events.codec import Event, decode
from tollkeeper.log.port import LogRecord, Outgoing

PARTITIONS = 2
POLL_S = 0.05


class Topic:
    """What stands on the log, whoever asks."""

    def __init__(self, scheduler: Scheduler) -> None:
        self.scheduler = scheduler
        self.partitions: list[list[LogRecord]] = [[] for _ in range(PARTITIONS)]
        self.owners: dict[int, SimulatedConsumer] = {}
        self.is_faulty = False
        self.away_until = 0
        """Nothing is appended until then."""
        self.heard: Callable[[Event], None] = lambda event: None
        """Told of every event as it is appended."""

    def put(self, one: Outgoing) -> int:
        """Append one record; its offset."""
        records = self.partitions[one.partition]
        offset = len(records)
        appended_at = self.scheduler.wall
        records.append(LogRecord(one.partition, offset, one.key, one.value, appended_at))
        with suppress(InvalidInput):  # poison is for the consumers to find
            self.heard(decode(one.value))
        return offset

    def ends(self) -> dict[int, int]:
        """The next offset of each partition."""
        return {number: len(records) for number, records in enumerate(self.partitions)}


class SimulatedLog:
    """One process' view of the log."""

    partition_count = PARTITIONS
    identity = "the-simulated-log"

    def __init__(self, topic: Topic, process: Process) -> None:
        self._topic = topic
        self._process = process

    def append(self, records: Sequence[Outgoing], *, timeout_s: float = 10.0) -> list[int]:
        self._process.pause(f"appends {len(records)}")
        topic, random = self._topic, self._topic.scheduler.random
        if topic.scheduler.now < topic.away_until:
            raise LogUnavailable("it is away")
        if topic.is_faulty and random.randrange(8) == 0:
            some = random.randrange(len(records) + 1)
            for one in records[:some]:
                topic.put(one)
            self._process.pause(f"isn't told that {some} were appended")
            raise LogUnavailable("no answer")
        offsets = [topic.put(one) for one in records]
        self._process.pause("has appended")
        return offsets

    def read(self, partition: int, offset: int, *, max_records: int) -> list[LogRecord]:
        return self._topic.partitions[partition][offset : offset + max_records]

    def start_offsets(self) -> dict[int, int]:
        return dict.fromkeys(range(PARTITIONS), 0)

    def end_offsets(self) -> dict[int, int]:
        self._process.pause("reads the log's ends")
        return self._topic.ends()

    def committed(self, group: str) -> dict[int, int]:
        return {}

    def owners(self, group: str) -> dict[int, str]:
        return {}

    def consumer(self, group: str) -> SimulatedConsumer:
        return SimulatedConsumer(self._topic, self._process)

    def close(self) -> None:
        """Nothing is held."""


class SimulatedConsumer:
    """A member that learns of its partitions when it polls, and not always then."""

    def __init__(self, topic: Topic, process: Process) -> None:
        self._topic = topic
        self._process = process
        self._positions: dict[int, int] = {}
        self.assignment: frozenset[int] = frozenset()
        self.assignment_epoch = 0

    def poll(self, *, max_records: int, timeout_s: float) -> list[LogRecord]:
        if timeout_s:
            self._process.sleep(POLL_S * self._process.scheduler.idle_factor)
        self._learn()
        found: list[LogRecord] = []
        for partition, position in self._positions.items():
            most = self._topic.scheduler.random.randrange(1, 4)
            some = self._topic.partitions[partition][position : position + most]
            found += some
            self._positions[partition] = position + len(some)
        return found

    def _learn(self) -> None:
        scheduler = self._topic.scheduler
        mine = frozenset(p for p, owner in self._topic.owners.items() if owner is self)
        is_late = self._topic.is_faulty and self.assignment and not scheduler.chance(4)
        if mine != self.assignment and not is_late:
            self.assignment = mine
            self.assignment_epoch += 1
            self._positions = {}

    def seek(self, partition: int, offset: int) -> None:
        self._positions[partition] = offset

    def commit(self, next_offsets: Mapping[int, int]) -> None:
        """For lag tools only."""

    def close(self) -> None:
        for partition in [p for p, owner in self._topic.owners.items() if owner is self]:
            del self._topic.owners[partition]
