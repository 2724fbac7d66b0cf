"""The fingerprint of what a usage event says: tells a repeated report from a conflicting one.

Must not depend on a schema's version: the same usage has the same hash in every release.
"""

from __future__ import annotations

from hashlib import blake2b
from typing import Any

import msgspec
from msgspec.structs import astuple

from tollkeeper.events.usage import UsageRecorded

NOT_HASHED = frozenset({"emitter", "sequence"})
"""Who reported it, and as its how-manieth: another emitter may report the same usage."""

_HASHED = 18
"""How many fields, from the first on, are hashed: `NOT_HASHED` stand behind them."""

_pack = msgspec.msgpack.Encoder().encode


def business_hash(usage: UsageRecorded) -> bytes:
    """BLAKE2b with 16 bytes over the MessagePack array of the business fields, in their order.

    MessagePack writes every integer and string in its shortest form, so equal values have equal
    bytes. The list of fields is closed: a business field that is added later has a default and is put
    behind it, as its name and its value, only where the value isn't the default. So the hash of
    usage that doesn't use the new field stays what it was.
    """
    return values_hash(astuple(usage))


def values_hash(values: tuple[Any, ...]) -> bytes:
    """`business_hash` of a usage event's values in the order of its fields."""
    return blake2b(_pack(values[:_HASHED]), digest_size=16).digest()
