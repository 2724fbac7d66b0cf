"""How often and when a delivery is tried again: bounded, and spread over three days."""

from __future__ import annotations

import pytest

from tollkeeper.money.instants import MICROS_PER_HOUR, MICROS_PER_SECOND
from tollkeeper.webhooks.schedule import MAX_AGE_MICROS, MAX_ATTEMPTS, is_too_old, next_due

NOW = 10**15


def test_the_pauses_grow_from_seconds_to_a_day() -> None:
    pauses = []
    for attempts in range(1, MAX_ATTEMPTS):
        due_at = next_due(attempts, NOW)
        assert due_at is not None
        pauses.append((due_at - NOW) // MICROS_PER_SECOND)
    assert pauses == sorted(pauses)
    assert (pauses[0], pauses[-1]) == (5, 24 * 3_600)
    assert 72 < sum(pauses) / 3_600 < 78


@pytest.mark.parametrize(
    ("attempts", "ends"),
    [(MAX_ATTEMPTS - 1, False), (MAX_ATTEMPTS, True), (MAX_ATTEMPTS + 1, True)],
)
def test_after_the_last_attempt_it_is_given_up(attempts: int, ends: bool) -> None:
    assert (next_due(attempts, NOW) is None) is ends


@pytest.mark.parametrize(("age", "old"), [(-1, False), (0, False), (1, True)])
def test_what_is_older_than_three_days_is_no_news(age: int, old: bool) -> None:
    assert MAX_AGE_MICROS == 72 * MICROS_PER_HOUR
    assert is_too_old(NOW - MAX_AGE_MICROS - age, NOW) is old
