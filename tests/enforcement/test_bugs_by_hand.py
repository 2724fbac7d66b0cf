"""Bugs that seeds hardly ever show, since a second rule stands in: shown by runs constructed by hand."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from enforcement import test_following, test_keeping_epochs, test_retirement
from enforcement.world import World
from simulation import bugs

Run = Callable[[World], None]
SHOWN: dict[bugs.Bug, Run] = {
    bugs.nothing_caught_up_with: (
        test_following.test_a_new_owner_catches_up_from_the_stored_offset
    ),
    bugs.applied_without_an_answer: (
        lambda world: test_following.test_what_was_folded_while_redis_was_away_is_caught_up_with(
            world, is_heard=False
        )
    ),
    bugs.retirement_frees_nothing: (
        test_retirement.test_a_retired_emitter_s_holds_go_without_traffic
    ),
    bugs.opened_before_the_fold: (
        test_keeping_epochs.test_usage_that_is_on_the_log_is_folded_before_anything_is_granted
    ),
}


@pytest.mark.parametrize("bug", SHOWN, ids=[bug.__name__ for bug in SHOWN])
def test_a_run_by_hand_shows(bug: bugs.Bug, valkey_world: World) -> None:
    with bug(), pytest.raises(AssertionError):
        SHOWN[bug](valkey_world)
