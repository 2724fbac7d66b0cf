"""When a delivery is tried again, and when it is given up. Pure."""

from __future__ import annotations

from tollkeeper.money.instants import MICROS_PER_SECOND

_MINUTE, _HOUR = 60, 3_600
PAUSES_S = (
    5,
    5 * _MINUTE,
    30 * _MINUTE,
    2 * _HOUR,
    5 * _HOUR,
    10 * _HOUR,
    14 * _HOUR,
    20 * _HOUR,
    24 * _HOUR,
)
"""The pause after each attempt that failed, as Standard Webhooks proposes it: three days in all."""
MAX_ATTEMPTS = len(PAUSES_S) + 1
MAX_AGE_MICROS = 3 * 24 * _HOUR * MICROS_PER_SECOND
"""What is older when it is first looked at isn't sent any more. So a ledger that is folded anew from
an empty database, months of it, floods nobody with what they were told long ago."""


def next_due(attempts: int, tried_at: int) -> int | None:
    """When to try again after so many attempts, the last one at `tried_at`; None: it is given up."""
    if attempts >= MAX_ATTEMPTS:
        return None
    return tried_at + PAUSES_S[attempts - 1] * MICROS_PER_SECOND


def is_too_old(created_at: int, now: int) -> bool:
    """Whether it is no news any more."""
    return now - created_at > MAX_AGE_MICROS
