"""What every adapter of the log port must do for consumers: positions, groups, epochs, commits."""

from __future__ import annotations

import os
import signal
import threading
import time

import pytest
from log.making import (
    PARTITIONS,
    SETTLED_S,
    LogMaker,
    are_shared_out,
    numbered,
    poll_until,
    settle,
    settle_in_new_epoch,
)
from support.waiting import eventually

from tollkeeper.errors import LogDiverged, Misuse
from tollkeeper.log.port import LogRecord


class GroupContract:
    """Consumers alone and in groups, dying, stopped and idle. Needs the fixtures of LogContract."""

    session_timeout_s = 2.0

    # A consumer alone

    def test_nothing_is_read_before_seek(self, make_log: LogMaker) -> None:
        make_log().append(numbered(0, 3))
        consumer = make_log.consumer()
        assert consumer.assignment == frozenset()
        settle([consumer], lambda: are_shared_out([consumer]))
        assert consumer.poll(max_records=10, timeout_s=0.2) == []
        consumer.seek(0, 1)
        assert [record.offset for record in poll_until(consumer, 2)] == [1, 2]

    def test_seek_goes_back_and_forth(self, make_log: LogMaker) -> None:
        make_log().append(numbered(0, 10))
        consumer = make_log.consumer()
        settle([consumer], lambda: are_shared_out([consumer]))
        for offset in (0, 7, 3):
            consumer.seek(0, offset)
            records = poll_until(consumer, 10 - offset, max_records=4)
            assert [record.offset for record in records] == list(range(offset, 10))

    def test_seek_of_a_partition_that_is_not_owned_or_before_zero_is_misuse(
        self, make_log: LogMaker
    ) -> None:
        consumer = make_log.consumer()
        with pytest.raises(Misuse, match="partition 0"):
            consumer.seek(0, 0)
        settle([consumer], lambda: are_shared_out([consumer]))
        with pytest.raises(Misuse, match="-1"):
            consumer.seek(0, -1)

    def test_poll_answers_at_most_max_records_in_offset_order_of_all_positioned_partitions(
        self, make_log: LogMaker
    ) -> None:
        log = make_log()
        for partition in range(PARTITIONS):
            log.append(numbered(partition, 25))
        consumer = make_log.consumer()
        settle([consumer], lambda: are_shared_out([consumer]))
        for partition in range(PARTITIONS):
            consumer.seek(partition, 5)
        seen: list[LogRecord] = []

        def step() -> bool:
            records = consumer.poll(max_records=7, timeout_s=0.1)
            assert len(records) <= 7
            seen.extend(records)
            return len(seen) >= 20 * PARTITIONS

        eventually(step, SETTLED_S, what="all records")
        for partition in range(PARTITIONS):
            offsets = [record.offset for record in seen if record.partition == partition]
            assert offsets == list(range(5, 25))

    def test_poll_returns_as_soon_as_a_record_comes(self, make_log: LogMaker) -> None:
        log = make_log()
        consumer = make_log.consumer()
        settle([consumer], lambda: are_shared_out([consumer]))
        consumer.seek(2, 0)
        assert consumer.poll(max_records=10, timeout_s=0.1) == []
        timer = threading.Timer(0.2, lambda: log.append(numbered(2, 1)))
        began = time.monotonic()
        timer.start()
        records = consumer.poll(max_records=10, timeout_s=SETTLED_S)
        took_s = time.monotonic() - began
        timer.join()
        assert [(record.partition, record.value) for record in records] == [(2, b"0")]
        assert took_s < SETTLED_S / 2

    def test_a_position_past_the_end_is_reported_once_and_the_other_partitions_go_on(
        self, make_log: LogMaker
    ) -> None:
        make_log().append([*numbered(0, 3), *numbered(1, 3)])
        consumer = make_log.consumer()
        settle([consumer], lambda: are_shared_out([consumer]))
        consumer.seek(0, 4)
        with pytest.raises(LogDiverged, match=r"partition 0: .* 4 .* 3"):
            consumer.poll(max_records=10, timeout_s=5.0)
        consumer.seek(1, 0)
        assert {record.partition for record in poll_until(consumer, 3)} == {1}

    def test_a_closed_consumer_is_misuse_and_closing_twice_is_not(self, make_log: LogMaker) -> None:
        consumer = make_log.consumer()
        consumer.poll(max_records=1, timeout_s=0.1)
        consumer.close()
        consumer.close()
        with pytest.raises(Misuse, match="closed"):
            consumer.poll(max_records=1, timeout_s=0.0)

    # Groups

    def test_two_and_three_members_share_all_partitions_and_a_fifth_owns_nothing(
        self, make_log: LogMaker
    ) -> None:
        members = [make_log.consumer()]
        settle(members, lambda: are_shared_out(members))
        for _ in range(4):
            members.append(make_log.consumer())
            settle_in_new_epoch(members)
            sizes = sorted(len(member.assignment) for member in members)
            assert sizes[-1] - sizes[0] <= 1
        assert sizes == [0, 1, 1, 1, 1]

    def test_owners_are_named_while_they_are_members(self, make_log: LogMaker) -> None:
        log = make_log()
        assert log.owners("fold") == {}
        consumer = make_log.consumer()
        settle([consumer], lambda: are_shared_out([consumer]))
        owners = log.owners("fold")
        assert sorted(owners) == list(range(PARTITIONS))
        (owner,) = set(owners.values())
        assert str(os.getpid()) in owner
        assert log.owners("other") == {}
        consumer.close()
        assert log.owners("fold") == {}

    def test_groups_do_not_disturb_one_another(self, make_log: LogMaker) -> None:
        make_log().append(numbered(0, 2))
        one, other = make_log.consumer("one"), make_log.consumer("other")
        settle([one, other], lambda: are_shared_out([one]) and are_shared_out([other]))
        for consumer in (one, other):
            consumer.seek(0, 0)
            assert [record.offset for record in poll_until(consumer, 2)] == [0, 1]

    def test_a_member_that_leaves_is_replaced_before_its_session_would_end(
        self, make_log: LogMaker
    ) -> None:
        stays, leaves = (make_log.consumer(session_timeout_s=30.0) for _ in range(2))
        settle([stays, leaves], lambda: are_shared_out([stays, leaves]) and leaves.assignment)
        began = time.monotonic()
        leaves.close()
        assert leaves.assignment == frozenset()
        settle([stays], lambda: are_shared_out([stays]))
        assert time.monotonic() - began < 15.0

    def test_the_same_assignment_coming_back_is_a_new_epoch_without_positions(
        self, make_log: LogMaker
    ) -> None:
        make_log().append(numbered(0, 3))
        consumer = make_log.consumer()
        settle([consumer], lambda: are_shared_out([consumer]))
        epoch = consumer.assignment_epoch
        consumer.seek(0, 0)
        assert len(poll_until(consumer, 3)) == 3
        passer_by = make_log.consumer()
        settle([consumer, passer_by], lambda: passer_by.assignment)
        passer_by.close()
        settle([consumer], lambda: are_shared_out([consumer]))
        assert consumer.assignment_epoch > epoch
        make_log().append(numbered(0, 1))
        assert consumer.poll(max_records=10, timeout_s=0.3) == []
        consumer.seek(0, 3)
        assert [record.offset for record in poll_until(consumer, 1)] == [3]

    def test_nobody_owns_a_partition_before_its_former_owner_has_polled_again(
        self, make_log: LogMaker
    ) -> None:
        busy, newcomer = make_log.consumer(), make_log.consumer()
        settle([busy], lambda: are_shared_out([busy]))
        # Longer than a session: `busy` works on a batch, and its heartbeats alone keep it a member.
        newcomer.poll(max_records=1, timeout_s=2 * self.session_timeout_s)
        assert newcomer.assignment == frozenset()
        assert are_shared_out([busy])
        settle([busy, newcomer], lambda: are_shared_out([busy, newcomer]) and newcomer.assignment)

    def test_a_member_killed_is_replaced_after_its_session(self, make_log: LogMaker) -> None:
        make_log().append([record for p in range(PARTITIONS) for record in numbered(p, 2)])
        consumer = make_log.consumer()
        with make_log.child("member", "fold") as child:
            settle(
                [consumer], lambda: are_shared_out([consumer, child]) and child.assignment, "both"
            )
            child.says("read")
            child.send_signal(signal.SIGKILL)
            child.wait()
            settle([consumer], lambda: are_shared_out([consumer]), "the takeover")

    def test_a_member_stopped_past_its_session_is_replaced_and_comes_back_in_a_new_epoch(
        self, make_log: LogMaker
    ) -> None:
        consumer = make_log.consumer()
        with make_log.child("member", "fold") as child:
            settle(
                [consumer], lambda: are_shared_out([consumer, child]) and child.assignment, "both"
            )
            epoch = child.assignment_epoch
            child.send_signal(signal.SIGSTOP)
            settle([consumer], lambda: are_shared_out([consumer]), "the takeover")
            child.send_signal(signal.SIGCONT)
            settle(
                [consumer],
                lambda: (
                    child.assignment_epoch > epoch
                    and child.assignment
                    and are_shared_out([consumer, child])
                ),
                "the return",
            )

    def test_a_member_stopped_past_its_session_finds_itself_expelled_when_nobody_else_noticed(
        self, make_log: LogMaker
    ) -> None:
        with make_log.child("member", "fold") as child:
            eventually(lambda: are_shared_out([child]), SETTLED_S, what="the start")
            epoch = child.assignment_epoch
            child.send_signal(signal.SIGSTOP)
            session_over_at = time.monotonic() + 1.5 * self.session_timeout_s
            eventually(lambda: time.monotonic() > session_over_at, what="the session's end")
            child.send_signal(signal.SIGCONT)
            eventually(
                lambda: child.assignment_epoch > epoch and are_shared_out([child]),
                SETTLED_S,
                what="the return",
            )

    def test_a_member_that_stops_polling_is_expelled_though_its_heartbeats_go_on(
        self, make_log: LogMaker
    ) -> None:
        idle = make_log.consumer(max_poll_interval_s=1.0)
        settle([idle], lambda: are_shared_out([idle]))
        epoch = idle.assignment_epoch
        active = make_log.consumer()
        settle([active], lambda: are_shared_out([active]), "the takeover")
        settle([idle, active], lambda: idle.assignment and are_shared_out([idle, active]))
        assert idle.assignment_epoch > epoch

    # Committed offsets

    def test_committed_offsets_are_kept_per_group_and_absent_before_the_first(
        self, make_log: LogMaker
    ) -> None:
        log = make_log()
        log.append([*numbered(0, 5), *numbered(1, 5)])
        assert log.committed("fold") == {}
        consumer = make_log.consumer("fold")
        settle([consumer], lambda: are_shared_out([consumer]))
        consumer.commit({0: 2, 1: 5})
        consumer.commit({0: 3})
        consumer.commit({})
        eventually(lambda: log.committed("fold") == {0: 3, 1: 5})
        assert log.committed("another") == {}
        consumer.close()
        assert make_log().committed("fold") == {0: 3, 1: 5}

    def test_committing_a_partition_that_another_member_owns_is_ignored(
        self, make_log: LogMaker
    ) -> None:
        log = make_log()
        one, other = make_log.consumer(), make_log.consumer()
        settle_in_new_epoch([one, other])
        assert one.assignment and other.assignment
        everything = dict.fromkeys(range(PARTITIONS), 7)
        one.commit(everything)
        eventually(lambda: log.committed("fold") == dict.fromkeys(one.assignment, 7))

    def test_a_commit_after_ownership_was_lost_is_ignored(self, make_log: LogMaker) -> None:
        log = make_log()
        log.append(numbered(0, 9))
        zombie = make_log.consumer(max_poll_interval_s=1.0)
        settle([zombie], lambda: are_shared_out([zombie]))
        owner = make_log.consumer()
        settle([owner], lambda: are_shared_out([owner]), "the takeover")
        owner.commit({0: 9})
        zombie.commit({0: 4})  # still believes that it owns the partition
        assert 0 in zombie.assignment
        assert log.committed("fold") == {0: 9}
