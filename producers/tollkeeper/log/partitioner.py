"""Which partition an organization's records go to: Kafka's default, murmur2 of the key."""

from __future__ import annotations

from functools import lru_cache

from kafka.partitioner.default import murmur2


@lru_cache(maxsize=65_536)
def partition_for(organization: str, partition_count: int) -> int:
    """The partition of the organization's records; the same on every adapter and for every client."""
    return int((murmur2(organization.encode()) & 0x7FFFFFFF) % partition_count)
