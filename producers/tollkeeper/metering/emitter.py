"""The SDK's front door: `Emitter` makes usage durable before `emit` returns and sends it to the log.

It also is who has the gate's holds. Must not know SQL or the gate.
"""

from __future__ import annotations

import atexit
import logging
import os
import threading
import weakref
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeout
from pathlib import Path
from types import TracebackType
from typing import TypeVar

from tollkeeper.errors import InvalidInput, Misuse, SpoolFailed
from tollkeeper.events.gate import GateEvent
from tollkeeper.events.ids import new_event_id, now_micros
from tollkeeper.log.port import Log
from tollkeeper.logline import LogLine, failure
from tollkeeper.metering.engine import EmitterStats, Engine
from tollkeeper.metering.intake import Announce, BeginAnew, Entry
from tollkeeper.metering.segments import Sync
from tollkeeper.metering.settings import EmitterSettings
from tollkeeper.metering.surroundings import Surroundings
from tollkeeper.metering.usage import InvalidUsage, Prepared, Usage, occurred_micros

logger = logging.getLogger(__name__)
T = TypeVar("T")

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
        surroundings: Surroundings | None = None,
    ) -> None:
        self.settings = settings or EmitterSettings()
        self._open_log = log
        self._spool_dir = Path(spool_dir)
        self._surroundings = surroundings or Surroundings(clock=clock, sync=sync)
        self._lock = threading.Lock()
        self._engine: Engine | None = None
        self._is_closed = False
        self._holders: list[Callable[[str], bool]] = []
        _emitters.add(self)

    def emit(self, usage: Usage) -> str:
        """Make one usage durable; answers its event id."""
        return self.emit_many((usage,))[0]

    def emit_many(self, usages: Iterable[Usage]) -> list[str]:
        """Make usages durable with one write, all or none; answers their event ids in order."""
        entry = self.prepare(usages)
        if entry.usages:
            self.start().put(entry)
            self._wait_for(entry.future)
        return [prepared.event_id for prepared in entry.usages]

    def report(self, fact: GateEvent) -> None:
        """Make another fact than usage durable; it reaches the log as usage does, at least once."""
        entry = self.prepare_fact(fact)
        self.start().put(entry)
        self._wait_for(entry.future)

    def identity(self) -> str:
        """The id under which this process may have holds; it begins an emitter if there is none.

        The emitter is *announced* from then on: its start and its end are told to every partition of
        the log, whatever becomes of this process. Cheap once it is. The id changes in a forked child,
        after the disk failed to confirm a write, and by `begin_anew`. Whoever makes a hold registers
        it first (see `ask_before_retiring`), then reads the identity again, and begins anew unless
        it still is the same: an emitter is retired once it has no hold and was replaced.

        SpoolFull and SpoolFailed: it couldn't be announced.
        """
        engine = self.start()
        known = engine.identity
        if known is not None:
            return known
        asked = Announce(self.deadline(), Future())
        engine.put(asked)
        return self._wait_for(asked.future)

    def begin_anew(self, emitter: str) -> bool:
        """Write no more as `emitter`, because it was retired; whether it was the current one.

        The next `identity` is another. What is spooled is still sent, and charged.
        """
        engine = self.start()
        asked = BeginAnew(emitter, self.deadline(), Future())
        engine.put(asked)
        return self._wait_for(asked.future)

    def ask_before_retiring(self, is_in_use: Callable[[str], bool]) -> None:
        """Retire no replaced emitter of which `is_in_use` says that it has an open hold.

        A hold is open until its usage was emitted, or until it is released. Those replaced later wait
        for it too. It is asked on the sender's thread again and again, and must answer at once.
        `close` asks nobody: nothing can be reported after it.
        """
        self._holders.append(is_in_use)

    def send_step(self) -> bool:
        """Without threads: send a batch of each spool that has one. Whether anything moved."""
        return self.start().sender.step()

    def mark(self) -> Callable[[], bool]:
        """Answers, from now on, whether the log has acknowledged everything that is durable now."""
        sender = self.start().sender
        target = sender.target()
        return lambda: sender.has_sent(target)

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

    def abandon(self) -> None:
        """Without threads: let go of everything as it is, as the process's death would."""
        with self._lock:
            self._is_closed = True
            engine = self._engine
        if engine is not None:
            _running.discard(engine)
            engine.abandon()

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
                    surroundings=self._surroundings,
                    is_in_use=self._is_in_use,
                )
                _running.add(self._engine)
            return self._engine

    def prepare(self, usages: Iterable[Usage]) -> Entry:
        """Settle ids and times, so that the usages can be handed to the writer."""
        now = self._surroundings.clock()
        prepared = [_prepared(index, usage, now) for index, usage in enumerate(usages)]
        if len(prepared) > self.settings.max_waiting_records:
            raise InvalidInput("usages", f"must be at most {self.settings.max_waiting_records}")
        return Entry(prepared, self.deadline(), Future())

    def prepare_fact(self, fact: GateEvent) -> Entry:
        """The same for another fact."""
        if not isinstance(fact, GateEvent):
            raise InvalidInput("fact", f"must be a fact of the gate, not {type(fact).__name__}")
        return Entry((), self.deadline(), Future(), (fact,))

    def deadline(self) -> float:
        """Until when what is handed in now waits for room."""
        now = self._surroundings.monotonic()
        return now + self.settings.full_timeout_s if self._surroundings.has_threads else now

    def __enter__(self) -> Emitter:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _is_in_use(self, emitter: str) -> bool:
        try:
            return any(is_in_use(emitter) for is_in_use in self._holders)
        except Exception as error:  # it is the caller's code: usage is sent all the same
            logger.exception(LogLine("in_use_unknown", emitter=emitter, **failure(error)))
            return True

    def _wait_for(self, future: Future[T]) -> T:
        settings = self.settings
        try:
            return future.result(settings.full_timeout_s + settings.sync_timeout_s)
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
        engine.close(engine.exit_timeout_s)


os.register_at_fork(after_in_child=_leave_parent)
atexit.register(_close_all_at_exit)
