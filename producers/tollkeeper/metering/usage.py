"""What a product service reports of one model call, and how it becomes the event on the log.

Must not know the spool.
"""

from __future__ import annotations

from datetime import datetime

import msgspec

from tollkeeper.errors import InvalidEvent
from tollkeeper.events.usage import UsageRecorded
from tollkeeper.money.instants import to_micros


class Usage(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """One model call's consumption; the fields are those of `UsageRecorded`.

    Without `event_id` the emitter makes one and answers it; give your own, and `occurred_at` with it,
    to be able to report the same usage again without charging it twice. `occurred_at` is an aware
    datetime or microseconds since the epoch; without both it is the moment of the call.
    """

    organization: str
    member: str
    surface: str
    model: str
    event_id: str | None = None
    input_tokens: int = 0
    output_tokens: int = 0
    cache_read_tokens: int = 0
    cache_write_5m_tokens: int = 0
    cache_write_1h_tokens: int = 0
    web_search_requests: int = 0
    service_tier: str = "standard"
    speed: str = "standard"
    region: str = "global"
    usage_source: str = "reported"
    request_id: str | None = None
    hold_id: str | None = None
    occurred_at: int | datetime | None = None


class InvalidUsage(InvalidEvent):
    """A usage that breaks the event's contract. `index` is its place among those handed in."""

    def __init__(self, field: str, rule: str, index: int) -> None:
        super().__init__(field, rule)
        self.index = index


class Prepared(msgspec.Struct, frozen=True, gc=False):
    """A usage whose id and time are settled: what a second attempt would repeat unchanged."""

    usage: Usage
    event_id: str
    occurred_at: int


def occurred_micros(usage: Usage, now: int) -> int:
    """The usage's time in microseconds. A naive datetime is refused: its instant is unknown."""
    occurred_at = usage.occurred_at
    if occurred_at is None:
        return now
    if isinstance(occurred_at, datetime):
        if occurred_at.tzinfo is None:
            raise InvalidEvent("occurred_at", "must carry a time zone")
        return to_micros(occurred_at)
    return occurred_at


def recorded(prepared: Prepared, *, emitter: str, sequence: int) -> UsageRecorded:
    """The event as this emitter reports it."""
    usage = prepared.usage
    return UsageRecorded(
        event_id=prepared.event_id,
        organization=usage.organization,
        member=usage.member,
        surface=usage.surface,
        model=usage.model,
        input_tokens=usage.input_tokens,
        output_tokens=usage.output_tokens,
        cache_read_tokens=usage.cache_read_tokens,
        cache_write_5m_tokens=usage.cache_write_5m_tokens,
        cache_write_1h_tokens=usage.cache_write_1h_tokens,
        web_search_requests=usage.web_search_requests,
        service_tier=usage.service_tier,
        speed=usage.speed,
        region=usage.region,
        usage_source=usage.usage_source,
        request_id=usage.request_id,
        hold_id=usage.hold_id,
        occurred_at=prepared.occurred_at,
        emitter=emitter,
        sequence=sequence,
    )
