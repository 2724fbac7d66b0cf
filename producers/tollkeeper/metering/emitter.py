"""The SDK's front door: `Emitter` makes usage durable before `emit` returns and sends it to the log.

Must not know SQL or the gate.
"""

from __future__ import annotations

import atexit
import os
import threading
import weakref
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeout
from pathlib import Path
from time import monotonic
from types import TracebackType

from tollkeeper.errors import InvalidInput, Misuse, SpoolFailed
from tollkeeper.events.ids import new_event_id, now_micros
from tollkeeper.log.port import Log
from tollkeeper.metering.engine import EmitterStats, Engine
from tollkeeper.metering.intake import Entry
from tollkeeper.metering.segments import Sync
from tollkeeper.metering.settings import EmitterSettings
from tollkeeper.metering.usage import InvalidUsage, Prepared, Usage, occurred_micros

__all__ = ["Emitter", "EmitterSettings", "EmitterStats", "InvalidUsage", "Usage"]


class Emitter:
    """Accepts usage durably and sends it to the log in the background, at least once.

    `emit` returns when the usage is on this machine's disk; from then on it reaches the log although
    the log is away or the process dies, because the next emitter on the same `spool_dir` takes over
    what a dead one left. Use one emitter a process, from any number of threads; several processes
    share one `spool_dir`. It may be made before a fork: threads, locks and the log are opened by the
    first `emit` in each process. `log` opens the log; the emitter closes it.

    Raises InvalidUsage (mend it), SpoolFull and SpoolFailed (emit it again, with the same event id)
    and Misuse (closed). Only SpoolFailed leaves open whether the usage was accepted.
    """

    def __init__(
        self,
        log: Callable[[], Log],
        spool_dir: Path,
        *,
        settings: EmitterSettings | None = None,
        clock: Callable[[], int] = now_micros,
        sync: Sync = os.fdatasync,
    ) -> None:
        self.settings = settings or EmitterSettings()
        self._open_log = log
        self._spool_dir = Path(spool_dir)
        self._clock = clock
        self._sync = sync
        self._lock = threading.Lock()
        self._engine: Engine | None = None
        self._is_closed = False
        _emitters.add(self)

    def emit(self, usage: Usage) -> str:
        """Make one usage durable; answers its event id."""
        return self.emit_many((usage,))[0]

    def emit_many(self, usages: Iterable[Usage]) -> list[str]:
        """Make usages durable with one write, all or none; answers their event ids in order."""
        entry = self.prepare(usages)
        if entry.usages:
            self.start().intake.put(entry)
            self._wait_for(entry.future)
        return [prepared.event_id for prepared in entry.usages]

    def flush(self, timeout_s: float) -> bool:
        """Wait until the log has acknowledged everything emitted so far; False when it hasn't."""
        engine = self._engine
        return engine is None or engine.flush(timeout_s)

    def close(self, timeout_s: float = 10.0) -> bool:
        """Accept no more and wait for the log. False: something is left in the spool.

        What is left is durable; the next emitter on this `spool_dir` sends it.
        """
        with self._lock:
            self._is_closed = True
            engine = self._engine
        if engine is None:
            return True
        _running.discard(engine)
        return engine.close(timeout_s)

    def stats(self) -> EmitterStats:
        """What this process's emitter holds and has done."""
        engine = self._engine
        return EmitterStats() if engine is None else engine.stats()

    def start(self) -> Engine:
        """Start the threads, which also send what dead processes left; `emit` does it by itself."""
        with self._lock:
            if self._is_closed:
                raise Misuse("the emitter is closed")
            if self._engine is None:
                self._engine = Engine(
                    self._open_log,
                    self._spool_dir,
                    self.settings,
                    clock=self._clock,
                    sync=self._sync,
                )
                _running.add(self._engine)
            return self._engine

    def prepare(self, usages: Iterable[Usage]) -> Entry:
        """Settle ids and times, so that the usages can be handed to the writer."""
        now = self._clock()
        prepared = [_prepared(index, usage, now) for index, usage in enumerate(usages)]
        if len(prepared) > self.settings.max_waiting_records:
            raise InvalidInput("usages", f"must be at most {self.settings.max_waiting_records}")
        return Entry(prepared, monotonic() + self.settings.full_timeout_s, Future())

    def __enter__(self) -> Emitter:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _wait_for(self, future: Future[None]) -> None:
        settings = self.settings
        try:
            future.result(settings.full_timeout_s + settings.sync_timeout_s)
        except FutureTimeout:
            if future.cancel():
                raise unanswered(settings, was_withdrawn=True) from None
            raise unanswered(settings, was_withdrawn=False) from None

    def _leave_parent(self) -> None:
        self._lock = threading.Lock()
        if self._engine is not None:
            _inherited.append(self._engine)
            self._engine = None


def unanswered(settings: EmitterSettings, *, was_withdrawn: bool) -> SpoolFailed:
    """The refusal when the disk doesn't answer at all."""
    outcome = "nothing was accepted" if was_withdrawn else "the usage may still be accepted"
    return SpoolFailed(
        f"the disk hasn't answered for {settings.sync_timeout_s} s; {outcome}: "
        "emit it again by its id"
    )


def _prepared(index: int, usage: Usage, now: int) -> Prepared:
    if type(usage) is not Usage:
        raise InvalidUsage("usage", f"must be a Usage, not {type(usage).__name__}", index)
    event_id = usage.event_id
    if event_id is None:
        event_id = new_event_id()
    elif usage.occurred_at is None:
        rule = "must be given with an event_id: a retry has another now, and so another content"
        raise InvalidUsage("occurred_at", rule, index)
    if type(usage.occurred_at) is int:
        return Prepared(usage, event_id, usage.occurred_at)
    try:
        return Prepared(usage, event_id, occurred_micros(usage, now))
    except InvalidInput as error:
        raise InvalidUsage(error.field, error.rule, index) from None


_emitters: weakref.WeakSet[Emitter] = weakref.WeakSet()
_running: set[Engine] = set()
_inherited: list[Engine] = []
"""Engines of the parent process: kept, since ending them would end what the parent still uses."""


def _leave_parent() -> None:
    _running.clear()
    for emitter in list(_emitters):
        emitter._leave_parent()


def _close_all_at_exit() -> None:
    for engine in list(_running):
        engine.close(EmitterSettings().exit_timeout_s)


os.register_at_fork(after_in_child=_leave_parent)
atexit.register(_close_all_at_exit)
