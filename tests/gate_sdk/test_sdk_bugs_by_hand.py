"""Bugs of the SDK that seeds hardly ever show, shown by a run that was constructed by hand."""

from __future__ import annotations

import pytest
from gate_sdk import test_epochs
from gate_sdk.desk import Desk
from simulation import bugs

FORGETFUL = (bugs.holds_unbooked, bugs.nothing_is_reasserted)


@pytest.mark.parametrize("bug", FORGETFUL, ids=[bug.__name__ for bug in FORGETFUL])
def test_a_run_by_hand_shows(bug: bugs.Bug, desk: Desk) -> None:
    with bug(), pytest.raises(AssertionError):
        test_epochs.test_all_open_holds_are_reasserted_and_only_then_is_the_recovery_answered(desk)
