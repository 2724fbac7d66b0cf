"""How an organization stands to its limits, record by record, and what is told about it. Pure.

It goes through an organization's charges and facts in the order of the log, wherever a batch was cut,
so that the same notifications follow however the log is folded (RULES R26).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from typing import NamedTuple, assert_never

import msgspec

from tollkeeper.events.gate import LimitReached
from tollkeeper.events.organization import (
    CreditsPurchased,
    CreditsVoided,
    GatePolicySet,
    MemberAdded,
    MemberRemoved,
    OrganizationOpened,
    OwnershipTransferred,
    RoleChanged,
    SpendCapSet,
    ThresholdsSet,
)
from tollkeeper.gate.amounts import cap_micros, purchased_micros
from tollkeeper.ledger.notifications import (
    CREDITS,
    MEMBER_CAP,
    ORGANIZATION_CAP,
    Cause,
    Kind,
    Notification,
    Subject,
    member_of_stop,
    member_scope,
    organization_scope,
    subject_of_stop,
)
from tollkeeper.ledger.rows import CapRow, CreditRow, StopRow
from tollkeeper.ledger.thresholds import (
    CAP_SCOPES,
    CapInForce,
    CapKey,
    cap_in_force,
    is_low,
    reached_now,
)
from tollkeeper.ledger.view import ALL_MEMBERS, Fact, OrganizationTotals
from tollkeeper.money.periods import period_at

TOLD = frozenset({"primary_owner", "owner", "admin"})
"""The roles that receive every notification of their organization."""


class Charged(NamedTuple):
    """One new charge, and where it took effect."""

    offset: int
    appended_at: int
    occurred_at: int
    period_start: int
    member: str
    charge_nanos: int


class _Place(NamedTuple):
    """Where in the log, and when, something became so."""

    offset: int
    appended_at: int
    occurred_at: int


@dataclass(slots=True)
class Standing:
    """One organization as it was before a batch, worked on record by record; use it once.

    `spent` is by (period start, member or ALL_MEMBERS), `stops` by (limit, scope) are those that usage
    didn't resume from, `purchases` is there only when one of them is voided.
    """

    organization: str
    log_partition: int
    totals: OrganizationTotals
    caps: dict[CapKey, CapRow] = field(default_factory=dict)
    spent: dict[tuple[int, str], int] = field(default_factory=dict)
    stops: dict[tuple[str, str], StopRow] = field(default_factory=dict)
    purchases: dict[str, CreditRow] = field(default_factory=dict)
    told: set[str] = field(default_factory=set)
    notifications: list[Notification] = field(default_factory=list)
    changed_stops: dict[tuple[str, str], StopRow] = field(default_factory=dict)

    def go_through(self, charges: Iterable[Charged], facts: Iterable[Fact]) -> None:
        """Take everything that happened, in the order of the log."""
        items: list[Charged | Fact] = [*charges, *facts]
        for item in sorted(items, key=lambda item: item.offset):
            if isinstance(item, Charged):
                self._charge(item)
            else:
                self._take(item)

    @property
    def stopped_since(self) -> int:
        """The earliest period in which a cap stopped usage that didn't resume; 0: there is none."""
        starts = [one.period_start for one in self.stops.values() if one.limit_name != CREDITS]
        return min(starts, default=0)

    def _charge(self, charged: Charged) -> None:
        place = _Place(charged.offset, charged.appended_at, charged.occurred_at)
        self._resume_from_before(charged.period_start, place)
        for member in (ALL_MEMBERS, charged.member):
            key = (charged.period_start, member)
            before = self.spent.get(key, 0)
            self.spent[key] = before + charged.charge_nanos
            self._tell_reached(charged.period_start, member, before, place)
        if self.totals.channel == "self_serve":
            balance = self.totals.purchased_nanos - self.totals.used_nanos
            self.totals.used_nanos += charged.charge_nanos
            self._tell_credits(balance, place)

    def _take(self, fact: Fact) -> None:
        """One fact. Its effect on caps and credits counts in the period in which the log got it."""
        event, period_start = fact.event, period_at(fact.appended_at).start_micros
        place = _Place(fact.offset, fact.appended_at, event.occurred_at)
        self._resume_from_before(period_start, place)
        match event:
            case OrganizationOpened():
                self.told.add(event.primary_owner)
            case MemberAdded() | RoleChanged():
                (self.told.add if event.role in TOLD else self.told.discard)(event.member)
            case MemberRemoved():
                self.told.discard(event.member)
            case OwnershipTransferred():
                self.told |= {event.from_member, event.to_member}
            case ThresholdsSet():
                percents = (str(one.cap_percent) for one in event.cap_thresholds)
                self.totals.cap_percents = " ".join(percents)
                self.totals.credits_low_percent = event.credits_low_percent
            case SpendCapSet():
                self._set_cap(event, period_start, place)
            case CreditsPurchased() | CreditsVoided():
                self._change_credits(event, place)
            case LimitReached():
                self._stop(event, period_start, place)
            case GatePolicySet():
                pass
            case _:
                assert_never(event)

    def _set_cap(self, event: SpendCapSet, period_start: int, place: _Place) -> None:
        """A cap with another amount is armed anew: what is spent may have reached its thresholds."""
        members = self._members_of(event, period_start)
        before = {member: self._cap(member) for member in members}
        self.totals.cap_scopes |= CAP_SCOPES[event.scope]
        row = CapRow(
            self.organization,
            event.scope,
            event.member or "",
            event.setting,
            event.cap_nanos,
            event.version,
            event.occurred_at,
        )
        self.caps[self.organization, event.scope, row.member] = row
        for member in members:
            cap, last = self._cap(member), before[member]
            if cap is not None and (last is None or last.cap_nanos != cap.cap_nanos):
                self._tell_reached(period_start, member, 0, place)
        for stop in self._open_stops():
            if stop.limit_name != CREDITS and self._has_room(stop):
                self._resume(stop, "cap_raised", place)

    def _members_of(self, event: SpendCapSet, period_start: int) -> list[str]:
        """Whose cap it may be: of the default, everybody's who has spent something in the period."""
        match event.scope:
            case "organization":
                return [ALL_MEMBERS]
            case "member":
                return [event.member or ""]
            case "member_default":
                spenders = (member for start, member in self.spent if start == period_start)
                return sorted(member for member in spenders if member != ALL_MEMBERS)

    def _change_credits(self, event: CreditsPurchased | CreditsVoided, place: _Place) -> None:
        totals = self.totals
        totals.credits_version += 1
        if isinstance(event, CreditsPurchased):
            totals.purchased_nanos += event.credit_nanos
            totals.last_purchase_nanos = event.credit_nanos
            bought = CreditRow(
                self.organization,
                event.purchase_id,
                event.credit_nanos,
                event.occurred_at,
                event.actor,
                event.reference,
                place.offset,
            )
            self.purchases[event.purchase_id] = bought
        else:
            totals.purchased_nanos -= event.credit_nanos
            del self.purchases[event.purchase_id]
            newest = max(self.purchases.values(), key=lambda one: one.log_offset, default=None)
            totals.last_purchase_nanos = 0 if newest is None else newest.credit_nanos
        self._tell_credits(None, place)
        if totals.purchased_nanos > totals.used_nanos:
            for stop in self._open_stops():
                if stop.limit_name == CREDITS:
                    self._resume(stop, "credits_bought", place)

    def _stop(self, event: LimitReached, period_start: int, place: _Place) -> None:
        """Usage stopped, if that was at the amount in force, and no period ago."""
        found = self._in_force(event)
        if found is None or (event.limit != CREDITS and event.period_start < period_start):
            return
        cap_nanos, version, member = found
        key = (event.limit, event.scope)
        known = self.stops.get(key)
        if (
            known is not None
            and known.cap_nanos == cap_nanos
            and (event.limit == CREDITS or known.period_start == event.period_start)
        ):
            return  # another emitter's report of the same
        stop = StopRow(
            self.organization,
            *key,
            event.period_start,
            cap_nanos,
            version,
            event.occurred_at,
            place.offset,
        )
        self.stops[key] = self.changed_stops[key] = stop
        self._tell(
            subject_of_stop("usage.stopped", stop), place, member, cap_nanos, self._used(stop)
        )

    def _in_force(self, event: LimitReached) -> tuple[int, int, str] | None:
        """Amount, version and member of the limit that was met; None when another one is in force."""
        if event.limit == CREDITS:
            bought = self.totals.purchased_nanos
            if purchased_micros(bought) != event.cap_micros:
                return None
            return bought, self.totals.credits_version, ALL_MEMBERS
        dimension, _, value = event.scope.partition("/")
        member = value if event.limit == MEMBER_CAP else ALL_MEMBERS
        if (event.limit, dimension) not in _DIMENSIONS:
            return None  # a further level, of which the ledger doesn't know what is in force
        cap = self._cap(member)
        if cap is None or cap_micros(cap.cap_nanos) != event.cap_micros:
            return None
        return cap.cap_nanos, cap.version, member

    def _resume_from_before(self, period_start: int, place: _Place) -> None:
        """A record of a later period: no cap of an earlier one stops anything any more (R23)."""
        for stop in self._open_stops():
            if stop.limit_name != CREDITS and stop.period_start < period_start:
                self._resume(stop, "new_period", place)

    def _resume(self, stop: StopRow, cause: Cause, place: _Place) -> None:
        key = (stop.limit_name, stop.scope)
        del self.stops[key]
        self.changed_stops[key] = msgspec.structs.replace(
            stop, resumed_at=place.occurred_at, resumed_offset=place.offset, resumed_by=cause
        )
        member = member_of_stop(stop) or ALL_MEMBERS
        is_of_cap = cause == "cap_raised"
        cap = self._cap(member) if is_of_cap else None
        amount = self.totals.purchased_nanos if cause == "credits_bought" else None
        self._tell(
            subject_of_stop("usage.resumed", stop),
            place,
            member,
            cap.cap_nanos if cap is not None else amount,
            None if cause == "new_period" else self._used(stop),
            cause,
        )

    def _has_room(self, stop: StopRow) -> bool:
        """Whether its cap was raised, beyond what is spent."""
        cap = self._cap(member_of_stop(stop) or ALL_MEMBERS)
        return cap is None or cap.cap_nanos > max(stop.cap_nanos, self._used(stop))

    def _used(self, stop: StopRow) -> int:
        if stop.limit_name == CREDITS:
            return self.totals.used_nanos
        return self.spent.get((stop.period_start, (member_of_stop(stop) or ALL_MEMBERS)), 0)

    def _open_stops(self) -> list[StopRow]:
        return [self.stops[key] for key in sorted(self.stops)]

    def _cap(self, member: str) -> CapInForce | None:
        return cap_in_force(self.caps, self.organization, member)

    def _tell_reached(self, period_start: int, member: str, before: int, place: _Place) -> None:
        """Every threshold that the scope hadn't reached with `before`, and has with what is spent."""
        cap = self._cap(member)
        if cap is None:
            return
        spent = self.spent.get((period_start, member), 0)
        if member == ALL_MEMBERS:
            limit, scope = ORGANIZATION_CAP, organization_scope(self.organization)
        else:
            limit, scope = MEMBER_CAP, member_scope(member)
        for percent in reached_now(self.totals.cap_percents, cap.cap_nanos, before, spent):
            kind: Kind = "cap.threshold_reached"
            subject = Subject(
                self.organization, kind, limit, scope, period_start, percent, cap.version
            )
            self._tell(subject, place, member, cap.cap_nanos, spent)

    def _tell_credits(self, before: int | None, place: _Place) -> None:
        """Credits that became low or ran out; `before` None: others were bought or voided."""
        totals = self.totals
        balance = totals.purchased_nanos - totals.used_nanos
        low, last = totals.credits_low_percent, totals.last_purchase_nanos
        if not totals.credits_version:
            return  # nothing was ever bought
        was_low = before is not None and is_low(low, last, before)
        was_out = before is not None and before <= 0
        scope = organization_scope(self.organization)
        amounts = (totals.purchased_nanos, totals.used_nanos)
        version = totals.credits_version
        if is_low(low, last, balance) and not was_low:
            subject = Subject(self.organization, "credits.low", CREDITS, scope, None, low, version)
            self._tell(subject, place, ALL_MEMBERS, *amounts)
        if balance <= 0 and not was_out:
            subject = Subject(self.organization, "credits.out", CREDITS, scope, None, None, version)
            self._tell(subject, place, ALL_MEMBERS, *amounts)

    def _tell(
        self,
        subject: Subject,
        place: _Place,
        member: str,
        cap_nanos: int | None,
        spent_nanos: int | None,
        cause: Cause | None = None,
    ) -> None:
        concerned: Collection[str] = () if member == ALL_MEMBERS else (member,)
        self.notifications.append(
            Notification(
                notification_id=subject.notification_id,
                **msgspec.structs.asdict(subject),
                member=None if member == ALL_MEMBERS else member,
                cap_nanos=cap_nanos,
                spent_nanos=spent_nanos,
                cause=cause,
                recipients=tuple(sorted(self.told.union(concerned))),
                occurred_at=place.occurred_at,
                appended_at=place.appended_at,
                log_partition=self.log_partition,
                log_offset=place.offset,
            )
        )


_DIMENSIONS = frozenset({(ORGANIZATION_CAP, "organization"), (MEMBER_CAP, "member")})
