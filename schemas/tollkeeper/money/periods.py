"""Billing periods: half-open ranges of instants, a calendar month in UTC (RULES, Words).

Contracts with an anchor day or a time zone will carry their periods as UTC instants on their events,
so nothing here may come to depend on a time-zone database. Must not read a clock.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from functools import lru_cache

import msgspec

from tollkeeper.errors import InvalidInput
from tollkeeper.money.instants import MICROS_PER_DAY, to_datetime, to_micros


class Period(msgspec.Struct, frozen=True, order=True):
    """A half-open billing period [start_micros, end_micros)."""

    start_micros: int
    end_micros: int

    @property
    def label(self) -> str:
        """`YYYY-MM`, the month in which the period begins."""
        return to_datetime(self.start_micros).strftime("%Y-%m")


def period_at(micros: int) -> Period:
    """The billing period that contains the instant."""
    return _period_of_day(micros // MICROS_PER_DAY)


def day_at(micros: int) -> int:
    """The UTC day that contains the instant, as days since the epoch."""
    return micros // MICROS_PER_DAY


def parse_period(text: str, *, field: str = "period") -> Period:
    """`YYYY-MM` to its period."""
    if not isinstance(text, str) or not re.fullmatch(r"(20[0-9]{2})-(0[1-9]|1[0-2])", text):
        raise InvalidInput(field, f"must be YYYY-MM such as 2026-11, not {text!r}")
    return period_at(to_micros(datetime(int(text[:4]), int(text[5:]), 1, tzinfo=UTC)))


def format_day(day: int) -> str:
    """Days since the epoch to `YYYY-MM-DD`."""
    return to_datetime(day * MICROS_PER_DAY).strftime("%Y-%m-%d")


@lru_cache(maxsize=4096)
def _period_of_day(day: int) -> Period:
    first = to_datetime(day * MICROS_PER_DAY).replace(day=1)
    year, month = (first.year + 1, 1) if first.month == 12 else (first.year, first.month + 1)
    return Period(to_micros(first), to_micros(first.replace(year=year, month=month)))
