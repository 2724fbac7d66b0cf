"""What a settled batch is told about (RULES R26): thresholds, credits, usage that stops and resumes. Pure.

Nearly every organization of a batch passes no threshold, which its sums before and after show. Only
those that may have something to tell are gone through record by record, by `standing`.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping
from operator import itemgetter
from typing import Protocol

from tollkeeper.events.gate import LimitReached
from tollkeeper.events.organization import (
    CreditsPurchased,
    CreditsVoided,
    SpendCapSet,
    ThresholdsSet,
)
from tollkeeper.ledger.notifications import member_of_stop
from tollkeeper.ledger.rows import CapRow, ChargeRow, CreditRow, StopRow
from tollkeeper.ledger.standing import Charged, Standing
from tollkeeper.ledger.thresholds import CapKey, cap_in_force, cap_keys, is_low, reached_now
from tollkeeper.ledger.view import (
    ALL_MEMBERS,
    Changes,
    Fact,
    OrganizationTotals,
    SpentKey,
    View,
)
from tollkeeper.money.periods import period_at

_CHARGED = itemgetter(
    *map(
        ChargeRow._fields.index,
        (
            "organization",
            "log_partition",
            "log_offset",
            "released_offset",
            "appended_at",
            "occurred_at",
            "period_start",
            "member",
            "charge_nanos",
        ),
    )
)
_MOVING = (SpendCapSet, CreditsPurchased, CreditsVoided, ThresholdsSet, LimitReached)
"""The facts that change how an organization stands; the others only change who is told."""


class StandingReads(Protocol):
    """What is asked of the ledger as it was before the batch."""

    def organizations(self, names: Collection[str]) -> Mapping[str, OrganizationTotals]:
        """Those that were open."""
        ...

    def caps(self, keys: Collection[CapKey]) -> Mapping[CapKey, CapRow]:
        """These settings."""
        ...

    def caps_of(self, names: Collection[str]) -> Mapping[CapKey, CapRow]:
        """Every setting of these organizations."""
        ...

    def spent(self, keys: Collection[SpentKey]) -> Mapping[SpentKey, int]:
        """What these scopes had spent, nano-USD."""
        ...

    def spent_in(self, periods: Collection[tuple[str, int]]) -> Mapping[SpentKey, int]:
        """What every scope of these organizations had spent in these periods."""
        ...

    def open_stops(self, names: Collection[str]) -> Iterable[StopRow]:
        """Where usage of these organizations stopped and didn't resume."""
        ...

    def purchases(self, names: Collection[str]) -> Iterable[CreditRow]:
        """The purchases of these organizations that weren't voided."""
        ...

    def told(self, names: Collection[str]) -> Iterable[tuple[str, str]]:
        """(organization, member) of those who receive every notification of it."""
        ...


def fold_notifying(view: View, changes: Changes, reads: StandingReads) -> None:
    """Find what is to be told of a batch that was settled, and how its organizations stand now."""
    moved = {name for name, facts in changes.facts.items() if _is_moving(view, name, facts)}
    moved |= _passing(view, changes, reads, moved)
    if not moved:
        return
    charges = _charges_of(changes, moved)
    for standing in _standings(view, changes, reads, moved, charges):
        name = standing.organization
        standing.go_through(charges[name], changes.facts.get(name, ()))
        _take_over(standing, view.organizations[name], changes)


def _is_moving(view: View, name: str, facts: Iterable[Fact]) -> bool:
    since = view.organizations[name].stopped_since
    return any(
        isinstance(fact.event, _MOVING)
        or (since and period_at(fact.appended_at).start_micros > since)
        for fact in facts
    )


def _passing(view: View, changes: Changes, reads: StandingReads, moved: set[str]) -> set[str]:
    """Organizations, besides those, whose charges pass a threshold or are of a period that lifts a stop."""
    found = set()
    charged: defaultdict[str, int] = defaultdict(int)
    capped: list[SpentKey] = []
    for key, after in changes.spent.items():
        name, period_start, member = key
        totals = view.organizations[name]
        if member == ALL_MEMBERS:
            charged[name] += after - view.spent.get(key, 0)
            if totals.stopped_since and period_start > totals.stopped_since:
                found.add(name)
        if totals.cap_scopes and totals.cap_percents and name not in moved:
            capped.append(key)
    found |= {name for name, nanos in charged.items() if _passes(view.organizations[name], nanos)}
    caps = reads.caps(
        {
            key
            for name, _, member in capped
            for key in cap_keys(name, member, view.organizations[name].cap_scopes)
        }
    )
    for key in capped:
        name, _, member = key
        cap = cap_in_force(caps, name, member)
        before, after = view.spent.get(key, 0), changes.spent[key]
        percents = view.organizations[name].cap_percents
        if cap is not None and reached_now(percents, cap.cap_nanos, before, after):
            found.add(name)
    return found


