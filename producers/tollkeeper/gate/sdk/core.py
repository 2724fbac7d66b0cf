"""What `Gate` and `AsyncGate` share: the session and its upkeep, and what an outcome means to the caller.

One thread a gate and process drives the upkeep; it is begun by the first hold, in a forked child as well.
Must not know how the functions are asked for a hold.
"""

from __future__ import annotations

import atexit
import os
import weakref
from collections.abc import Callable
from time import monotonic

from tollkeeper.errors import Misuse
from tollkeeper.events.ids import now_micros
from tollkeeper.gate.commands import Request
from tollkeeper.gate.sdk.asks import Ask
from tollkeeper.gate.sdk.book import Kept
from tollkeeper.gate.sdk.holding import HoldOutcome, NotKnown, Stopped
from tollkeeper.gate.sdk.policies import Ceilings, Policy
from tollkeeper.gate.sdk.ports import Functions, Recorder
from tollkeeper.gate.sdk.refused import Refused, stopped, unavailable, unpriced
from tollkeeper.gate.sdk.reports import Reports
from tollkeeper.gate.sdk.session import Session
from tollkeeper.gate.sdk.settings import GateSettings
from tollkeeper.gate.sdk.stats import GateStats
from tollkeeper.gate.sdk.ticker import Ticker
from tollkeeper.gate.sdk.upkeep import Upkeep
from tollkeeper.rating.card import Unpriced

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
        clock: Callable[[], int] = now_micros,
        monotonic: Callable[[], float] = monotonic,
        has_thread: bool = True,
    ) -> None:
        self.settings = settings
        self._clock = clock
        self._ticker = Ticker(self.tick, settings.tick_s) if has_thread else None
        wake = self._ticker.wake if self._ticker else _nobody
        self.session = Session(functions, recorder, settings, monotonic=monotonic, wake=wake)
        self.ceilings = Ceilings()
        self.reports = Reports(recorder, self.session.counters, most=settings.max_reports)
        self._upkeep = Upkeep(self.session, self.reports)
        self.is_closed = False
        _cores.add(self)

    def tick(self) -> None:
        """One round of the upkeep."""
        self._upkeep.tick()

    def check_open(self) -> None:
        """Have the upkeep run. Misuse: the gate is closed."""
        if self.is_closed:
            raise Misuse("the gate is closed")
        if self._ticker is not None:
            self._ticker.start()

    def conclude(self, asked: Ask, outcome: HoldOutcome) -> tuple[Kept, Policy | None]:
        """The hold; or that of a call which a policy lets through, without any money held for it.

        Refused: with every reason.
        """
        organization = asked.organization
        if not isinstance(outcome, NotKnown):
            self.ceilings.gate_knows(organization)
        if isinstance(outcome, Kept):
            return outcome, None
        refused, micros = self._refused(asked, outcome)
        policy = self._admitting(organization, outcome, micros)
        if policy is None:
            self.session.counters.add("refused")
            self.session.counters.add("unavailable", int(refused.is_unavailable))
            raise refused
        return self._admitted(asked, micros, policy, refused), policy

    def stats(self) -> GateStats:
        """A snapshot; its figures are read one after the other."""
        session = self.session
        kept = session.book.having(lambda one: True)
        primaries = session.primaries()
        troubles = [session.trouble, *(primary.trouble for primary in primaries)]
        policies = session.published.policies
        return GateStats(
            **session.counters.all(),
            open_holds=sum(1 for one in kept if one.state == "open"),
            open_micros=sum(one.held_micros for one in kept),
            owed_releases=sum(1 for one in kept if one.state == "releasing"),
            owed_usages=sum(1 for one in kept if one.state == "settling"),
            waiting_reports=len(self.reports),
            trouble=next((trouble for trouble in troubles if trouble), None),
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
        self.ceilings = Ceilings()
        if self._ticker is not None:
            self._ticker = Ticker(self.tick, self.settings.tick_s)
            self.session.wake = self._ticker.wake

    def _is_idle(self) -> bool:
        return not len(self.session.book) and not len(self.reports)

    def _refused(
        self, asked: Ask, outcome: Stopped | NotKnown | Unpriced
    ) -> tuple[Refused, int | None]:
        """Every reason, and what the call may cost in micro-USD where that is known."""
        organization, emitter = asked.organization, self.session.emitter
        if isinstance(outcome, Unpriced):
            return unpriced(organization, outcome.detail), asked.max_cost_micros
        if isinstance(outcome, NotKnown):
            micros = outcome.requested_micros
            return unavailable(organization, outcome.cause, requested_micros=micros), micros
        answer, requested = outcome.answer, outcome.requested_micros
        if emitter is not None:
            self.reports.limits_reached(
                organization, asked.member, answer, emitter=emitter, requested=requested
            )
        return stopped(organization, answer, requested_micros=requested), requested

    def _admitting(
        self, organization: str, outcome: Stopped | NotKnown | Unpriced, micros: int | None
    ) -> Policy | None:
        """The policy that lets the call through; None: none does."""
        session = self.session
        if session.emitter is None:
            return None  # its usage couldn't be reported
        policy = session.published.policy_of(organization, self._now())
        if policy.name == "observe":
            return policy
        if policy.name != "open" or not isinstance(outcome, NotKnown) or micros is None:
            return None
        is_within = self.ceilings.admit(organization, micros, policy.ceiling_micros)
        return policy if is_within else None

    def _admitted(self, asked: Ask, micros: int | None, policy: Policy, refused: Refused) -> Kept:
        session, now = self.session, self._now()
        emitter = session.emitter or ""
        session.counters.add(f"admitted_{policy.name}")
        self.reports.admitted(
            *(asked.organization, asked.member, policy),
            causes=tuple(reason.reason for reason in refused.reasons),
            amount_micros=micros or 0,
            emitter=emitter,
            now=now,
        )
        request = Request(micros or 1, asked.member, asked.surface, asked.scopes)
        return Kept(asked.organization, emitter, request, state="open", granted_at=now)

    def _now(self) -> int:
        return self.session.redis_now() or self._clock()


def _nobody() -> None:
    return None


_cores: weakref.WeakSet[Core] = weakref.WeakSet()


def _leave_parent() -> None:
    for core in list(_cores):
        core.leave_parent()


def _stop_all_at_exit() -> None:
    for core in list(_cores):
        core.stop()


os.register_at_fork(after_in_child=_leave_parent)
atexit.register(_stop_all_at_exit)
