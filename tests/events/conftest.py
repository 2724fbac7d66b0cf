"""Samples of every event: the golden ones, random valid ones, and forged bytes of invalid ones."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from io import BytesIO
from pathlib import Path
from typing import Any, get_args

import fastavro
import msgspec
import pytest
from hypothesis import strategies as st

from tollkeeper.events import organization as org
from tollkeeper.events.codec import Event
from tollkeeper.events.emitters import EmitterRetired, RetirementReason
from tollkeeper.events.gate import AdmittingPolicy, DefaultGatePolicySet
from tollkeeper.events.prices import PriceRow, PricesPublished
from tollkeeper.events.registry import Schema, registry
from tollkeeper.events.rules import (
    MAX_INSTANT,
    MAX_MICROS,
    MAX_OFFSET,
    MAX_PARTITION,
    MAX_REQUEST_PICOS,
    MAX_TOKEN_PICOS,
    MAX_VERSION,
    MIN_INSTANT,
    RULES,
)
from tollkeeper.events.usage import MAX_COUNT, MAX_SEQUENCE, SURFACES, USAGE_SOURCES
from tollkeeper.money.amounts import MAX_CAP_NANOS

GOLDEN = Path(__file__).parent.parent / "golden"


class Golden(msgspec.Struct, frozen=True):
    """One record as some release wrote it, and what it says."""

    schema: Schema
    event: Event
    value: bytes
    document: Mapping[str, Any]


@pytest.fixture(scope="session")
def golden() -> dict[int, Golden]:
    """The golden record of each schema id."""
    return {number: _golden(schema) for number, schema in registry().by_id.items()}


def _golden(schema: Schema) -> Golden:
    path = GOLDEN / f"{schema.event}.v{schema.version}"
    document = json.loads(path.with_suffix(f"{path.suffix}.json").read_text())
    kind = next(kind for kind in RULES if kind.__name__ == schema.event)
    event: Event = msgspec.convert(document["values"], kind)
    return Golden(schema, event, path.with_suffix(f"{path.suffix}.bin").read_bytes(), document)


@pytest.fixture(scope="session")
def samples(golden: dict[int, Golden]) -> dict[type, Event]:
    """One valid event of each type."""
    return {type(one.event): one.event for one in golden.values()}


Forge = Callable[..., bytes]


@pytest.fixture(scope="session")
def forge() -> Forge:
    """Writes an event's record with some values changed, past every check of ours."""

    def write(event: Event, **changes: object) -> bytes:
        schema = registry().newest[type(event).__name__]
        buffer = BytesIO()
        buffer.write(b"\x00" + schema.schema_id.to_bytes(4, "big"))
        values = msgspec.to_builtins(event) | changes
        fastavro.schemaless_writer(buffer, schema.parsed, values)
        return buffer.getvalue()

    return write


def _printable(low: str, high: str, *, longest: int) -> st.SearchStrategy[str]:
    return st.text(
        st.characters(min_codepoint=ord(low), max_codepoint=ord(high)), min_size=1, max_size=longest
    )


_ID_LETTERS = "abcXYZ0189._:~|+=-"
_ids = st.text(_ID_LETTERS + "/", min_size=1, max_size=128)
_keys = _printable("!", "~", longest=128)
_labels = _printable("!", "~", longest=64)
_counts = st.integers(0, MAX_COUNT)
_instants = st.integers(MIN_INSTANT, MAX_INSTANT - 1)
_texts = st.text(st.characters(exclude_categories=("C", "Z")), min_size=1, max_size=1_000)
_micros = st.integers(0, MAX_MICROS)
_nanos = st.integers(1, MAX_CAP_NANOS)
_picos = st.none() | st.integers(0, MAX_TOKEN_PICOS)

_FIELDS: dict[str, st.SearchStrategy[Any]] = {
    "event_id": _keys,
    "organization": st.text(_ID_LETTERS, min_size=1, max_size=128),
    "surface": st.sampled_from(sorted(SURFACES)),
    "model": _keys,
    "service_tier": _labels,
    "speed": _labels,
    "region": _labels,
    "usage_source": st.sampled_from(sorted(USAGE_SOURCES)),
    "request_id": st.none() | _keys,
    "hold_id": st.none() | _keys,
    "occurred_at": _instants,
    "effective_from": _instants,
    "sequence": st.integers(1, MAX_SEQUENCE),
    "version": st.integers(1, MAX_VERSION),
    "plan": st.sampled_from(sorted(org.PLANS)),
    "channel": st.sampled_from(get_args(org.Channel)),
    "role": st.sampled_from(get_args(org.Role)),
    "credit_nanos": _nanos,
    "reference": st.none() | _texts,
    "reason": _texts,
    "source": _texts,
    "source_date": st.dates().map(str),
    "letter_partition": st.integers(0, MAX_PARTITION),
    "letter_offset": st.integers(0, MAX_OFFSET),
    "over_prompt_tokens": _counts,
    "web_search_picos": st.integers(0, MAX_REQUEST_PICOS),
    "limit": st.sampled_from(["member_cap", "organization_cap", "credits"]),
    "scope": st.builds("{}/{}".format, st.text("az_", min_size=1, max_size=64), _ids),
    "period_start": _instants,
    "policy": st.sampled_from(get_args(AdmittingPolicy)),
    "cause": _labels,
}


