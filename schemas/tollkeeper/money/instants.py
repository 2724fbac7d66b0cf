"""Instants: integer microseconds since the Unix epoch inside, aware UTC and RFC 3339 outside.

Must not read a clock.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

from tollkeeper.errors import InvalidInput

MICROS_PER_SECOND = 1_000_000
MICROS_PER_HOUR = 3_600 * MICROS_PER_SECOND
MICROS_PER_DAY = 24 * MICROS_PER_HOUR
# `datetime.fromisoformat` alone takes week dates, any separator and more with every Python version.
_RFC_3339 = re.compile(
    r"(?P<date>[0-9]{4}-[0-9]{2}-[0-9]{2})[Tt ](?P<time>[0-9]{2}:[0-9]{2}:[0-9]{2})"
    r"(?:\.(?P<fraction>[0-9]{1,9}))?(?P<offset>[Zz]|[+-][0-9]{2}:[0-9]{2})"
)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def to_micros(instant: datetime) -> int:
    """Aware datetime to microseconds since the epoch; a naive one is refused."""
    if instant.utcoffset() is None:
        raise InvalidInput("time", "must carry a time zone")
    return (instant - _EPOCH) // timedelta(microseconds=1)


def to_datetime(micros: int) -> datetime:
    """Microseconds since the epoch to an aware UTC datetime."""
    return _EPOCH + timedelta(microseconds=micros)


def parse_instant(text: str, *, field: str = "time") -> int:
    """RFC 3339 text to microseconds since the epoch; the offset or `Z` is required.

    Digits beyond the microsecond are cut off: other systems write nanoseconds.
    """
    parts = _RFC_3339.fullmatch(text) if isinstance(text, str) else None
    if parts is None:
        rule = "must be RFC 3339 with Z or an offset, such as 2026-11-01T00:00:00Z"
        raise InvalidInput(field, f"{rule}, not {ascii(text)[:60]}")
    micros = (parts["fraction"] or "")[:6].ljust(6, "0")
    offset = "+00:00" if parts["offset"] in ("Z", "z") else parts["offset"]
    try:
        instant = datetime.fromisoformat(f"{parts['date']}T{parts['time']}.{micros}{offset}")
    except ValueError:
        raise InvalidInput(field, f"must be a time that exists, which {text} doesn't") from None
    return to_micros(instant)


def format_instant(micros: int) -> str:
    """Microseconds since the epoch to RFC 3339 in UTC with `Z`; fractions only where there are any."""
    return to_datetime(micros).isoformat().replace("+00:00", "Z")
