"""The rules of `UsageRecorded` once more, as one fast question: millions are asked a minute.

`rules.py` is the authority and names the field; this only says yes or no. A test holds the two
together. Must not know Avro.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from tollkeeper.errors import InvalidEvent
from tollkeeper.events.ids import (
    MAX_ID_LENGTH,
    check_id,
    check_key,
    check_label,
    check_organization,
)
from tollkeeper.events.rules import MAX_INSTANT, MIN_INSTANT
from tollkeeper.events.usage import MAX_COUNT, MAX_SEQUENCE, SURFACES, USAGE_SOURCES

T = TypeVar("T")

MAX_REMEMBERED = 32_768
"""Values remembered as valid, of each kind: a bound on memory against made-up ids."""

_organizations: set[str] = set()
_members_and_emitters: set[str] = set()
_labels: set[tuple[str, str, str, str, str, str]] = set()


def usage_holds(
    event_id: str,
    organization: str,
    member: str,
    surface: str,
    model: str,
    input_tokens: int,
    output_tokens: int,
    cache_read_tokens: int,
    cache_write_5m_tokens: int,
    cache_write_1h_tokens: int,
    web_search_requests: int,
    service_tier: str,
    speed: str,
    region: str,
    usage_source: str,
    request_id: str | None,
    hold_id: str | None,
    occurred_at: int,
    emitter: str,
    sequence: int,
) -> bool:
    """Whether all values keep their rules; their types must be right already."""
    labels = (surface, model, service_tier, speed, region, usage_source)
    return (
        0 <= input_tokens <= MAX_COUNT
        and 0 <= output_tokens <= MAX_COUNT
        and 0 <= cache_read_tokens <= MAX_COUNT
        and 0 <= cache_write_5m_tokens <= MAX_COUNT
        and 0 <= cache_write_1h_tokens <= MAX_COUNT
        and 0 <= web_search_requests <= MAX_COUNT
        and MIN_INSTANT <= occurred_at < MAX_INSTANT
        and 1 <= sequence <= MAX_SEQUENCE
        and (labels in _labels or _are_labels(labels))
        and (organization in _organizations or _is_organization(organization))
        and (member in _members_and_emitters or _is_id(member))
        and (emitter in _members_and_emitters or _is_id(emitter))
        and _is_key(event_id)
        and (request_id is None or _is_key(request_id))
        and (hold_id is None or _is_key(hold_id))
    )


def _is_key(value: str) -> bool:
    return (
        0 < len(value) <= MAX_ID_LENGTH
        and value.isascii()
        and value.isprintable()
        and " " not in value
    )


def _are_labels(labels: tuple[str, str, str, str, str, str]) -> bool:
    surface, model, *others, usage_source = labels
    if surface not in SURFACES or usage_source not in USAGE_SOURCES:
        return False
    if not _keeps(check_key, model) or not all(_keeps(check_label, label) for label in others):
        return False
    _remember(_labels, labels)
    return True


def _is_organization(value: str) -> bool:
    return _keeps(check_organization, value) and _remember(_organizations, value)


def _is_id(value: str) -> bool:
    return _keeps(check_id, value) and _remember(_members_and_emitters, value)


def _keeps(rule: Callable[[str, object], None], value: str) -> bool:
    try:
        rule("", value)
    except InvalidEvent:
        return False
    return True


def _remember(values: set[T], value: T) -> bool:
    if len(values) >= MAX_REMEMBERED:
        values.clear()
    values.add(value)
    return True
