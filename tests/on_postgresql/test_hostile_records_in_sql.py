"""Ten thousand records that nobody should have written: PostgreSQL takes every dead letter as it is."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from random import Random

import pytest
from msgspec.structs import replace
from on_kafka.installation import PARTITIONS, Installation, load, organization_of
from on_kafka.test_hostile_records import event_of, hostile

from tollkeeper.log.port import Outgoing
from tollkeeper.metering.usage import Usage

SEED = 72
HOSTILE = 10_000
VALID = 300
PLACE = b"\x06QQQ"
"""Three letters as Avro writes them, in whose place others are put: `encode` would refuse those."""
ODD = (
    b"\x06a\x00b",  # PostgreSQL's text takes no NUL
    b"\x06\xed\xa0\x80",  # a lone surrogate, which is no UTF-8
    b"\xe0\xc5\x08" + b"x" * 70_000,
    b"\x06\xe2\x80\xae",  # turns the direction of writing
)
FIELDS = ("event_id", "organization", "member", "model", "request_id")


def odd_texts(random: Random, usages: list[Usage]) -> Iterator[bytes]:
    """Events that are whole but for one text."""
    for number in range(HOSTILE // 2):
        placed = replace(random.choice(usages), **{random.choice(FIELDS): "QQQ"})
        yield event_of(placed, number + 1).replace(PLACE, ODD[number % len(ODD)])


def some(values: Iterator[bytes], count: int) -> Iterator[bytes]:
    for value, _ in zip(values, range(count), strict=False):
        yield value


@pytest.mark.soak
def test_no_hostile_record_fails_a_batch(
    installation: Installation,
) -> None:
    random = Random(SEED)
    usages = list(load(SEED, VALID))
    valid = [event_of(usage, number + 1) for number, usage in enumerate(usages)]
    noisy = some(hostile(random, valid), HOSTILE // 2)
    waiting: list[list[bytes]] = [[] for _ in range(PARTITIONS)]
    homes = {organization_of(partition): partition for partition in range(PARTITIONS)}
    for value in (*noisy, *odd_texts(random, usages)):
        waiting[random.randrange(PARTITIONS)].append(value)
    expected = Counter(value for values in waiting for value in values)
    for usage, value in zip(usages, valid, strict=True):  # in between, not behind
        among = waiting[homes[usage.organization]]
        among.insert(random.randrange(len(among)), value)
    for partition, values in enumerate(waiting):
        installation.app.log.append([Outgoing(partition, b"a\x00b", value) for value in values])
    found = installation.fold()
    assert found.halted == {}
    assert (found.counts.charged, found.counts.dead_letters) == (VALID, HOSTILE)
    assert Counter(letter.raw for letter in installation.letters()) == expected
    installation.assert_replays()
