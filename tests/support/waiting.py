"""Waiting in tests: for a condition, never for a fixed time, and never without an end."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

POLL_INTERVAL_S = 0.01


def eventually(
    predicate: Callable[[], object], timeout_s: float = 10.0, *, what: str = "the condition"
) -> None:
    """Return as soon as `predicate` is true; fail the test when it isn't within `timeout_s`.

    The predicate is asked once more at the deadline, so a slow machine can't miss a condition that
    holds. What the predicate raises is the test's failure.
    """
    never_set = threading.Event()
    deadline = time.monotonic() + timeout_s
    while not predicate():
        if time.monotonic() >= deadline:
            raise AssertionError(f"{what} didn't come true within {timeout_s} s")
        never_set.wait(POLL_INTERVAL_S)
