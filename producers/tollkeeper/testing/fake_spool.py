"""A spool in memory: keeps what was emitted for the test to look at, by the real rules of the event."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import TypeVar

from tollkeeper.errors import InvalidEvent, SpoolFull
from tollkeeper.events.codec import encode
from tollkeeper.events.gate import GateEvent
from tollkeeper.metering.usage import InvalidUsage, Prepared, Usage, recorded

R = TypeVar("R")
EMITTER = "em-fake"


class FakeSpool:
    """`is_full`: it takes nothing. `on_usage` hears of each usage that was accepted."""

    def __init__(self, *, now: Callable[[], int], on_usage: Callable[[Usage], None]) -> None:
        self.usages: list[Usage] = []
        self.facts: list[GateEvent] = []
        self.is_full = False
        self.is_closed = False
        self._now = now
        self._on_usage = on_usage

    def identity(self) -> Future[str]:
        """Always the same."""
        return _done(EMITTER)

    def begin_anew(self, emitter: str) -> None:
        """It is never retired."""

    def hand_in(self, usages: Sequence[Usage]) -> Future[None]:
        """Accepted at once, or SpoolFull. InvalidUsage: one of them can't be recorded."""
        for index, usage in enumerate(usages):
            self._check(usage, index)
        if self.is_full:
            return _failed(SpoolFull("the fake spool is full: nothing was accepted"))
        for usage in usages:
            self.usages.append(usage)
            self._on_usage(usage)
        return _done(None)

    def report(self, facts: Sequence[GateEvent]) -> Future[None]:
        """Accepted at once, or SpoolFull."""
        if self.is_full:
            return _failed(SpoolFull("the fake spool is full: nothing was accepted"))
        for fact in facts:
            encode(fact)
            self.facts.append(fact)
        return _done(None)

    def mark(self) -> Callable[[], bool]:
        """There is no log to wait for."""
        return lambda: True

    def close(self, timeout_s: float) -> bool:
        """Nothing is left."""
        self.is_closed = True
        return True

    def _check(self, usage: Usage, index: int) -> None:
        occurred_at = usage.occurred_at if isinstance(usage.occurred_at, int) else self._now()
        prepared = Prepared(usage, usage.event_id or "", occurred_at)
        try:
            encode(recorded(prepared, emitter=EMITTER, sequence=1))
        except InvalidEvent as error:
            raise InvalidUsage(error.field, error.rule, index) from error


def _done(result: R) -> Future[R]:
    future: Future[R] = Future()
    future.set_result(result)
    return future


def _failed(error: Exception) -> Future[None]:
    future: Future[None] = Future()
    future.set_exception(error)
    return future
