"""Every event survives the codec, and old records say for ever what they said when written."""

from __future__ import annotations

from collections.abc import Mapping
from io import BytesIO
from typing import Any, Protocol, get_args

import fastavro
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tollkeeper.errors import InvalidEvent, Undecodable, UnknownSchema
from tollkeeper.events import codec
from tollkeeper.events.codec import MAX_BYTES, MAX_EVENT_BYTES, Event, business_hash, decode, encode
from tollkeeper.events.prices import PriceRow, PricesPublished
from tollkeeper.events.registry import registry
from tollkeeper.events.rules import RULES
from tollkeeper.events.usage import UsageRecorded
from tollkeeper.metering.usage import Usage

SCHEMA_IDS = sorted(registry().by_id)


class GoldenRecord(Protocol):
    """What the fixture `golden` holds for each schema id."""

    event: Event
    value: bytes
    document: Mapping[str, Any]


@pytest.mark.parametrize("schema_id", SCHEMA_IDS)
def test_a_golden_record_decodes_to_what_it_said(
    golden: dict[int, GoldenRecord], schema_id: int
) -> None:
    record = golden[schema_id]
    assert record.value[:5] == b"\x00" + schema_id.to_bytes(4, "big")
    assert decode(record.value) == record.event
    assert type(decode(record.value)).__name__ == record.document["event"]


@pytest.mark.parametrize("schema_id", SCHEMA_IDS)
def test_a_golden_event_encodes_to_the_same_bytes_while_its_schema_is_the_newest(
    golden: dict[int, GoldenRecord], schema_id: int
) -> None:
    schema = registry().by_id[schema_id]
    if registry().newest[schema.event] is schema:
        assert encode(golden[schema_id].event) == golden[schema_id].value


def test_a_golden_usage_keeps_its_business_hash(golden: dict[int, GoldenRecord]) -> None:
    usage = [record for record in golden.values() if isinstance(record.event, UsageRecorded)]
    assert usage
    for record in usage:
        assert isinstance(record.event, UsageRecorded)
        assert business_hash(record.event).hex() == record.document["business_hash"]


@pytest.mark.parametrize("kind", RULES, ids=lambda kind: kind.__name__)
@given(data=st.data())
def test_any_valid_event_comes_back_equal(
    valid: dict[type, st.SearchStrategy[Event]], kind: type, data: st.DataObject
) -> None:
    event = data.draw(valid[kind])
    value = encode(event)
    assert decode(value) == event
    assert encode(decode(value)) == value
    assert len(value) <= MAX_BYTES[kind.__name__] <= MAX_EVENT_BYTES


def test_every_member_of_the_union_has_rules_a_schema_and_the_same_fields_in_the_same_order() -> (
    None
):
    assert set(get_args(Event)) == set(RULES)
    assert {kind.__name__ for kind in RULES} == set(registry().newest)
    for kind, rules in RULES.items():
        fields = [field.name for field in msgspec.structs.fields(kind)]
        source = registry().newest[kind.__name__].source
        assert [field["name"] for field in source["fields"]] == fields
        assert set(rules) == set(fields)
        assert source["namespace"] == "tollkeeper.events"


@pytest.mark.parametrize("kind", RULES, ids=lambda kind: kind.__name__)
def test_defaults_of_schema_and_type_agree(kind: type[msgspec.Struct]) -> None:
    """Usage gets its defaults where it is reported; the event itself states every field."""
    source = registry().newest[kind.__name__].source
    in_schema = {f["name"]: f["default"] for f in source["fields"] if "default" in f}
    in_type = {
        field.name: field.default
        for field in msgspec.structs.fields(Usage if kind is UsageRecorded else kind)
        if field.default is not msgspec.NODEFAULT
    }
    if kind is UsageRecorded:
        assert (in_type.pop("event_id"), in_type.pop("occurred_at")) == (None, None)
    assert in_schema == in_type


def test_an_unknown_schema_id_stops_and_names_the_id() -> None:
    with pytest.raises(UnknownSchema, match="schema id 4711 is unknown") as stopped:
        decode(b"\x00" + (4711).to_bytes(4, "big") + b"whatever")
    assert stopped.value.schema_id == 4711


@pytest.mark.parametrize(
    "value", [b"", b"\x00", b"\x00\x00\x00\x00", b"\x01\x00\x00\x00\x01x", b"{}", b"\xff" * 40]
)
def test_bytes_without_framing_are_no_event(value: bytes) -> None:
    with pytest.raises(Undecodable, match=r"value: must begin with 0x00"):
        decode(value)


@pytest.mark.parametrize("wrong", [None, "text", 5, bytearray(b"\x00\x00\x00\x00\x01")])
def test_what_isnt_bytes_is_no_event(wrong: Any) -> None:
    with pytest.raises(Undecodable, match=r"value: must be bytes"):
        decode(wrong)


@pytest.mark.parametrize("wrong", [None, "text", object(), {}])
def test_what_isnt_an_event_isnt_encoded(wrong: Any) -> None:
    with pytest.raises(InvalidEvent, match=r"event: must be an event"):
        encode(wrong)


def test_a_publication_too_large_for_the_log_is_refused_when_written(
    samples: dict[type, Event],
) -> None:
    rows = tuple(
        PriceRow(model=f"{number:0128d}", region="r" * 64, input_picos=1) for number in range(4_400)
    )
    event = msgspec.structs.replace(samples[PricesPublished], prices=rows)
    with pytest.raises(InvalidEvent, match=r"event: must encode to at most 921600 bytes"):
        encode(event)
    fits = msgspec.structs.replace(event, prices=rows[:4_000])
    assert decode(encode(fits)) == fits


def test_a_record_of_an_older_schema_is_read_through_the_newest(
    golden: dict[int, GoldenRecord], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The older version lacked a field that has a default, and had another order."""
    newest = registry().newest["UsageRecorded"]
    fields = [field for field in newest.source["fields"] if field["name"] != "speed"]
    source = newest.source | {"fields": fields[::-1]}
    older = msgspec.structs.replace(newest, schema_id=99, source=source, parsed=_parsed(source))
    both = msgspec.structs.replace(
        registry(), by_id={newest.schema_id: newest, 99: older}, newest={"UsageRecorded": newest}
    )
    forms = codec.forms_of(both)
    monkeypatch.setattr(codec, "_forms", lambda: forms)
    event = golden[newest.schema_id].event
    assert isinstance(event, UsageRecorded)
    assert event.speed == "fast"
    body = BytesIO()
    fastavro.schemaless_writer(body, older.parsed, msgspec.structs.asdict(event))
    record = b"\x00" + (99).to_bytes(4, "big") + body.getvalue()
    assert decode(record) == msgspec.structs.replace(event, speed="standard")


def _parsed(source: dict[str, Any]) -> dict[str, Any]:
    parsed: dict[str, Any] = fastavro.parse_schema(msgspec.json.decode(msgspec.json.encode(source)))
    return parsed
