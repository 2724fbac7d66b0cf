"""The fingerprint of an organization: which facts were folded, and where they stand on the log.

It is the sum modulo 2^128 of one hash a fact, so it is the same in any order of batches, can be merged,
and two folds agree on an organization when their fingerprints do. Pure.
"""

from __future__ import annotations

from hashlib import blake2b
from struct import Struct

MODULUS_MASK = 2**128 - 1
_FACT = Struct(">qq")


def charge_term(payload_hash: bytes, charge_nanos: int, partition: int, offset: int) -> int:
    """The term of one charged usage event: its content's hash, times its place and price made odd.

    The hash is uniform, so a product by different odd numbers hardly ever adds up to the same: a
    second hash would cost more than all other arithmetic of the fold. Not reduced yet.
    """
    return int.from_bytes(payload_hash) * (
        ((partition << 48 | offset) << 64 | charge_nanos) << 1 | 1
    )


def fact_term(kind: str, value: bytes, partition: int, offset: int) -> int:
    """The term of any other fact: what became of it (`kind`), its bytes and its place."""
    state = blake2b(_FACT.pack(partition, offset), digest_size=16, person=kind.encode()[:16])
    state.update(value)
    return int.from_bytes(state.digest())
