"""The fingerprint of what a usage event says: tells a repeated report from a conflicting one.

Must not depend on a schema's version: the same usage has the same hash in every release.
"""

from __future__ import annotations

from hashlib import blake2b

import msgspec

from tollkeeper.events.usage import UsageRecorded

NOT_HASHED = frozenset({"emitter", "sequence"})
"""Who reported it, and as its how-manieth: another emitter may report the same usage."""

_pack = msgspec.msgpack.Encoder().encode


def business_hash(usage: UsageRecorded) -> bytes:
    """BLAKE2b with 16 bytes over the MessagePack array of the business fields, in the order below.

    MessagePack writes every integer and string in its shortest form, so equal values have equal
    bytes. The list below is closed: a business field that is added later has a default and is put
    behind it, as its name and its value, only where the value isn't the default. So the hash of
    usage that doesn't use the new field stays what it was.
    """
    content = (
        usage.event_id,
        usage.organization,
        usage.member,
        usage.surface,
        usage.model,
        usage.input_tokens,
        usage.output_tokens,
        usage.cache_read_tokens,
        usage.cache_write_5m_tokens,
        usage.cache_write_1h_tokens,
        usage.web_search_requests,
        usage.service_tier,
        usage.speed,
        usage.region,
        usage.usage_source,
        usage.request_id,
        usage.hold_id,
        usage.occurred_at,
    )
    return blake2b(_pack(content), digest_size=16).digest()
