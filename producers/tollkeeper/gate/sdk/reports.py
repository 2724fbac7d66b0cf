"""Facts about refusals that the log is told: limits that stopped usage, calls that were let through.

They wait here until the next tick hands them to the spool, so that no call waits for them. Bounded.
"""

from __future__ import annotations

import logging
import threading
from collections import OrderedDict, deque
from collections.abc import Iterable
from concurrent.futures import Future

from tollkeeper.errors import InvalidEvent
from tollkeeper.events.gate import CallAdmitted, GateEvent, LimitReached
from tollkeeper.events.ids import MAX_LABEL_LENGTH, new_event_id
from tollkeeper.events.rules import check_event
from tollkeeper.gate import answers as a
from tollkeeper.gate.sdk.policies import Policy
from tollkeeper.gate.sdk.ports import Recorder
from tollkeeper.gate.sdk.stats import Counters
from tollkeeper.logline import LogLine, failure
from tollkeeper.money.periods import period_at

logger = logging.getLogger(__name__)
MOST_REMEMBERED = 10_000
"""Limits that were reported by this process: beyond it the oldest is reported once more."""
AT_ONCE = 500


class Reports:
    """One a process."""

    def __init__(self, recorder: Recorder, counters: Counters, *, most: int) -> None:
        self._recorder = recorder
        self._counters = counters
        self._most = most
        self._lock = threading.Lock()
        self._waiting: deque[GateEvent] = deque()
        self._handed_in: tuple[Future[None], list[GateEvent]] | None = None
        self._reached: OrderedDict[tuple[str, str, str, int], int] = OrderedDict()
        """By organization, limit, scope and period, the cap at which it was reported last."""

    def __len__(self) -> int:
        handed_in = self._handed_in
        return len(self._waiting) + (len(handed_in[1]) if handed_in else 0)

    def limits_reached(
        self, organization: str, member: str, refused: a.Refused, *, emitter: str, requested: int
    ) -> None:
        """Report each limit at its present cap, once in this process (RULES R26); micro-USD."""
        start = period_at(refused.period_end - 1).start_micros
        for one in refused.reasons:
            if one.cap_micros is None:
                continue
            key = (organization, one.name, one.scope, start)
            with self._lock:
                # A cap that is set back to an earlier amount stops usage anew.
                if self._reached.get(key) == one.cap_micros:
                    continue
                self._reached[key] = one.cap_micros
                if len(self._reached) > MOST_REMEMBERED:
                    self._reached.popitem(last=False)
            self._add(
                LimitReached(
                    organization=organization,
                    limit=one.name,
                    scope=one.scope,
                    period_start=start,
                    cap_micros=one.cap_micros,
                    spent_micros=one.spent_micros or 0,
                    held_micros=one.held_micros or 0,
                    requested_micros=requested,
                    member=member,
                    emitter=emitter,
                    occurred_at=refused.now,
                )
            )

    def admitted(
        self,
        organization: str,
        member: str,
        policy: Policy,
        *,
        causes: tuple[str, ...],
        amount_micros: int,
        emitter: str,
        now: int,
    ) -> None:
        """Report a call that a policy let through."""
        assert policy.name != "closed"
        self._add(
            CallAdmitted(
                event_id=new_event_id(),
                organization=organization,
                member=member,
                policy=policy.name,
                cause=_listed(causes),
                amount_micros=amount_micros,
                emitter=emitter,
                occurred_at=now,
            )
        )

    def deliver(self) -> None:
        """Hand what waits to the spool; what it didn't take is handed in again by the next tick."""
        if self._handed_in is not None:
            future, facts = self._handed_in
            if not future.done():
                return
            if future.cancelled() or future.exception() is not None:
                self._handed_in = (self._recorder.report(facts), facts)
                return
            self._handed_in = None
        with self._lock:
            facts = [self._waiting.popleft() for _ in range(min(AT_ONCE, len(self._waiting)))]
        if facts:
            self._handed_in = (self._recorder.report(facts), facts)

    def leave_parent(self) -> None:
        """In a forked child: what waits is the parent's to report."""
        self._lock = threading.Lock()
        self._waiting.clear()
        self._handed_in = None

    def _add(self, fact: GateEvent) -> None:
        try:
            check_event(fact)  # one that can't be recorded would hold up all others
        except InvalidEvent as error:
            logger.error(LogLine("report_invalid", fact=type(fact).__name__, **failure(error)))
        else:
            with self._lock:
                if len(self._waiting) < self._most:
                    self._waiting.append(fact)
                    return
        self._counters.add("reports_dropped")


def _listed(causes: Iterable[str]) -> str:
    """As many of them as a label has room for; at least the first, cut if need be."""
    listed = ""
    for cause in causes:
        longer = f"{listed},{cause}" if listed else cause[:MAX_LABEL_LENGTH]
        if len(longer) > MAX_LABEL_LENGTH:
            break
        listed = longer
    return listed
