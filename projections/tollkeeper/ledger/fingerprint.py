"""The fingerprint of an organization: which facts were folded, and where they stand on the log.

It is the sum modulo 2^128 of one hash a fact, so it is the same in any order of batches, can be merged,
and two folds agree on an organization when their fingerprints do. Pure.
"""

from __future__ import annotations

from hashlib import blake2b
from struct import Struct

MODULUS_MASK = 2**128 - 1
_CHARGE = Struct(">16sqqq")
_FACT = Struct(">qq")


def charge_term(payload_hash: bytes, charge_nanos: int, partition: int, offset: int) -> int:
    """The term of one charged usage event: its content, its price and its place."""
    packed = _CHARGE.pack(payload_hash, charge_nanos, partition, offset)
    return int.from_bytes(blake2b(packed, digest_size=16).digest())


def fact_term(kind: str, value: bytes, partition: int, offset: int) -> int:
    """The term of any other fact: what became of it (`kind`), its bytes and its place."""
    state = blake2b(_FACT.pack(partition, offset), digest_size=16, person=kind.encode()[:16])
    state.update(value)
    return int.from_bytes(state.digest())
