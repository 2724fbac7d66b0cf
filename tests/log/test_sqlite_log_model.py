"""Any order of appends, reads, seeks and polls equals a plain list; any order of joins keeps owners apart."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from tollkeeper.log.port import LogConsumer, Outgoing
from tollkeeper.log.sqlite import SqliteLog

PARTITIONS = 3
partitions = st.integers(0, PARTITIONS - 1)
records = st.builds(
    Outgoing,
    partition=partitions,
    key=st.none() | st.binary(max_size=5),
    value=st.binary(max_size=20),
)
Row = tuple[int, bytes | None, bytes]


class LogMachine(RuleBasedStateMachine):
    """One log, one consumer, and lists that say what they must answer."""

    @initialize()
    def make(self) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix="tollkeeper-model-"))
        self.log = self.opened()
        self.consumer: LogConsumer = self.log.consumer("fold")
        self.model: list[list[tuple[bytes | None, bytes]]] = [[] for _ in range(PARTITIONS)]
        self.positions: dict[int, int] = {}
        self.owns = False
        self.committed: dict[int, int] = {}
        self.time = 0

    def opened(self) -> SqliteLog:
        return SqliteLog(
            self.directory / "log.db",
            partitions=PARTITIONS,
            clock=lambda: self.time,
            session_timeout_s=60.0,
        )

    def rows(self, partition: int, offset: int, count: int) -> list[Row]:
        part = self.model[partition][offset : offset + count]
        return [(offset + n, key, value) for n, (key, value) in enumerate(part)]

    @rule(batch=st.lists(records, max_size=12))
    def append(self, batch: list[Outgoing]) -> None:
        self.time += 1
        expected = []
        for record in batch:
            expected.append(len(self.model[record.partition]))
            self.model[record.partition].append((record.key, record.value))
        assert self.log.append(batch) == expected

    @rule(partition=partitions, count=st.integers(1, 40))
    def append_to_one_partition(self, partition: int, count: int) -> None:
        self.append([Outgoing(partition, None, b"%d" % n) for n in range(count)])

    @precondition(lambda self: self.owns)
    @rule()
    def seek_all_to_the_start(self) -> None:
        for partition in range(PARTITIONS):
            self.seek(partition, 0.0)

    @rule(partition=partitions, offset=st.integers(0, 40), count=st.integers(1, 20))
    def read(self, partition: int, offset: int, count: int) -> None:
        answer = self.log.read(partition, offset, max_records=count)
        assert [(r.offset, r.key, r.value) for r in answer] == self.rows(partition, offset, count)
        assert all(record.partition == partition for record in answer)
        assert [r.appended_at for r in answer] == sorted(r.appended_at for r in answer)

    @rule()
    def compare_offsets(self) -> None:
        assert self.log.end_offsets() == {p: len(part) for p, part in enumerate(self.model)}
        assert self.log.start_offsets() == dict.fromkeys(range(PARTITIONS), 0)

    @rule(count=st.integers(1, 25))
    def poll(self, count: int) -> None:
        answer = self.consumer.poll(max_records=count, timeout_s=0.0)
        self.owns = True
        outstanding = sum(len(self.model[p]) - at for p, at in self.positions.items())
        assert len(answer) == min(count, outstanding)
        for partition in range(PARTITIONS):
            part = [(r.offset, r.key, r.value) for r in answer if r.partition == partition]
            position = self.positions.get(partition, 0)
            assert part == self.rows(partition, position, len(part))
            if partition in self.positions:
                self.positions[partition] += len(part)

    @precondition(lambda self: self.owns)
    @rule(partition=partitions, share=st.floats(0, 1))
    def seek(self, partition: int, share: float) -> None:
        offset = int(share * len(self.model[partition]))
        self.consumer.seek(partition, offset)
        self.positions[partition] = offset

    @precondition(lambda self: self.owns)
    @rule(partition=partitions, next_offset=st.integers(0, 1000))
    def commit(self, partition: int, next_offset: int) -> None:
        self.consumer.commit({partition: next_offset})
        self.committed[partition] = next_offset

    @rule()
    def compare_committed(self) -> None:
        assert self.log.committed("fold") == self.committed

    @rule()
    def reopen(self) -> None:
        identity = self.log.identity
        self.log.close()
        self.log = self.opened()
        assert self.log.identity == identity

    @rule()
    def replace_consumer(self) -> None:
        self.consumer.close()
        self.consumer = self.log.consumer("fold")
        self.positions = {}
        self.owns = False

    def teardown(self) -> None:
        self.consumer.close()
        self.log.close()
        shutil.rmtree(self.directory)


class GroupMachine(RuleBasedStateMachine):
    """Members that come, poll and leave in any order."""

    @initialize()
    def make(self) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix="tollkeeper-model-"))
        self.log = SqliteLog(
            self.directory / "log.db", partitions=PARTITIONS, session_timeout_s=60.0
        )
        self.members: list[LogConsumer] = []
        self.epochs: dict[int, int] = {}

    @precondition(lambda self: len(self.members) < 5)
    @rule()
    def enter(self) -> None:
        self.members.append(self.log.consumer("fold"))

    @precondition(lambda self: self.members)
    @rule(which=st.integers(0, 4))
    def poll(self, which: int) -> None:
        member = self.members[which % len(self.members)]
        before = (member.assignment, member.assignment_epoch)
        member.poll(max_records=1, timeout_s=0.0)
        assert member.assignment_epoch >= before[1]
        if member.assignment != before[0]:
            assert member.assignment_epoch > before[1]

    @precondition(lambda self: self.members)
    @rule(which=st.integers(0, 4))
    def leave(self, which: int) -> None:
        self.members.pop(which % len(self.members)).close()

    @precondition(lambda self: self.members)
    @rule()
    def settle(self) -> None:
        for _ in range(3):
            for member in self.members:
                member.poll(max_records=1, timeout_s=0.0)
        sizes = [len(member.assignment) for member in self.members]
        assert sum(sizes) == PARTITIONS
        assert max(sizes) - min(sizes) <= 1

    @invariant()
    def no_partition_has_two_owners(self) -> None:
        owned = [partition for member in self.members for partition in member.assignment]
        assert len(owned) == len(set(owned))

    def teardown(self) -> None:
        for member in self.members:
            member.close()
        self.log.close()
        shutil.rmtree(self.directory)


TestLogEqualsLists = LogMachine.TestCase
TestLogEqualsLists.settings = settings(max_examples=200, stateful_step_count=40, deadline=None)
TestGroupKeepsOwnersApart = GroupMachine.TestCase
TestGroupKeepsOwnersApart.settings = settings(
    max_examples=100, stateful_step_count=30, deadline=None
)
