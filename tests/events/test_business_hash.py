"""The business hash tells a repeated report from a conflicting one, the same in every release."""

from __future__ import annotations

from hashlib import blake2b

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tollkeeper.events.business_hash import NOT_HASHED, business_hash
from tollkeeper.events.codec import Event, decode, encode
from tollkeeper.events.usage import UsageRecorded

HASHED = [field for field in UsageRecorded.__struct_fields__ if field not in NOT_HASHED]


@pytest.fixture
def usage(samples: dict[type, Event]) -> UsageRecorded:
    event = samples[UsageRecorded]
    assert isinstance(event, UsageRecorded)
    return event


def test_who_reported_it_is_no_part_of_the_content(usage: UsageRecorded) -> None:
    again = msgspec.structs.replace(usage, emitter="em-other", sequence=1)
    assert business_hash(again) == business_hash(usage)
    assert len(business_hash(usage)) == 16


@pytest.mark.parametrize("field", HASHED)
def test_every_business_field_changes_the_hash(usage: UsageRecorded, field: str) -> None:
    value = getattr(usage, field)
    other = value + 1 if isinstance(value, int) else f"{value}x"
    changed = msgspec.structs.replace(usage, **{field: other})
    assert business_hash(changed) != business_hash(usage)


def test_text_doesnt_move_between_neighbouring_fields(usage: UsageRecorded) -> None:
    one = msgspec.structs.replace(usage, request_id="ab", hold_id=None)
    other = msgspec.structs.replace(usage, request_id=None, hold_id="ab")
    assert business_hash(one) != business_hash(other)
    one = msgspec.structs.replace(usage, input_tokens=1, output_tokens=23)
    other = msgspec.structs.replace(usage, input_tokens=12, output_tokens=3)
    assert business_hash(one) != business_hash(other)


@given(data=st.data())
def test_the_hash_is_the_documented_one(
    valid: dict[type, st.SearchStrategy[UsageRecorded]], data: st.DataObject
) -> None:
    """Written out once more with other means, so that no change of a library passes unseen."""
    usage = data.draw(valid[UsageRecorded])
    packed = bytes([0xDC, 0, len(HASHED)]) + b"".join(_packed(getattr(usage, f)) for f in HASHED)
    assert business_hash(usage) == blake2b(packed, digest_size=16).digest()
    read = decode(encode(usage))
    assert isinstance(read, UsageRecorded)
    assert business_hash(read) == business_hash(usage)


def _packed(value: str | int | None) -> bytes:
    """MessagePack's shortest forms of what usage holds: nil, strings up to 255 bytes, positive ints."""
    if value is None:
        return b"\xc0"
    if isinstance(value, str):
        text = value.encode()
        return (bytes([0xA0 | len(text)]) if len(text) < 32 else bytes([0xD9, len(text)])) + text
    if value < 128:
        return bytes([value])
    size = next(size for size in (1, 2, 4, 8) if value < 256**size)
    return bytes([{1: 0xCC, 2: 0xCD, 4: 0xCE, 8: 0xCF}[size]]) + value.to_bytes(size, "big")
