"""Hostile bytes, one by one and at random: they end in a named rejection, never in a crash."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tollkeeper.errors import InvalidEvent, InvalidInput, Undecodable, UnknownSchema
from tollkeeper.events import codec
from tollkeeper.events.codec import MAX_BYTES, Event, decode, encode
from tollkeeper.events.prices import PricesPublished
from tollkeeper.events.registry import registry
from tollkeeper.events.rules import RULES
from tollkeeper.events.usage import UsageRecorded

USAGE = b"\x00\x00\x00\x00\x01"
PRICES = b"\x00\x00\x00\x00\x0a"
HUGE = b"\xfe" + b"\xff" * 8 + b"\x01"  # the zigzag varint of 2**63 - 1
MOST_NEGATIVE = b"\xff" * 9 + b"\x01"  # of -2**63
MINUS_ONE = b"\x01"
# Up to and with the count of the price rows' first block.
PRICES_START = (
    PRICES + b"\x02p" + b"\x80\xa0\x9b\xb4\xc4\xe6\xda\x06" + b"\x02s" + b"\x142026-11-12"
)


def _rejected(value: bytes) -> InvalidInput:
    with pytest.raises((Undecodable, InvalidEvent)) as rejected:
        decode(value)
    error = rejected.value
    assert error.field and error.rule.startswith("must")
    # PostgreSQL refuses NUL, and a terminal obeys escapes: no raw byte may reach a message.
    assert str(error).isascii() and str(error).isprintable() and len(str(error)) < 300
    return error


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("no body", USAGE),
        ("string of negative length", USAGE + MINUS_ONE + b"x" * 100),
        ("string of most negative length", USAGE + MOST_NEGATIVE + b"x" * 100),
        ("string of 2**63 - 1 bytes", USAGE + HUGE + b"x" * 100),
        ("string of a gigabyte", USAGE + b"\x80\x80\x80\x80\x08" + b"x" * 100),
        ("varint without end", USAGE + b"\xff" * 1_000),
        ("varint of a thousand bytes", USAGE + b"\x80" * 1_000 + b"\x01"),
        ("bad UTF-8", USAGE + b"\x04\xc3\x28"),
        ("lone surrogate in UTF-8", USAGE + b"\x06\xed\xa0\x80"),
        ("overlong NUL in UTF-8", USAGE + b"\x04\xc0\x80"),
        ("only zeros", USAGE + b"\x00" * 20),
        ("only zeros, the prices", PRICES + b"\x00" * 8),
        ("array of 2**63 - 1 rows", PRICES_START + HUGE),
        ("array of -2**63 rows", PRICES_START + MOST_NEGATIVE + b"\x00"),
        ("array of negative count without size", PRICES_START + MINUS_ONE),
        ("array of endless blocks", PRICES_START + MINUS_ONE * 100_000),
        ("an object container", b"Obj\x01" + b"\x00" * 100),
    ],
)
def test_a_body_that_is_none_is_rejected(name: str, value: bytes) -> None:
    _rejected(value)


def test_the_prepared_start_of_a_publication_is_right_up_to_its_rows() -> None:
    """Otherwise the arrays above would be rejected for something before them."""
    row = b"\x02m" + b"\x02t" + b"\x02s" + b"\x02r" + b"\x00" + b"\x02\x02" + b"\x00" * 5
    end = b"\x00" + b"\x02c" + b"\x02a" + b"\x80\xa0\x9b\xb4\xc4\xe6\xda\x06"
    event = decode(PRICES_START + b"\x02" + row + end)
    assert isinstance(event, PricesPublished)
    assert event.prices[0].input_picos == 1


@pytest.mark.parametrize("kind", RULES, ids=lambda kind: kind.__name__)
def test_bytes_behind_the_event_are_rejected(samples: dict[type, Event], kind: type) -> None:
    value = encode(samples[kind])
    for trailing in (b"\x00", b"\x01", value):
        assert "bytes follow" in _rejected(value + trailing).rule


@pytest.mark.parametrize("kind", RULES, ids=lambda kind: kind.__name__)
def test_every_truncation_is_rejected(samples: dict[type, Event], kind: type) -> None:
    value = encode(samples[kind])
    for length in range(5, len(value)):
        assert isinstance(_rejected(value[:length]), Undecodable)


@pytest.mark.parametrize("branch", [b"\x04", b"\x03", b"\xfe\xff\xff\xff\x0f", HUGE, MOST_NEGATIVE])
def test_a_union_branch_that_doesnt_exist_is_rejected(
    samples: dict[type, Event], branch: bytes
) -> None:
    value = encode(samples[UsageRecorded])
    at = value.index(b"\x12req_011CQ") - 1
    assert value[at : at + 1] == b"\x02"
    _rejected(value[:at] + branch + value[at + 1 :])


@pytest.mark.parametrize("kind", RULES, ids=lambda kind: kind.__name__)
def test_an_event_longer_than_its_types_limit_is_rejected_unread(
    samples: dict[type, Event], kind: type
) -> None:
    limit = MAX_BYTES[kind.__name__]
    value = encode(samples[kind]).ljust(limit, b"\x00")
    assert "bytes follow" in _rejected(value).rule
    assert f"at most {limit} bytes" in _rejected(value + b"\x00").rule


def test_the_largest_record_of_the_smallest_rows_costs_bounded_memory() -> None:
    """The densest bomb that the schemas leave: rows of eleven bytes each, up to the size limit."""
    limit = MAX_BYTES["PricesPublished"]
    rows = (limit - len(PRICES_START) - 20) // 11
    count = _varint(rows)
    end = b"\x00" + b"\x02c" + b"\x02a" + b"\x80\xa0\x9b\xb4\xc4\xe6\xda\x06"
    bomb = PRICES_START + count + b"\x00" * (11 * rows) + end
    assert limit - 40 < len(bomb) <= limit
    tracemalloc.start()
    try:
        error = _rejected(bomb)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert isinstance(error, InvalidEvent) and error.field == "prices[0].model"
    assert peak < 100_000_000


def _varint(number: int) -> bytes:
    number <<= 1
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


@given(body=st.binary(max_size=300), schema_id=st.sampled_from(sorted(registry().by_id)))
@example(body=b"", schema_id=1)
def test_random_bodies_raise_nothing_but_named_rejections(body: bytes, schema_id: int) -> None:
    _decoded_or_rejected(b"\x00" + schema_id.to_bytes(4, "big") + body)


@given(value=st.binary(max_size=60))
def test_random_bytes_raise_nothing_but_named_rejections(value: bytes) -> None:
    _decoded_or_rejected(value)


@given(data=st.data())
def test_changed_records_raise_nothing_but_named_rejections(
    samples: dict[type, Event], data: st.DataObject
) -> None:
    value = bytearray(encode(data.draw(st.sampled_from(list(samples.values())))))
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(5, len(value) - 1))
        cut = data.draw(st.integers(0, 3))
        value[at : at + cut] = data.draw(st.binary(max_size=12))
        if len(value) < 6:
            break
    _decoded_or_rejected(bytes(value))


def _decoded_or_rejected(value: bytes) -> None:
    try:
        event = decode(value)
    except (Undecodable, InvalidEvent) as error:
        assert error.field and error.rule
    except UnknownSchema as error:
        assert error.schema_id not in registry().by_id
    else:
        # What is let in keeps every rule: it could have been written by us.
        assert decode(encode(event)) == event


Forge = Callable[..., bytes]


@pytest.mark.parametrize(
    "text",
    ["", "m\x00", "m\n", "m\x1b[2J", "m\x7f", "m\x85", "m ada", "m\u2028", "m\u202e", "ada@x.org"],
)
@pytest.mark.parametrize("field", ["organization", "member", "emitter"])
def test_forged_ids_are_rejected_by_field(
    samples: dict[type, Event], forge: Forge, field: str, text: str
) -> None:
    error = _rejected(forge(samples[UsageRecorded], **{field: text}))
    assert isinstance(error, InvalidEvent)
    assert error.field == field
    assert "x.org" not in error.rule  # an e-mail address isn't repeated where it may be stored


@pytest.mark.parametrize(
    "field", ["event_id", "request_id", "hold_id", "model", "service_tier", "region"]
)
@pytest.mark.parametrize("text", ["", "a b", "a\x00", "a\u00e9", "a" * 129, "\u200b"])
def test_forged_keys_and_labels_are_rejected_by_field(
    samples: dict[type, Event], forge: Forge, field: str, text: str
) -> None:
    assert _rejected(forge(samples[UsageRecorded], **{field: text})).field == field


@pytest.mark.parametrize(
    ("field", "number"),
    [
        ("input_tokens", -1),
        ("output_tokens", -(2**63)),
        ("cache_read_tokens", 1_000_000_001),
        ("cache_write_5m_tokens", 2**63 - 1),
        ("cache_write_1h_tokens", -1),
        ("web_search_requests", -1),
        ("occurred_at", 0),
        ("occurred_at", 1_577_836_799_999_999),
        ("occurred_at", 4_102_444_800_000_000),
        ("occurred_at", 2**63 - 1),
        ("sequence", 0),
        ("sequence", -5),
        ("sequence", 2**62 + 1),
    ],
)
def test_forged_numbers_are_rejected_by_field(
    samples: dict[type, Event], forge: Forge, field: str, number: int
) -> None:
    error = _rejected(forge(samples[UsageRecorded], **{field: number}))
    assert isinstance(error, InvalidEvent)
    assert error.field == field
    assert str(number) in error.rule


def test_no_error_of_the_avro_library_escapes(
    samples: dict[type, Event], monkeypatch: pytest.MonkeyPatch
) -> None:
    value = encode(samples[UsageRecorded])
    for error in (
        MemoryError,
        RecursionError,
        OverflowError,
        StopIteration,
        KeyError,
        AttributeError,
    ):

        def fail(*_: Any, error: type[Exception] = error) -> None:
            raise error("made up")

        monkeypatch.setattr(codec, "schemaless_reader", fail)
        assert error.__name__ in _rejected(value).rule
