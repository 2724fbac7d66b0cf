"""Nano-USD to the micro-USD of the gate, so that no decision is ever laxer than the exact sum. Pure.

What is spent, used and held is rounded up; caps and purchases are rounded down.
"""

from __future__ import annotations

from tollkeeper.errors import InvalidInput
from tollkeeper.money.amounts import MAX_CAP_NANOS, nanos_to_usd

NANOS_PER_MICRO = 1_000
MAX_MICROS = 2**53
"""The gate counts in doubles, which skip integers beyond it."""


def spent_micros(nanos: int) -> int:
    """What is spent, used or held. Beyond MAX_MICROS it stays there: no cap is higher, so it is closed."""
    return min(-(-nanos // NANOS_PER_MICRO), MAX_MICROS)


def purchased_micros(nanos: int) -> int:
    """Credits. Beyond MAX_MICROS they stay there: they would open nothing that the gate could count."""
    return min(nanos // NANOS_PER_MICRO, MAX_MICROS)


def cap_micros(nanos: int) -> int:
    """A cap; a larger one than can be enforced to the micro-dollar is refused."""
    if nanos > MAX_CAP_NANOS:
        most = nanos_to_usd(MAX_CAP_NANOS)
        raise InvalidInput("cap", f"must be at most {most} USD, not {nanos_to_usd(nanos)}")
    return nanos // NANOS_PER_MICRO
