"""The spool as a session uses it: an `Emitter`, handed what is to be recorded without waiting for it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Any

from tollkeeper.errors import SpoolFailed, SpoolFull
from tollkeeper.events.gate import GateEvent
from tollkeeper.metering.emitter import Emitter
from tollkeeper.metering.intake import Announce, Asked, BeginAnew, Entry
from tollkeeper.metering.usage import Usage


class EmitterRecorder:
    """Hands everything to the emitter's writer. What there is no room for fails at once: SpoolFull."""

    def __init__(self, emitter: Emitter) -> None:
        self._emitter = emitter

    def identity(self) -> Future[str]:
        """The id of the current emitter, which the log is told of."""
        known = self._emitter.start().identity
        asked = Announce(self._emitter.deadline(), Future())
        if known is not None:
            asked.future.set_result(known)
        else:
            self._offer(asked)
        return asked.future

    def begin_anew(self, emitter: str) -> None:
        """Write nothing more as this one."""
        self._offer(BeginAnew(emitter, self._emitter.deadline(), Future()))

    def hand_in(self, usages: Sequence[Usage]) -> Future[None]:
        """Make usages durable, all or none. InvalidUsage: one of them can't be recorded."""
        entry = self._emitter.prepare(usages)
        self._offer(entry)
        return entry.future

    def report(self, facts: Sequence[GateEvent]) -> Future[None]:
        """Make other facts durable."""
        entry = Entry((), self._emitter.deadline(), Future(), tuple(facts))
        self._offer(entry)
        return entry.future

    def mark(self) -> Callable[[], bool]:
        """Whether the log has acknowledged everything that is durable now: ask what this answers."""
        return self._emitter.mark()

    def close(self, timeout_s: float) -> bool:
        """Wait for the log and end. False: something is left in the spool."""
        return self._emitter.close(timeout_s)

    def _offer(self, asked: Asked) -> None:
        engine = self._emitter.start()
        if engine.offer(asked, _nothing):
            return
        engine.forget(asked)
        future: Future[Any] = asked.future
        future.set_exception(SpoolFull("too much waits for the disk: nothing was accepted"))


def wait_for(future: Future[Any], emitter_timeout_s: float) -> None:
    """Wait until the disk has confirmed. SpoolFailed: it doesn't answer, and may still confirm."""
    try:
        future.result(emitter_timeout_s)
    except TimeoutError:
        raise unanswered(emitter_timeout_s) from None


def unanswered(timeout_s: float) -> SpoolFailed:
    """The refusal when the disk doesn't answer at all."""
    return SpoolFailed(
        f"the disk hasn't answered for {timeout_s} s; the usage is kept, and handed in again "
        "unless it was accepted"
    )


def _nothing() -> None:
    return None
