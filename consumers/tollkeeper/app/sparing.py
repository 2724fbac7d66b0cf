"""Saying the same thing once in a while, and how often it was held back since."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Hashable


class Sparing:
    """Each key may speak once in `pause_s`; safe to use from several threads.

    Keys are kept for good, so they must be few: causes, or places in code.
    """

    def __init__(self, monotonic: Callable[[], float], *, pause_s: float) -> None:
        self._monotonic = monotonic
        self._pause_s = pause_s
        self._lock = threading.Lock()
        self._spoke_at: dict[Hashable, float] = {}
        self._held_back: Counter[Hashable] = Counter()

    def speak(self, key: Hashable) -> int | None:
        """How often it was held back since it spoke last; None: it is held back now."""
        now = self._monotonic()
        with self._lock:
            if now - self._spoke_at.get(key, float("-inf")) < self._pause_s:
                self._held_back[key] += 1
                return None
            self._spoke_at[key] = now
            return self._held_back.pop(key, 0)
