"""Event ids of made-up usage: time-ordered like real ones, but always the same for the same usage."""

from __future__ import annotations


def time_ordered_id(occurred_at: int, tail: int) -> str:
    """A UUID of version 7 whose text sorts by `occurred_at` to the microsecond, then by `tail`.

    `tail` is taken modulo 2^62; it must differ between usage of the same microsecond.
    """
    millis, micros = divmod(occurred_at, 1_000)
    head = f"{millis:012x}"
    rest = f"{tail & _LOW_62 | _VARIANT:016x}"
    # 12 bits follow the version: the microseconds fill ten of them.
    return f"{head[:8]}-{head[8:]}-7{micros << 2:03x}-{rest[:4]}-{rest[4:]}"


_LOW_62 = (1 << 62) - 1
_VARIANT = 1 << 63
