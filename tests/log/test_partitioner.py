"""The partitioner: Kafka's own choice, so that every client of every language finds the same place."""

from __future__ import annotations

import warnings

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tollkeeper.log.partitioner import murmur2, partition_for

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)  # kafka-python's own, while it is imported
    from kafka.partitioner.default import murmur2 as kafkas_murmur2


@given(st.binary(max_size=64))
def test_the_hash_is_kafkas_for_every_key(key: bytes) -> None:
    assert murmur2(key) == kafkas_murmur2(key) & 0xFFFFFFFF


@pytest.mark.parametrize(
    ("key", "expected"),
    [(b"21", -973932308), (b"foobar", -790332482), (b"a-little-bit-long-string", -985981536)],
)
def test_the_hash_is_that_of_kafkas_java_tests(key: bytes, expected: int) -> None:
    assert murmur2(key) == expected & 0xFFFFFFFF


@pytest.mark.parametrize("partitions", [1, 2, 7, 8, 64])
def test_every_partition_is_used_and_none_beyond(partitions: int) -> None:
    used = {partition_for(f"org-{number}", partitions) for number in range(2_000)}
    assert used == set(range(partitions))
