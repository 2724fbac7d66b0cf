"""The usage event: the tokens that one model call consumed."""

from __future__ import annotations

import msgspec

TOKEN_TYPES = (
    "input",
    "output",
    "cache_read",
    "cache_write_5m",
    "cache_write_1h",
    "web_search",
)
"""The priced quantities in the order of every tuple of counts, prices and parts (RULES R15).

`input` is uncached input; `web_search` counts requests, the others tokens."""

SURFACES = frozenset({"web", "desktop", "mobile", "claude_code", "cowork"})
USAGE_SOURCES = frozenset({"reported", "estimated"})
MAX_COUNT = 1_000_000_000
MAX_SEQUENCE = 2**62


class UsageRecorded(msgspec.Struct, frozen=True, gc=False):
    """One model call's consumption. `event_id` is the idempotency key within the organization.

    Counts lie in 0..MAX_COUNT. `occurred_at` is in microseconds since the epoch. `emitter` and
    `sequence` say who reported it and as its how-manieth for this organization, from 1, without
    gaps; they are no part of the business content: another emitter may report the same usage again.
    The fields stand in the order of the Avro schema, by which a decoded body fills them; none has a
    default, since an event states all that it says.
    """

    event_id: str
    organization: str
    member: str
    surface: str
    model: str
    input_tokens: int
    output_tokens: int
    cache_read_tokens: int
    cache_write_5m_tokens: int
    cache_write_1h_tokens: int
    web_search_requests: int
    service_tier: str
    speed: str
    region: str
    usage_source: str
    request_id: str | None
    hold_id: str | None
    occurred_at: int
    emitter: str
    sequence: int
