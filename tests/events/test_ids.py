"""New ids sort by time, grow strictly within a process and never meet those of a forked child."""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tollkeeper.errors import InvalidEvent
from tollkeeper.events.ids import (
    TimeOrderedIds,
    check_id,
    check_key,
    check_label,
    check_organization,
    new_command_id,
    new_command_line_id,
    new_emitter_id,
    new_event_id,
)

MILLISECOND = 1_000


def _clock(*micros: int) -> Callable[[], int]:
    times = iter(micros)
    return lambda: next(times)


def _zeros(count: int) -> bytes:
    return bytes(count)


def _ones(count: int) -> bytes:
    return b"\xff" * count


@given(
    st.lists(st.integers(0, 50 * MILLISECOND), min_size=2, max_size=50),
    st.randoms(use_true_random=False),
)
def test_ids_grow_strictly_whatever_the_clock_does(times: list[int], random: Random) -> None:
    ids = TimeOrderedIds(_clock(*times), random.randbytes)
    made = [ids.next_hex() for _ in times]
    assert all(one < other for one, other in pairwise(made))


def test_an_id_is_a_uuid_of_version_7_that_begins_with_its_millisecond() -> None:
    ids = TimeOrderedIds(_clock(1_793_491_200_123_456), _ones)
    made = uuid.UUID(ids.next_hex())
    assert (made.version, made.variant) == (7, uuid.RFC_4122)
    assert made.int >> 80 == 1_793_491_200_123


def test_ids_of_later_milliseconds_sort_behind_whatever_the_entropy() -> None:
    assert (
        TimeOrderedIds(_clock(5 * MILLISECOND), _ones).next_hex()
        < TimeOrderedIds(_clock(6 * MILLISECOND), _zeros).next_hex()
    )


def test_a_clock_that_steps_back_doesnt_take_the_ids_back() -> None:
    ids = TimeOrderedIds(_clock(9 * MILLISECOND, 2 * MILLISECOND, 10 * MILLISECOND), _zeros)
    first, second, third = (ids.next_hex() for _ in range(3))
    assert first < second < third
    assert first[:12] == second[:12] != third[:12]


def test_a_millisecond_that_is_used_up_borrows_from_the_next() -> None:
    """Made to happen with a tail at its very end: 2**73 steps are out of any test's reach."""
    ids = TimeOrderedIds(lambda: 7 * MILLISECOND, _ones)
    ids.next_hex()
    ids._last_tail = (1 << 74) - 1
    after = ids.next_hex()
    assert int(after[:12], 16) == 8
    assert uuid.UUID(after).version == 7


def test_ids_are_unique_across_threads() -> None:
    ids = TimeOrderedIds(lambda: 7 * MILLISECOND)
    with ThreadPoolExecutor(4) as threads:
        made = [
            one
            for part in threads.map(lambda _: [ids.next_hex() for _ in range(500)], range(4))
            for one in part
        ]
    assert len(set(made)) == 2_000


def _child_ids(make: Callable[[], str]) -> Iterator[str]:
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(writing, " ".join(make() for _ in range(20)).encode())
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as pipe:
        yield from pipe.read().split()
    assert os.waitpid(child, 0)[1] == 0


def test_a_forked_child_makes_other_ids_even_while_another_thread_held_the_lock() -> None:
    # The least entropy possible while the parent makes ids; the child has its own.
    entropy = [_zeros]
    ids = TimeOrderedIds(lambda: 7 * MILLISECOND, lambda count: entropy[0](count))
    last = ids.next_hex()
    entropy[0] = lambda count: bytes(count - 1) + b"\x01"
    with ids._lock:
        from_child = list(_child_ids(ids.next_hex))
    entropy[0] = _zeros
    from_parent = [ids.next_hex() for _ in range(20)]
    assert len(from_child) == 20
    assert not set(from_child) & set(from_parent)
    assert min(from_child) > last
    assert list(from_child) == sorted(from_child)


@pytest.mark.parametrize(
    "make", [new_event_id, new_command_id, new_emitter_id, new_command_line_id]
)
def test_new_ids_keep_the_rules_and_sort_by_time(make: Callable[[], str]) -> None:
    made = [make() for _ in range(1_000)]
    assert made == sorted(set(made))
    for one in made:
        check_id("id", one)
        check_key("id", one)


def test_an_event_id_is_a_uuid_as_text() -> None:
    made = new_event_id()
    assert str(uuid.UUID(made)) == made


EMAIL = "ada@example.org"


@pytest.mark.parametrize(
    ("check", "good", "bad"),
    [
        (check_id, ["a", "team/ada", "A-Z_a.z:0~9|+=", "a" * 128], ["", "a" * 129, EMAIL, "a b"]),
        (check_organization, ["acme", "a" * 128], ["", "a" * 129, "a/b", EMAIL, "a\n"]),
        (check_key, ["!", "ada@x/y~", "a" * 128], ["", "a" * 129, "a b", "a\x7f", "é"]),
        (check_label, ["standard", "a" * 64], ["", "a" * 65, "a b", "a\x00"]),
    ],
)
def test_each_check_takes_what_it_says_and_refuses_by_field(
    check: Callable[[str, object], None], good: list[str], bad: list[object]
) -> None:
    for value in good:
        check("field", value)
    for refused in [*bad, None, 1, b"a", "\ud800"]:
        with pytest.raises(InvalidEvent, match=r"field: must be 1 to ") as error:
            check("field", refused)
        assert EMAIL not in str(error.value)