def _passes(totals: OrganizationTotals, charged_nanos: int) -> bool:
    """Whether its credits became low or ran out by these charges."""
    if totals.channel != "self_serve" or not totals.credits_version:
        return False
    after = totals.purchased_nanos - totals.used_nanos
    before = after + charged_nanos
    low, last = totals.credits_low_percent, totals.last_purchase_nanos
    return (after <= 0 < before) or (is_low(low, last, after) and not is_low(low, last, before))


def _charges_of(changes: Changes, names: Collection[str]) -> Mapping[str, list[Charged]]:
    found: defaultdict[str, list[Charged]] = defaultdict(list)
    for row in changes.charges:
        name, partition, offset, released_offset, appended_at, *rest = _CHARGED(row)
        if name not in names:
            continue
        if released_offset is not None:
            offset = released_offset
            appended_at = changes.released_at[partition, released_offset]
        found[name].append(Charged(offset, appended_at, *rest))
    return found


def _standings(
    view: View,
    changes: Changes,
    reads: StandingReads,
    names: set[str],
    charges: Mapping[str, list[Charged]],
) -> Iterator[Standing]:
    """Each of these organizations as it was before the batch, by name."""
    before = reads.organizations(names)
    standings = {}
    for name in sorted(names):
        now = view.organizations[name]
        totals = before.get(name) or _just_opened(now)
        standings[name] = Standing(name, now.log_partition, totals)
    for stop in reads.open_stops(names):
        standings[stop.organization].stops[stop.limit_name, stop.scope] = stop
    for name, member in reads.told(names):
        standings[name].told.add(member)
    voiding = {
        name
        for name in names
        if any(isinstance(fact.event, CreditsVoided) for fact in changes.facts.get(name, ()))
    }
    for one in reads.purchases(voiding):
        standings[one.organization].purchases[one.purchase_id] = one
    _load_caps_and_spent(changes, reads, standings, charges)
    yield from standings.values()


def _load_caps_and_spent(
    changes: Changes,
    reads: StandingReads,
    standings: Mapping[str, Standing],
    charges: Mapping[str, list[Charged]],
) -> None:
    """Of the members that are in question; of all of them where a default changes."""
    whole = set()
    scopes: set[SpentKey] = set()
    for name, standing in standings.items():
        for one in charges.get(name, ()):
            scopes |= {(name, one.period_start, m) for m in (ALL_MEMBERS, one.member)}
        for stop in standing.stops.values():
            scopes.add((name, stop.period_start, member_of_stop(stop) or ALL_MEMBERS))
        for fact in changes.facts.get(name, ()):
            period_start = period_at(fact.appended_at).start_micros
            match fact.event:
                case SpendCapSet(scope="member_default"):
                    whole.add((name, period_start))
                case SpendCapSet():
                    scopes.add((name, period_start, fact.event.member or ALL_MEMBERS))
                case LimitReached():
                    member = fact.event.scope.partition("/")[2]
                    scopes |= {(name, fact.event.period_start, m) for m in (ALL_MEMBERS, member)}
    spent = {**reads.spent_in(whole), **reads.spent(scopes)}
    for (name, period_start, member), nanos in spent.items():
        standings[name].spent[period_start, member] = nanos
    keys = {key for name, _, member in scopes for key in cap_keys(name, member)}
    for key, row in {**reads.caps_of({name for name, _ in whole}), **reads.caps(keys)}.items():
        standings[key[0]].caps[key] = row


def _just_opened(now: OrganizationTotals) -> OrganizationTotals:
    """An organization as it is before its first charge."""
    return OrganizationTotals(
        organization=now.organization,
        plan=now.plan,
        channel=now.channel,
        primary_owner=now.primary_owner,
        opened_at=now.opened_at,
        version=0,
        log_partition=now.log_partition,
        last_offset=now.last_offset,
    )


def _take_over(standing: Standing, now: OrganizationTotals, changes: Changes) -> None:
    then = standing.totals
    now.cap_percents = then.cap_percents
    now.credits_low_percent = then.credits_low_percent
    now.cap_scopes = then.cap_scopes
    now.last_purchase_nanos = then.last_purchase_nanos
    now.credits_version = then.credits_version
    now.stopped_since = standing.stopped_since
    changes.organizations.add(standing.organization)
    changes.notifications += standing.notifications
    for (limit_name, scope), stop in standing.changed_stops.items():
        changes.stops[standing.organization, limit_name, scope] = stop
