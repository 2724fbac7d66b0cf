"""What every adapter of the log port must do when appending and reading."""

from __future__ import annotations

import threading
import time

import pytest
from log.making import PARTITIONS, SETTLED_S, LogMaker, numbered, read_all

from tollkeeper.errors import InvalidInput, Misuse
from tollkeeper.log.port import MAX_RECORD_BYTES, Log, Outgoing


class AppendContract:
    """Order, offsets, times and identity. Needs the fixtures of LogContract."""

    def test_offsets_start_at_zero_without_gaps_and_answer_in_call_order(self, log: Log) -> None:
        mixed = [Outgoing(n % 3, b"k", b"%d" % n) for n in range(9)]
        assert log.append(mixed) == [0, 0, 0, 1, 1, 1, 2, 2, 2]
        assert log.append(numbered(1, 2)) == [3, 4]
        assert [record.offset for record in read_all(log, 1)] == [0, 1, 2, 3, 4]
        assert [record.value for record in read_all(log, 1)] == [b"1", b"4", b"7", b"0", b"1"]
        assert read_all(log, 3) == []

    def test_appending_nothing_does_nothing(self, log: Log) -> None:
        assert log.append([]) == []
        assert log.end_offsets() == {0: 0, 1: 0, 2: 0, 3: 0}

    def test_end_and_start_offsets_name_every_partition(self, log: Log) -> None:
        log.append(numbered(2, 5))
        assert log.end_offsets() == {0: 0, 1: 0, 2: 5, 3: 0}
        assert log.start_offsets() == {0: 0, 1: 0, 2: 0, 3: 0}
        assert log.partition_count == PARTITIONS

    @pytest.mark.parametrize(
        ("offset", "max_records", "expected"),
        [(0, 3, [0, 1, 2]), (8, 3, [8, 9]), (9, 1, [9]), (10, 3, []), (4, 1, [4])],
    )
    def test_read_answers_from_the_offset_at_most_max_records_and_nothing_at_the_end(
        self, log: Log, offset: int, max_records: int, expected: list[int]
    ) -> None:
        log.append(numbered(0, 10))
        records = log.read(0, offset, max_records=max_records)
        assert [record.offset for record in records] == expected
        assert [record.next_offset for record in records] == [n + 1 for n in expected]
        assert [record.value for record in records] == [b"%d" % n for n in expected]

    def test_another_handle_reads_what_was_appended(self, make_log: LogMaker) -> None:
        make_log().append(numbered(0, 3))
        assert [record.value for record in read_all(make_log(), 0)] == [b"0", b"1", b"2"]

    def test_any_bytes_come_back_as_they_were(self, log: Log) -> None:
        every_byte = bytes(range(256))
        sent = [
            Outgoing(0, None, every_byte),
            Outgoing(0, every_byte, b"\x00"),
            Outgoing(0, b"", b""),
            Outgoing(0, "Käse\x00".encode(), b"\xff\xfe"),
        ]
        log.append(sent)
        assert [(r.key, r.value) for r in read_all(log, 0)] == [(o.key, o.value) for o in sent]

    def test_the_largest_record_is_accepted_and_one_byte_more_is_refused_with_the_whole_batch(
        self, log: Log
    ) -> None:
        largest = bytes(range(250)) * (MAX_RECORD_BYTES // 250)
        assert log.append([Outgoing(0, None, largest)]) == [0]
        with pytest.raises(InvalidInput, match=f"value: .*{MAX_RECORD_BYTES} bytes, not"):
            log.append([*numbered(0, 2), Outgoing(0, b"k", largest)])
        assert log.append(numbered(0, 1)) == [1]
        assert [record.value for record in read_all(log, 0, at_a_time=1)] == [largest, b"0"]

    def test_a_partition_that_does_not_exist_is_misuse_and_nothing_is_appended(
        self, log: Log
    ) -> None:
        with pytest.raises(Misuse, match=f"partition {PARTITIONS}"):
            log.append([*numbered(0, 1), Outgoing(PARTITIONS, None, b"x")])
        with pytest.raises(Misuse, match="partition -1"):
            log.read(-1, 0, max_records=1)
        assert log.end_offsets()[0] == 0

    def test_appended_at_is_the_logs_own_time_and_never_falls_with_the_offset(
        self, log: Log
    ) -> None:
        before = time.time_ns() // 1000
        for _ in range(3):
            log.append(numbered(0, 2))
        after = time.time_ns() // 1000
        times = [record.appended_at for record in read_all(log, 0)]
        assert times == sorted(times)
        a_millisecond = 1000  # Kafka keeps no finer time
        assert before - a_millisecond <= times[0] <= times[-1] <= after + a_millisecond

    def test_the_identity_is_the_same_for_every_handle_and_another_after_recreation(
        self, make_log: LogMaker
    ) -> None:
        log = make_log()
        log.append(numbered(0, 1))
        identity = log.identity
        assert identity
        assert make_log().identity == identity
        make_log.recreate()
        recreated = make_log()
        assert recreated.identity != identity
        assert recreated.end_offsets()[0] == 0

    def test_processes_that_append_at_once_leave_no_gap_and_keep_their_own_order(
        self, make_log: LogMaker
    ) -> None:
        names = ["a", "b", "c"]
        children = [make_log.child("appender", name, "30", "20") for name in names]
        for child in children:
            child.says("ready")
        for child in children:
            child.go()
        acknowledged: dict[tuple[int, int], str] = {}
        for child in children:
            with child:
                assert child.wait() == 0
            for message in child.messages[1:]:
                for partition, offset, value in message["acknowledged"]:
                    assert (partition, offset) not in acknowledged
                    acknowledged[partition, offset] = value
        log = make_log()
        stored = {(p, r.offset): r.value.decode() for p in range(4) for r in read_all(log, p)}
        assert stored == acknowledged
        assert sum(log.end_offsets().values()) == len(stored) == 3 * 30 * 20
        for name in names:
            for partition in range(PARTITIONS):
                values = [r.value.decode() for r in read_all(log, partition)]
                numbers = [int(v.split(":")[1]) for v in values if v.startswith(f"{name}:")]
                assert numbers == sorted(numbers)

    def test_threads_that_share_a_handle_append_without_gaps(self, log: Log) -> None:
        answers: list[int] = []

        def append() -> None:
            for _ in range(10):
                answers.extend(log.append(numbered(0, 5)))

        threads = [threading.Thread(target=append) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(timeout=SETTLED_S)
        assert sorted(answers) == list(range(200))
        assert [record.offset for record in read_all(log, 0)] == list(range(200))
