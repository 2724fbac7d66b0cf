"""When the calls of a made-up workload come: in order, more in working hours, fewer at week-ends.

Must read no clock: the end is given.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from tollkeeper.money.instants import MICROS_PER_HOUR, to_datetime

HOURLY_WEIGHTS = (
    4,
    3,
    2,
    2,
    2,
    3,
    5,
    9,
    14,
    18,
    20,
    19,
    17,
    18,
    20,
    20,
    19,
    17,
    14,
    11,
    9,
    8,
    6,
    5,
)
"""Calls in each hour of a weekday in UTC, in proportion; at week-ends it is a third of that."""

_WEEKDAY_FACTOR = 3


def arrivals(
    events: int, *, ending_at: int, days: int, random: Callable[[], float]
) -> Iterator[int]:
    """`events` instants in microseconds, never decreasing, within `days` days before `ending_at`.

    One instant falls into each of `events` equal shares of the whole, at a random place in it.
    """
    start = ending_at - days * 24 * MICROS_PER_HOUR
    weights = [_weight(start + hour * MICROS_PER_HOUR) for hour in range(days * 24)]
    share = sum(weights) / max(events, 1)
    hour, passed, weight = 0, 0, weights[0]
    for number in range(events):
        aim = (number + random()) * share
        while aim >= passed + weight and hour + 1 < len(weights):
            passed += weight
            hour += 1
            weight = weights[hour]
        part = min(int((aim - passed) / weight * MICROS_PER_HOUR), MICROS_PER_HOUR - 1)
        yield start + hour * MICROS_PER_HOUR + part


def _weight(instant: int) -> int:
    moment = to_datetime(instant)
    weight = HOURLY_WEIGHTS[moment.hour]
    return weight if moment.weekday() >= 5 else weight * _WEEKDAY_FACTOR
