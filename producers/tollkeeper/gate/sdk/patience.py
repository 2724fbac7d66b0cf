"""How long a call waits for what passes by itself, and with which pauses. Must not know what it waits for."""

from __future__ import annotations

import msgspec

from tollkeeper.errors import GateUnavailable
from tollkeeper.gate.sdk.obstacles import Obstacle
from tollkeeper.gate.sdk.session import Session


class Passing(msgspec.Struct, frozen=True):
    """What stands in the way now. `is_final`: waiting wouldn't help, or has been tried already.

    `is_ours`: the session is to look again at once.
    """

    cause: str
    obstacle: Obstacle = "other"
    is_final: bool = False
    is_ours: bool = True


class Patience:
    """One call's. Pauses double; a trouble that is older than the call has had its time already."""

    def __init__(self, session: Session, organization: str) -> None:
        self._session = session
        self._organization = organization
        self._begun_at = session.monotonic()
        self._pause_s = session.settings.first_pause_s

    def next(self, trouble: Passing) -> float | None:
        """The next pause in seconds; None: it was long enough."""
        now, deadline = self._session.monotonic(), self._deadline()
        if trouble.is_final or now >= deadline:
            return None
        pause = min(self._pause_s, deadline - now)
        self._pause_s = min(2 * self._pause_s, self._session.settings.max_pause_s)
        return pause

    def _deadline(self) -> float:
        session, settings = self._session, self._session.settings
        until = self._begun_at + settings.warm_wait_s
        try:
            primary = session.primary_of(self._organization)
        except GateUnavailable:
            return until
        if not primary.was_ready:
            begun_at = self._begun_at if session.started_at is None else session.started_at
            return max(until, begun_at + settings.start_wait_s)
        if primary.trouble is not None:
            return min(until, primary.troubled_since + settings.warm_wait_s)
        return until
