"""Instants are read strictly and shown exactly; a billing period is a half-open UTC month."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone, tzinfo
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tollkeeper.errors import InvalidInput
from tollkeeper.money.instants import (
    MICROS_PER_DAY,
    format_instant,
    parse_instant,
    to_datetime,
    to_micros,
)
from tollkeeper.money.periods import day_at, format_day, parse_period, period_at

NOVEMBER = 1_793_491_200_000_000  # 2026-11-01T00:00:00Z
_instants = st.integers(
    min_value=to_micros(datetime(2020, 1, 1, tzinfo=UTC)),
    max_value=to_micros(datetime(2100, 1, 1, tzinfo=UTC)) - 1,
)


@pytest.mark.parametrize(
    ("text", "micros"),
    [
        ("1970-01-01T00:00:00Z", 0),
        ("2026-11-01T00:00:00Z", NOVEMBER),
        ("2026-11-01t00:00:00z", NOVEMBER),
        ("2026-11-01 00:00:00+00:00", NOVEMBER),
        ("2026-11-01T02:00:00+02:00", NOVEMBER),
        ("2026-10-31T18:30:00-05:30", NOVEMBER),
        ("2026-11-01T00:00:00.5Z", NOVEMBER + 500_000),
        ("2026-11-01T00:00:00.000001Z", NOVEMBER + 1),
        ("2026-11-01T00:00:00.000001999Z", NOVEMBER + 1),
        ("0001-01-01T00:00:00+14:00", -62_135_647_200_000_000),
    ],
)
def test_rfc_3339_becomes_microseconds(text: str, micros: int) -> None:
    assert parse_instant(text) == micros


@pytest.mark.parametrize(
    "text",
    [
        "",
        "now",
        "2026-11-01",
        "2026-11-01T00:00:00",
        "2026-11-01T00:00Z",
        "20261101T000000Z",
        "2026-W44-7T00:00:00Z",
        "2026-11-01X00:00:00Z",
        "2026-11-01T00:00:00,5Z",
        "2026-11-01T00:00:00.Z",
        "2026-11-01T00:00:00Z\n",
        "2026-11-01T00:00:00 Z",
        "2026-11-01T00:00:00+00:00:01",
        "2026-02-29T00:00:00Z",
        "2026-13-01T00:00:00Z",
        "2026-11-01T24:00:01Z",
        "2026-11-01T00:00:60Z",
        "2026-11-01T00:00:00+25:00",
        "0000-01-01T00:00:00Z",
        "٢٠٢٦-11-01T00:00:00Z",
        "2026-11-01T00:00:00\x00Z",
    ],
)
def test_what_isnt_an_existing_rfc_3339_time_is_refused(text: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        parse_instant(text, field="occurred_at")
    assert refused.value.field == "occurred_at"


@pytest.mark.parametrize(
    "wrong", [None, 5, b"2026-11-01T00:00:00Z", datetime(2026, 11, 1, tzinfo=UTC)]
)
def test_what_isnt_text_is_refused_as_a_time(wrong: Any) -> None:
    with pytest.raises(InvalidInput, match="RFC 3339"):
        parse_instant(wrong)


@given(_instants)
def test_an_instant_survives_being_shown_and_read(micros: int) -> None:
    assert parse_instant(format_instant(micros)) == micros
    assert to_micros(to_datetime(micros)) == micros
    assert format_instant(micros).endswith("Z")


def test_fractions_are_shown_only_where_there_are_any() -> None:
    assert format_instant(NOVEMBER) == "2026-11-01T00:00:00Z"
    assert format_instant(NOVEMBER + 1) == "2026-11-01T00:00:00.000001Z"


class _Nowhere(tzinfo):
    """A zone that doesn't know its offset, which makes a time as good as naive."""

    def utcoffset(self, instant: datetime | None) -> timedelta | None:
        return None

    def dst(self, instant: datetime | None) -> timedelta | None:
        return None

    def tzname(self, instant: datetime | None) -> str | None:
        return None


@pytest.mark.parametrize("zone", [None, _Nowhere()])
def test_a_time_without_zone_is_refused(zone: tzinfo | None) -> None:
    with pytest.raises(InvalidInput, match="time zone"):
        to_micros(datetime(2026, 11, 1, tzinfo=zone))


def test_a_time_of_another_zone_is_the_same_instant() -> None:
    zone = timezone(timedelta(hours=9))
    assert to_micros(datetime(2026, 11, 1, 9, tzinfo=zone)) == NOVEMBER


@given(_instants)
def test_an_instant_lies_in_its_own_period_and_periods_touch(micros: int) -> None:
    period = period_at(micros)
    assert period.start_micros <= micros < period.end_micros
    assert period_at(period.start_micros) == period == period_at(period.end_micros - 1)
    assert period_at(period.end_micros).start_micros == period.end_micros
    assert period.label == format_instant(micros)[:7]
    assert parse_period(period.label) == period


@pytest.mark.parametrize(
    ("micros", "label"),
    [(NOVEMBER - 1, "2026-10"), (NOVEMBER, "2026-11"), (NOVEMBER + 1, "2026-11")],
)
def test_the_months_first_microsecond_belongs_to_it(micros: int, label: str) -> None:
    assert period_at(micros).label == label


def test_december_ends_in_the_next_year_and_february_leaps() -> None:
    assert parse_period("2026-12").end_micros == parse_period("2027-01").start_micros
    leap = parse_period("2028-02")
    assert (leap.end_micros - leap.start_micros) // MICROS_PER_DAY == 29


@pytest.mark.parametrize(
    "text", ["", "2026", "2026-00", "2026-13", "1999-12", "2026-1", "2026-11\n"]
)
def test_a_period_is_refused_unless_it_is_a_month(text: str) -> None:
    with pytest.raises(InvalidInput, match="period: must be YYYY-MM"):
        parse_period(text)


@given(_instants)
def test_a_day_is_the_utc_date(micros: int) -> None:
    assert format_day(day_at(micros)) == format_instant(micros)[:10]
