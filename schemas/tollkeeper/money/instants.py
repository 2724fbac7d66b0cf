"""Instants: integer microseconds since the Unix epoch inside, aware UTC and RFC 3339 outside.

Must not read a clock.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from tollkeeper.errors import InvalidInput

MICROS_PER_SECOND = 1_000_000
MICROS_PER_HOUR = 3_600 * MICROS_PER_SECOND
MICROS_PER_DAY = 24 * MICROS_PER_HOUR
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def to_micros(instant: datetime) -> int:
    """Aware datetime to microseconds since the epoch; a naive one is refused."""
    if instant.tzinfo is None:
        raise InvalidInput("time", "must carry a time zone")
    return (instant - _EPOCH) // timedelta(microseconds=1)


def to_datetime(micros: int) -> datetime:
    """Microseconds since the epoch to an aware UTC datetime."""
    return _EPOCH + timedelta(microseconds=micros)


def parse_instant(text: str, *, field: str = "time") -> int:
    """RFC 3339 text to microseconds since the epoch; the offset or `Z` is required."""
    try:
        instant = datetime.fromisoformat(text)
    except (ValueError, TypeError):
        raise InvalidInput(field, f"must be RFC 3339 such as 2026-11-01T00:00:00Z, not {text!r}") from None
    if instant.tzinfo is None:
        raise InvalidInput(field, f"must end in Z or an offset, which {text!r} doesn't")
    try:
        return to_micros(instant)
    except OverflowError:
        raise InvalidInput(field, f"is out of range: {text!r}") from None


def format_instant(micros: int) -> str:
    """Microseconds since the epoch to RFC 3339 in UTC with `Z`; fractions only where there are any."""
    return to_datetime(micros).isoformat().replace("+00:00", "Z")
