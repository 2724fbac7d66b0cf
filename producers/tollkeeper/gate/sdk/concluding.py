"""What an outcome means to the caller: a hold, a refusal, or a call that a policy lets through.

Closed: what the gate refuses or doesn't know is refused. Open: what it doesn't know is let through, up to
a ceiling. Observe: everything is let through. Each is counted and reported. Must not know Redis.
"""

from __future__ import annotations

from collections.abc import Callable

from tollkeeper.gate.commands import Request
from tollkeeper.gate.sdk.asks import Ask
from tollkeeper.gate.sdk.book import Kept
from tollkeeper.gate.sdk.holding import HoldOutcome, NotKnown, Stopped
from tollkeeper.gate.sdk.policies import Ceilings, Policy
from tollkeeper.gate.sdk.refused import Refused, stopped, unavailable, unpriced
from tollkeeper.gate.sdk.reports import Reports
from tollkeeper.gate.sdk.session import Session
from tollkeeper.rating.card import Unpriced

No = Stopped | NotKnown | Unpriced


class Conclusions:
    """One a session."""

    def __init__(self, session: Session, reports: Reports, *, clock: Callable[[], int]) -> None:
        self._session = session
        self._reports = reports
        self._clock = clock
        self._ceilings = Ceilings()

    def of_hold(self, asked: Ask, outcome: HoldOutcome) -> tuple[Kept, Policy | None]:
        """The hold; or that of a call which a policy lets through, without any money held for it.

        Refused: with every reason.
        """
        if not isinstance(outcome, NotKnown):
            self._ceilings.gate_knows(asked.organization)
        if isinstance(outcome, Kept):
            return outcome, None
        counters = self._session.counters
        refused, micros = self._refused(asked, outcome)
        policy = self._admitting(asked, outcome, micros, refused)
        if policy is None:
            counters.add("refused")
            counters.add("unavailable", int(refused.is_unavailable))
            raise refused
        request = Request(micros or 1, asked.member, asked.surface, asked.scopes)
        emitter = self._session.emitter or ""
        kept = Kept(asked.organization, emitter, request, state="open", granted_at=self._now())
        return kept, policy

    def of_extension(self, asked: Ask, outcome: Kept | No) -> Policy | None:
        """None: the hold reserves more now. A policy: the call goes on without. Refused: it doesn't."""
        counters = self._session.counters
        if isinstance(outcome, Kept):
            counters.add("extended")
            return None
        refused, micros = self._refused(asked, outcome)
        policy = self._admitting(asked, outcome, micros, refused)
        if policy is None:
            counters.add("extensions_refused")
            raise refused
        return policy

    def leave_parent(self) -> None:
        """In a forked child: what was let through is the parent's."""
        self._ceilings = Ceilings()

    def _refused(self, asked: Ask, outcome: No) -> tuple[Refused, int | None]:
        """Every reason, and what the call may cost in micro-USD where that is known."""
        organization, emitter = asked.organization, self._session.emitter
        if isinstance(outcome, Unpriced):
            return unpriced(organization, outcome.detail), asked.max_cost_micros
        if isinstance(outcome, NotKnown):
            micros = outcome.requested_micros
            away = unavailable(
                organization, outcome.cause, outcome.obstacle, requested_micros=micros
            )
            return away, micros
        answer, requested = outcome.answer, outcome.requested_micros
        if emitter is not None:
            self._reports.limits_reached(
                organization, asked.member, answer, emitter=emitter, requested=requested
            )
        return stopped(organization, answer, requested_micros=requested), requested

    def _admitting(
        self, asked: Ask, outcome: No, micros: int | None, refused: Refused
    ) -> Policy | None:
        """The policy that lets the call through, which is reported; None: none does."""
        session, organization, now = self._session, asked.organization, self._now()
        emitter = session.emitter
        if emitter is None:
            return None  # its usage couldn't be reported
        policy = session.published.policy_of(organization, now)
        if policy.name == "closed":
            return None
        if policy.name == "open":
            if not isinstance(outcome, NotKnown) or micros is None:
                return None
            if not self._ceilings.admit(organization, micros, policy.ceiling_micros):
                return None
        session.counters.add(f"admitted_{policy.name}")
        self._reports.admitted(
            *(organization, asked.member, policy),
            causes=tuple(reason.reason for reason in refused.reasons),
            amount_micros=micros or 0,
            emitter=emitter,
            now=now,
        )
        return policy

    def _now(self) -> int:
        return self._session.redis_now() or self._clock()
