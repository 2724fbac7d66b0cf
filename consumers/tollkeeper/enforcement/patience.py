"""For how long a primary that doesn't answer is left alone."""

from __future__ import annotations

import msgspec

from tollkeeper.enforcement.means import Means

MOST_DOUBLED = 5
"""Then the fold waits for it once in half a minute."""


class _Silence(msgspec.Struct):
    """Since how many failures, and when it is asked again: by who has time, and by the fold."""

    failures: int
    again_at: float
    fold_again_at: float


class Patience:
    """By primary. The fold, for which everybody waits, leaves it alone ever longer."""

    def __init__(self, means: Means) -> None:
        self._means = means
        self._silent: dict[str, _Silence] = {}

    def may_try(self, tag: str) -> bool:
        """Whether who has time may ask it."""
        silent = self._silent.get(tag)
        return silent is None or self._means.monotonic() >= silent.again_at

    def may_hold_up_the_fold(self, tag: str) -> bool:
        """Whether the fold may wait for its answer."""
        silent = self._silent.get(tag)
        return silent is None or self._means.monotonic() >= silent.fold_again_at

    def answered(self, tag: str) -> None:
        """Ask it as before."""
        self._silent.pop(tag, None)

    def failed(self, tag: str) -> None:
        """Leave it alone for a while."""
        silent = self._silent.get(tag)
        failures = 0 if silent is None else silent.failures
        now, retry_s = self._means.monotonic(), self._means.settings.retry_s
        fold_again_at = now + retry_s * 2 ** min(failures, MOST_DOUBLED)
        self._silent[tag] = _Silence(failures + 1, now + retry_s, fold_again_at)
