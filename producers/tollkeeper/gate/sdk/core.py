"""What `Gate` and `AsyncGate` share: the session and its upkeep, from the first hold to the close.

One thread a gate and process drives the upkeep; it is begun by the first hold, in a forked child as well.
Must not know how the functions are asked for a hold.
"""

from __future__ import annotations

import atexit
import os
import weakref
from collections.abc import Callable
from functools import cache
from time import monotonic

from tollkeeper.errors import Misuse
from tollkeeper.events.ids import now_micros
from tollkeeper.gate.sdk.concluding import Conclusions
from tollkeeper.gate.sdk.holding import NO_PRICES
from tollkeeper.gate.sdk.ports import Functions, Recorder
from tollkeeper.gate.sdk.primary import STARTING
from tollkeeper.gate.sdk.reports import Reports
from tollkeeper.gate.sdk.session import Session
from tollkeeper.gate.sdk.settings import GateSettings
from tollkeeper.gate.sdk.stats import GateStats
from tollkeeper.gate.sdk.steps import Steps, Wait
from tollkeeper.gate.sdk.ticker import Ticker
from tollkeeper.gate.sdk.upkeep import Upkeep

EXIT_TIMEOUT_S = 0.5
"""How long the end of the process waits for a tick; the emitter has its own time after that."""


class Core:
    """`has_thread` off: whoever made it calls `tick`, in tests and in the simulator."""

    def __init__(
        self,
        recorder: Recorder,
        functions: Functions,
        settings: GateSettings,
        *,
        follow: Callable[[str], bool] | None = None,
        reconnect: Callable[[], None] | None = None,
        clock: Callable[[], int] = now_micros,
        monotonic: Callable[[], float] = monotonic,
        has_thread: bool = True,
    ) -> None:
        self.settings = settings
        self._ticker = Ticker(self.tick, settings.tick_s) if has_thread else None
        wake = self._ticker.wake if self._ticker else _nobody
        self.session = Session(
            *(functions, recorder, settings),
            monotonic=monotonic,
            wake=wake,
            follow=follow or functions.follow,
            reconnect=reconnect or functions.reconnect,
        )
        self.reports = Reports(recorder, self.session.counters, most=settings.max_reports)
        self.conclusions = Conclusions(self.session, self.reports, clock=clock)
        self._upkeep = Upkeep(self.session, self.reports)
        self.is_closed = False
        _cores.add(self)
        _stop_at_exit()

    def tick(self) -> None:
        """One round of the upkeep."""
        self._upkeep.tick()

    def check_open(self) -> None:
        """Have the upkeep run. Misuse: the gate is closed."""
        if self.is_closed:
            raise Misuse("the gate is closed")
        self.session.start()
        if self._ticker is not None:
            self._ticker.start()

    @property
    def trouble(self) -> str | None:
        """Why holds aren't granted now, whoever asks; None: they are asked for."""
        session = self.session
        if session.broken is not None or session.trouble is not None:
            return session.broken or session.trouble
        if session.emitter is None:
            return "this emitter begins"
        primaries = session.primaries()
        if not primaries:
            return STARTING
        troubles = (primary.trouble for primary in primaries if primary.trouble is not None)
        return next(troubles, None if session.published.prices else NO_PRICES)

    def ready_steps(self, timeout_s: float) -> Steps[bool]:
        """Wait until it is ready; False when it isn't yet."""
        self.check_open()
        until = self.session.monotonic() + timeout_s
        pause_s = self.settings.first_pause_s
        while self.trouble is not None:
            if self.session.monotonic() >= until:
                return False
            self.session.wake()
            yield Wait(pause_s)
            pause_s = min(2 * pause_s, self.settings.max_pause_s)
        return True

    def stats(self) -> GateStats:
        """A snapshot; its figures are read one after the other."""
        session = self.session
        kept = session.book.having(lambda one: True)
        primaries = session.primaries()
        policies = session.published.policies
        return GateStats(
            **session.counters.all(),
            open_holds=sum(1 for one in kept if one.state == "open"),
            open_micros=sum(one.held_micros for one in kept),
            owed_releases=sum(1 for one in kept if one.state == "releasing"),
            owed_usages=sum(1 for one in kept if one.state == "settling"),
            waiting_reports=len(self.reports),
            trouble=self.trouble,
            epoch=max((primary.epoch for primary in primaries), default=0),
            policies={name: one.name for name, one in policies.items() if one.name != "closed"},
        )

    def close(self, timeout_s: float) -> bool:
        """Let go of what is open, deliver what is owed, and end. False: something is left."""
        session = self.session
        self.is_closed = True
        until = session.monotonic() + timeout_s
        self._upkeep.take_back_abandoned()
        for kept in session.book.having(lambda one: one.state in ("asked", "open")):
            session.let_go(kept)
        if self._ticker is not None:
            self._ticker.run_until(lambda: self._is_idle() or session.monotonic() >= until)
            self._ticker.stop(max(0.0, until - session.monotonic()))
        elif not self._is_idle():
            self.tick()
        is_idle = self._is_idle()
        session.emitter = None
        is_sent = session.recorder.close(max(0.0, until - session.monotonic()))
        session.functions.close()
        return is_idle and is_sent

    def stop(self) -> None:
        """At the end of the process: tick no more. What is open goes with this emitter's retirement."""
        if self._ticker is not None:
            self._ticker.stop(EXIT_TIMEOUT_S)

    def leave_parent(self) -> None:
        """In a forked child: begin with nothing, and with a thread of its own once it is needed."""
        self.session.leave_parent()
        self.reports.leave_parent()
        self._upkeep.leave_parent()
        self.conclusions.leave_parent()
        if self._ticker is not None:
            self._ticker = Ticker(self.tick, self.settings.tick_s)
            self.session.wake = self._ticker.wake

    def _is_idle(self) -> bool:
        return not len(self.session.book) and not len(self.reports)


def _nobody() -> None:
    return None


_cores: weakref.WeakSet[Core] = weakref.WeakSet()


def _leave_parent() -> None:
    for core in list(_cores):
        core.leave_parent()


def _stop_all_at_exit() -> None:
    for core in list(_cores):
        core.stop()


@cache
def _stop_at_exit() -> None:
    """Once a core is made: what comes last is run first, so gates end before their emitters do."""
    atexit.register(_stop_all_at_exit)


os.register_at_fork(after_in_child=_leave_parent)
