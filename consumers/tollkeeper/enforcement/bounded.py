"""A bound on how long something may go on; what isn't done by then is done another time."""

from __future__ import annotations

from collections.abc import Callable


class Deadline:
    """So many seconds from now."""

    def __init__(self, monotonic: Callable[[], float], seconds: float) -> None:
        self._monotonic = monotonic
        self._ends_at = monotonic() + seconds

    def is_over(self) -> bool:
        """Whether nothing more should be begun."""
        return self._monotonic() >= self._ends_at
