"""Ten thousand records that nobody should have written: none stops a partition, each is kept whole."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from random import Random

from msgspec.structs import asdict
from on_kafka.installation import PARTITIONS, Installation, load, organization_of
from on_kafka.spoiling import append

from tollkeeper.errors import InvalidInput, UnknownSchema
from tollkeeper.events.codec import decode, encode
from tollkeeper.events.quarantined import Cause
from tollkeeper.events.registry import registry
from tollkeeper.events.usage import UsageRecorded
from tollkeeper.ledger.rows import Letter
from tollkeeper.metering.usage import Usage

SEED = 71
HOSTILE = 10_000
VALID = 600
KNOWN_IDS = tuple(registry().by_id)


def event_of(usage: Usage, sequence: int) -> bytes:
    """The usage as an emitter would have put it on the log."""
    return encode(UsageRecorded(**{**asdict(usage), "emitter": "em-1", "sequence": sequence}))


def noise(random: Random) -> bytes:
    """Random bytes, half of them behind a known schema's header, so that the body is looked at."""
    body = random.randbytes(random.randrange(0, 400))
    if random.random() < 0.5:
        return b"\x00" + random.choice(KNOWN_IDS).to_bytes(4) + body
    return body


def mutated(random: Random, valid: bytes) -> bytes:
    """A valid record with bytes changed, left out, doubled or cut off; its header stays."""
    value = bytearray(valid)
    for _ in range(random.randrange(1, 4)):
        if len(value) == 5:
            break  # nothing but the header is left
        place = random.randrange(5, len(value))
        match random.randrange(4):
            case 0:
                value[place] = random.randrange(256)
            case 1:
                del value[place]
            case 2:
                value[place:place] = value[5:place]
            case _:
                del value[max(6, place) :]
    return bytes(value)


def hostile(random: Random, valid: list[bytes]) -> Iterator[bytes]:
    """Noise and mutations, without two kinds that are no dead letters by design.

    An unknown schema id halts its partition: a newer producer wrote it. What decodes to an event that
    keeps every rule is an event, whoever wrote it; here it would be charged, or open an organization.
    """
    made = 0
    while made < HOSTILE:
        value = noise(random) if made % 2 else mutated(random, random.choice(valid))
        try:
            decode(value)
        except UnknownSchema:
            continue
        except InvalidInput:
            made += 1
            yield value


def test_ten_thousand_hostile_records_are_dead_letters_with_their_bytes(
    installation: Installation,
) -> None:
    random = Random(SEED)
    usages = list(load(SEED, VALID))
    valid = [event_of(usage, number + 1) for number, usage in enumerate(usages)]
    homes = {organization_of(partition): partition for partition in range(PARTITIONS)}
    waiting: list[list[bytes]] = [[] for _ in range(PARTITIONS)]
    expected: Counter[bytes] = Counter()
    for value in hostile(random, valid):
        waiting[random.randrange(PARTITIONS)].append(value)
        expected[value] += 1
    for usage, value in zip(usages, valid, strict=True):  # in between, not behind
        among = waiting[homes[usage.organization]]
        among.insert(random.randrange(len(among)), value)
    places = {}
    for partition, values in enumerate(waiting):
        offsets = append(installation, partition, *values)
        places.update(
            {(partition, offset): value for offset, value in zip(offsets, values, strict=True)}
        )
    found = installation.fold()
    assert found.halted == {}
    assert (found.counts.charged, found.counts.dead_letters) == (VALID, HOSTILE)
    letters = installation.letters()
    assert Counter(letter.raw for letter in letters) == expected
    assert all(places[letter.place] == letter.raw for letter in letters)
    assert {letter.cause for letter in letters} == {Cause.UNDECODABLE, Cause.INVALID}
    assert_every_cause_is_told(letters)
    installation.assert_replays()


def assert_every_cause_is_told(letters: list[Letter]) -> None:
    """Which field, and which rule it breaks."""
    assert all(letter.field and letter.detail for letter in letters)
