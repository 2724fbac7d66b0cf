"""What a session knows of one primary: its epoch, whether it may be asked, and where this emitter is noted.

Written by the session under its lock, read by everybody. Must not ask anything.
"""

from __future__ import annotations

from tollkeeper.gate import answers as a
from tollkeeper.gate.keys import SINGLE
from tollkeeper.gate.sdk.obstacles import Obstacle

STARTING = "nothing was heard from Redis yet"


class Primary:
    """`trouble` says why no hold is asked for now; None: it may be."""

    def __init__(self, tag: str = SINGLE, *, since: float) -> None:
        self.tag = tag
        self.epoch = 0
        self.noted: set[str] = set()
        """The organizations in which the current emitter is noted, in this epoch."""
        self.trouble: str | None = STARTING
        self.obstacle: Obstacle = "other"
        """What kind of trouble that is."""
        self.troubled_since = since
        """On the monotonic clock."""
        self.heard_at: float | None = None
        """When the last question was asked that was answered, on the monotonic clock."""
        self.is_away = False
        """It doesn't answer, and its last answer is too old to be trusted."""
        self.was_ready = False
        self.prices_version = 0
        self.policies_version = 0
        self._noted_for = ("", 0)

    def hear(self, answer: a.Touched | a.NoEpoch, *, emitter: str, asked_at: float) -> None:
        """Take in what the primary said of itself and of this emitter."""
        self.heard_at, self.is_away = asked_at, False
        if isinstance(answer, a.NoEpoch):
            self._set_trouble("no consumer has begun an epoch", asked_at, "unkept")
            return
        self.see_epoch(answer.epoch)
        if self._noted_for != (emitter, self.epoch):
            # Another set: what was noted meanwhile for the epoch before goes into the old one.
            self._noted_for, self.noted = (emitter, self.epoch), set()
        self.prices_version = answer.prices_version
        self.policies_version = answer.policies_version
        trouble, obstacle = _trouble(answer)
        self._set_trouble(trouble, asked_at, obstacle)

    def see_epoch(self, epoch: int) -> None:
        """From here on no grant of an older one is taken."""
        self.epoch = max(self.epoch, epoch)

    def distrust(self, cause: str, obstacle: Obstacle = "other", *, now: float) -> None:
        """It has answered, and isn't the one to be asked."""
        self.heard_at, self.is_away = now, False
        self._set_trouble(cause, now, obstacle)

    def fail(self, cause: str, *, now: float, lease_s: float) -> None:
        """A question wasn't answered. While the last answer is fresh, others may still be."""
        if self.heard_at is None or now - self.heard_at >= lease_s:
            self.is_away = True
            self._set_trouble(cause, now, "away")

    def _set_trouble(self, trouble: str | None, now: float, obstacle: Obstacle) -> None:
        if trouble is None:
            self.was_ready = True
        elif self.trouble is None:
            self.troubled_since = now
        self.trouble, self.obstacle = trouble, obstacle


def _trouble(answer: a.Touched) -> tuple[str | None, Obstacle]:
    if answer.standing == "retired":
        return "this emitter was retired, and begins anew", "other"
    if answer.standing == "unlisted":
        return "this emitter's start is logged, and not yet folded", "reading"
    if answer.phase != "open":
        return "the gate is recovering", "recovering"
    if answer.lease_until <= answer.now:
        return "no consumer renews the lease", "unkept"
    return None, "other"
