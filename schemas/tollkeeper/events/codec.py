"""Events to bytes and back: Confluent framing (0x00, schema id, Avro body), checked on both sides.

Whatever the bytes, reading ends in an event that keeps every rule, or in Undecodable, InvalidEvent
or UnknownSchema. Must not know the log.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from functools import cache
from io import BytesIO
from typing import Any

import msgspec
from fastavro import schemaless_reader, schemaless_writer

from tollkeeper.errors import InvalidEvent, Undecodable, UnknownSchema
from tollkeeper.events.business_hash import business_hash
from tollkeeper.events.emitters import EmitterEvent
from tollkeeper.events.gate import DefaultGatePolicySet, GateEvent
from tollkeeper.events.organization import OrganizationEvent, Threshold, ThresholdsSet
from tollkeeper.events.prices import PriceEvent, PriceRow, PricesPublished
from tollkeeper.events.quarantine import QuarantineEvent
from tollkeeper.events.registry import AvroSchema, Registry, registry
from tollkeeper.events.rules import RULES, check_event
from tollkeeper.events.usage import UsageRecorded
from tollkeeper.events.usage_rules import usage_holds

__all__ = ["MAX_BYTES", "MAX_EVENT_BYTES", "Event", "business_hash", "decode", "encode"]

Event = (
    UsageRecorded
    | OrganizationEvent
    | PriceEvent
    | QuarantineEvent
    | EmitterEvent
    | GateEvent
    | DefaultGatePolicySet
)

MAX_EVENT_BYTES = 900 * 1024
"""No event is longer: Kafka takes 1 MB by default, with the batch around it."""
_MAX_SMALL_BYTES = 8 * 1024
MAX_BYTES = {
    kind.__name__: MAX_EVENT_BYTES if kind is PricesPublished else _MAX_SMALL_BYTES
    for kind in RULES
}
"""The longest record of each event type, framing included. Longer bytes aren't even looked into."""

_MAGIC = 0
_HEADER = struct.Struct(">BI")
_HEADER_BYTES = 5

# All that fastavro was seen to raise, or could, on a body that doesn't fit its schema.
_BODY_ERRORS = (
    ArithmeticError,
    AttributeError,
    EOFError,
    LookupError,
    MemoryError,
    OSError,
    RecursionError,
    StopIteration,
    TypeError,
    ValueError,
    struct.error,
)

Values = dict[str, Any]
"""A decoded body: field name to value."""


class _Form(msgspec.Struct, frozen=True):
    """How one schema's bodies are read: `reader` is None when the writer's schema is the newest."""

    event: str
    writer: AvroSchema
    reader: AvroSchema | None
    max_bytes: int
    build: Callable[[Values], Event]


def encode(event: Event) -> bytes:
    """The event's record for the log. InvalidEvent names the field and the rule that it breaks."""
    if type(event) is UsageRecorded:
        values = _checked_usage_values(event)
    else:
        check_event(event)
        values = msgspec.to_builtins(event)
    name = type(event).__name__
    header, schema = _written_with()[name]
    buffer = BytesIO()
    buffer.write(header)
    schemaless_writer(buffer, schema, values)
    value = buffer.getvalue()
    if len(value) > MAX_BYTES[name]:
        raise InvalidEvent(
            "event", f"must encode to at most {MAX_BYTES[name]} bytes, not {len(value)}"
        )
    return value


def decode(value: bytes) -> Event:
    """The event of a record. Undecodable: no event; InvalidEvent: it breaks a rule.

    UnknownSchema: a newer producer wrote it, so nobody may skip it.
    """
    form = _forms().get(value[:_HEADER_BYTES]) if type(value) is bytes else None
    if form is None:
        raise _unframed(value)
    if len(value) > form.max_bytes:
        raise Undecodable("value", f"must be at most {form.max_bytes} bytes for {form.event}")
    buffer = BytesIO(value[_HEADER_BYTES:])
    try:
        values = schemaless_reader(buffer, form.writer, form.reader)
    except _BODY_ERRORS as error:
        raise Undecodable(
            "body", f"must be a {form.event} in Avro: {type(error).__name__}"
        ) from error
    if buffer.tell() != len(value) - _HEADER_BYTES:
        raise Undecodable("body", f"must end with the {form.event}: bytes follow it")
    return form.build(values)


def _build_usage(values: Values) -> Event:
    fields = tuple(values.values())
    event = UsageRecorded(*fields)
    if not usage_holds(*fields):
        check_event(event)
    return event


def _build_prices(values: Values) -> Event:
    values["prices"] = tuple(PriceRow(**row) for row in values["prices"])
    event = PricesPublished(**values)
    check_event(event)
    return event


def _build_thresholds(values: Values) -> Event:
    values["cap_thresholds"] = tuple(Threshold(**row) for row in values["cap_thresholds"])
    event = ThresholdsSet(**values)
    check_event(event)
    return event


def _builder(kind: type, *, resolved: bool) -> Callable[[Values], Event]:
    # Between two schemas fastavro puts the fields that the writer lacked last: out of order.
    if kind is UsageRecorded and not resolved:
        return _build_usage
    if kind is PricesPublished:
        return _build_prices
    if kind is ThresholdsSet:
        return _build_thresholds

    def build(values: Values) -> Event:
        event: Event = kind(**values)
        check_event(event)
        return event

    return build


_INTS = (int,) * 6
_LABELS = (str,) * 4
_USAGE_TYPES = frozenset(
    (str, str, str, str, str, *_INTS, *_LABELS, request_id, hold_id, int, str, int)
    for request_id in (str, type(None))
    for hold_id in (str, type(None))
)


def _checked_usage_values(event: UsageRecorded) -> Values:
    """The values of a valid event. fastavro writes 1.5 and True as 1, so types come first."""
    values = msgspec.structs.asdict(event)
    if tuple(map(type, values.values())) not in _USAGE_TYPES or not usage_holds(*values.values()):
        check_event(event)
    return values


@cache
def _forms() -> dict[bytes, _Form]:
    return forms_of(registry())


def forms_of(schemas: Registry) -> dict[bytes, _Form]:
    """How to read each schema of a registry, by the five bytes in front of the body."""
    kinds = {kind.__name__: kind for kind in RULES}
    forms = {}
    for schema in schemas.by_id.values():
        newest = schemas.newest[schema.event]
        reader = None if newest is schema else newest.parsed
        build = _builder(kinds[schema.event], resolved=reader is not None)
        form = _Form(schema.event, schema.parsed, reader, MAX_BYTES[schema.event], build)
        forms[_HEADER.pack(_MAGIC, schema.schema_id)] = form
    return forms


@cache
def _written_with() -> dict[str, tuple[bytes, AvroSchema]]:
    newest = registry().newest.values()
    return {s.event: (_HEADER.pack(_MAGIC, s.schema_id), s.parsed) for s in newest}


def _unframed(value: bytes) -> Undecodable | UnknownSchema:
    if type(value) is not bytes:
        return Undecodable("value", f"must be bytes, not {type(value).__name__}")
    if len(value) < _HEADER.size or value[0] != _MAGIC:
        return Undecodable("value", "must begin with 0x00 and a schema id of four bytes")
    return UnknownSchema(_HEADER.unpack_from(value)[1])