def _field(name: str) -> st.SearchStrategy[Any]:
    if name in _FIELDS:
        return _FIELDS[name]
    if name.endswith(("_tokens", "_requests")):
        return _counts
    if name.endswith("_micros"):
        return _micros
    return _picos if name.endswith("_picos") else _ids


def _fields(kind: type[msgspec.Struct], *besides: str) -> dict[str, st.SearchStrategy[Any]]:
    return {name: _field(name) for name in kind.__struct_fields__ if name not in besides}


@st.composite
def _caps(draw: st.DrawFn) -> org.SpendCapSet:
    facts = draw(
        st.fixed_dictionaries(_fields(org.SpendCapSet, "scope", "setting", "member", "cap_nanos"))
    )
    scope = draw(st.sampled_from(get_args(org.CapScope)))
    setting = draw(st.sampled_from(get_args(org.CapSetting)))
    member = draw(_ids) if scope == "member" else None
    cap_nanos = draw(st.integers(0, MAX_CAP_NANOS)) if setting == "capped" else None
    return org.SpendCapSet(
        scope=scope, setting=setting, member=member, cap_nanos=cap_nanos, **facts
    )


@st.composite
def _policies(draw: st.DrawFn, kind: type[msgspec.Struct]) -> Any:
    facts = draw(st.fixed_dictionaries(_fields(kind, "policy", "ceiling_nanos", "until")))
    words = org.GatePolicySetting if kind is org.GatePolicySet else org.GatePolicy
    policy = draw(st.sampled_from(get_args(words)))
    ceiling_nanos = draw(st.integers(0, MAX_CAP_NANOS)) if policy == "open" else None
    until = None if policy == "inherit" else draw(st.none() | _instants)
    return kind(policy=policy, ceiling_nanos=ceiling_nanos, until=until, **facts)


def _thresholds() -> st.SearchStrategy[Any]:
    percents = st.sets(st.integers(1, 100), max_size=org.MAX_THRESHOLDS).map(sorted)
    rows = percents.map(lambda rising: tuple(org.Threshold(cap_percent=one) for one in rising))
    fields = _fields(org.ThresholdsSet, "cap_thresholds", "credits_low_percent")
    return st.builds(
        org.ThresholdsSet, cap_thresholds=rows, credits_low_percent=st.integers(0, 100), **fields
    )


def _price_rows() -> st.SearchStrategy[tuple[PriceRow, ...]]:
    rows = st.builds(PriceRow, **_fields(PriceRow))
    return st.lists(rows, min_size=1, max_size=4, unique_by=_row_key).map(tuple)


def _row_key(row: PriceRow) -> tuple[str, str, str, str, int]:
    return (row.model, row.service_tier, row.speed, row.region, row.over_prompt_tokens)


def _events_of(kind: type[msgspec.Struct]) -> st.SearchStrategy[Any]:
    if kind is org.SpendCapSet:
        return _caps()
    if kind in (org.GatePolicySet, DefaultGatePolicySet):
        return _policies(kind)
    if kind is org.ThresholdsSet:
        return _thresholds()
    if kind is PricesPublished:
        return st.builds(kind, prices=_price_rows(), **_fields(kind, "prices"))
    if kind is EmitterRetired:
        reasons = st.sampled_from(get_args(RetirementReason))
        return st.builds(kind, reason=reasons, **_fields(kind, "reason"))
    events: st.SearchStrategy[Any] = st.builds(kind, **_fields(kind))
    if kind is org.OwnershipTransferred:
        return events.filter(lambda event: event.from_member != event.to_member)
    return events


@pytest.fixture(scope="session")
def valid() -> dict[type, st.SearchStrategy[Any]]:
    """Random valid events of each type."""
    return {kind: _events_of(kind) for kind in RULES}
