"""Counts the bytes of a spool directory against its bound, and lets the writer wait for room.

Must not know files.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from time import monotonic


class Space:
    """Bytes on disk: this emitter's exactly, those of other emitters as last measured."""

    def __init__(self, max_bytes: int, *, monotonic: Callable[[], float] = monotonic) -> None:
        self.max_bytes = max_bytes
        self._monotonic = monotonic
        self._changed = threading.Condition()
        self._own_bytes = 0
        self._other_bytes = 0

    @property
    def own_bytes(self) -> int:
        """The bytes of this emitter's segments."""
        return self._own_bytes

    @property
    def used_bytes(self) -> int:
        """The bytes of all emitters' segments."""
        return self._own_bytes + self._other_bytes

    def has_room_for(self, size: int) -> bool:
        """Whether `size` more bytes keep the bound."""
        return self.used_bytes + size <= self.max_bytes

    def wait_for(self, size: int, deadline: float) -> bool:
        """Wait for room until `deadline` on the monotonic clock; whether there is."""
        with self._changed:
            while not self.has_room_for(size):
                left = deadline - self._monotonic()
                if left <= 0:
                    return False
                self._changed.wait(left)
            return True

    def add(self, size: int) -> None:
        """Bytes were written, or deleted when negative."""
        with self._changed:
            self._own_bytes += size
            self._changed.notify_all()

    def measured_others(self, size: int) -> None:
        """The bytes of all other emitters' spools."""
        with self._changed:
            self._other_bytes = size
            self._changed.notify_all()
