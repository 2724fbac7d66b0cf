"""Which partition an organization's records go to: as Kafka's clients choose it, by MurmurHash2.

Our own lines instead of kafka-python's function, since that import costs every product service a tenth
of a second and two deprecation warnings; a test holds them together.
"""

from __future__ import annotations

import struct
from functools import lru_cache

_SEED = 0x9747B28C
_MIX = 0x5BD1E995
_MASK = 0xFFFFFFFF


@lru_cache(maxsize=65_536)
def partition_for(organization: str, partition_count: int) -> int:
    """The partition of the organization's records; the same on every adapter and for every client."""
    return (murmur2(organization.encode()) & 0x7FFFFFFF) % partition_count


def murmur2(key: bytes) -> int:
    """MurmurHash2, 32 bits, with the seed of Kafka's default partitioner."""
    whole = len(key) & ~3
    state = _SEED ^ len(key)
    for (word,) in struct.iter_unpack("<I", key[:whole]):
        mixed = word * _MIX & _MASK
        mixed = (mixed ^ mixed >> 24) * _MIX & _MASK
        state = (state * _MIX & _MASK) ^ mixed
    if len(key) > whole:
        state = (state ^ int.from_bytes(key[whole:], "little")) * _MIX & _MASK
    state = (state ^ state >> 13) * _MIX & _MASK
    return state ^ state >> 15
