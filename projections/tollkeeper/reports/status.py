"""Where an organization and its members stand in this period: each limit, what is spent, held and left.

What is spent and capped comes from the ledger, to the nano-dollar (RULES R19, R21, R32). What is held,
and whether a limit is open, only the gate knows: its answers are given, since this module asks no Redis.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from fractions import Fraction

import msgspec
from sqlalchemy import Connection, select

from tollkeeper.gate import answers as a
from tollkeeper.gate.amounts import NANOS_PER_MICRO, cap_micros, purchased_micros, spent_micros
from tollkeeper.ledger.generations import live_generation
from tollkeeper.ledger.tables import spent
from tollkeeper.log.port import Log
from tollkeeper.money.periods import Period
from tollkeeper.reports.documents import instant, money
from tollkeeper.reports.freshness import Freshness, freshness
from tollkeeper.reports.organizations import cap_settings, find_organization, members

WHOLE = ""
"""The row of `spent` that is the organization's own."""

GateStatus = a.Status | a.Absent | None
"""What the gate says of the organization and a member; None when it couldn't be asked."""


class LimitStanding(msgspec.Struct, frozen=True, kw_only=True):
    """One limit. Nano-USD; `cap_nanos` None is unlimited, `held_nanos` None is not known.

    `lifts_at` is when a closed one opens by itself, in microseconds: a cap at the period's end, credits
    never.
    """

    limit: str
    cap_nanos: int | None
    spent_nanos: int
    held_nanos: int | None
    is_open: bool
    lifts_at: int | None

    @property
    def remaining_nanos(self) -> int | None:
        """What is left; negative when more was used than allowed, None when unlimited."""
        if self.cap_nanos is None:
            return None
        return self.cap_nanos - self.spent_nanos - (self.held_nanos or 0)

    @property
    def used_share(self) -> Fraction:
        """How much of it is spent or held; a cap of zero is used up."""
        if self.cap_nanos is None:
            return Fraction(-1)
        taken = self.spent_nanos + (self.held_nanos or 0)
        return Fraction(taken, self.cap_nanos) if self.cap_nanos else Fraction(10**12 + taken)

    def as_document(self) -> dict[str, object]:
        """The keys that the command line promises."""
        return {
            "limit": self.limit,
            **money("cap", self.cap_nanos),
            **money("spent", self.spent_nanos),
            **money("held", self.held_nanos),
            **money("remaining", self.remaining_nanos),
            "open": self.is_open,
            "lifts_at": instant(self.lifts_at),
        }


class MemberStanding(msgspec.Struct, frozen=True):
    """A member's own cap, where it comes from, and every limit that stops the member now."""

    member: str
    is_member: bool
    source: str
    cap: LimitStanding
    stopped_by: tuple[str, ...]

    def as_document(self) -> dict[str, object]:
        """One row of `status --members`."""
        return {
            "member": self.member,
            "is_member": self.is_member,
            "source": self.source,
            **self.cap.as_document(),
            "stopped_by": list(self.stopped_by),
        }


class Standing(msgspec.Struct, frozen=True, kw_only=True):
    """An organization in a period: its limits, and each member's; `members` is the one asked for, or all."""

    organization: str
    period: Period
    ledger_offset: int
    limits: tuple[LimitStanding, ...]
    members: tuple[MemberStanding, ...]
    gate: GateStatus
    freshness: Freshness

    @property
    def is_known_to_gate(self) -> bool:
        """Whether what is held, and what is open, is the gate's own answer."""
        return _is_known(self.gate)

    def gate_document(self) -> dict[str, object]:
        """What the gate knows of the organization, and at which offset of the log."""
        known = self.gate if isinstance(self.gate, a.Status) else None
        return {
            "reachable": self.gate is not None,
            "known": self.is_known_to_gate,
            "epoch": known.epoch if known else None,
            "offset": known.offset if known else None,
            "ledger_offset": self.ledger_offset,
        }


def standing(
    connection: Connection,
    log: Log,
    name: str,
    *,
    period: Period,
    now: int,
    of_gate: Mapping[str, GateStatus],
    also: Collection[str] = (),
) -> Standing:
    """Everybody's standing, those first whose own cap is nearest: members, who spent, and who is `also`
    asked for. `of_gate` is by member; '' is the organization."""
    found = find_organization(connection, name)
    totals = _spent(connection, name, period)
    settings = cap_settings(connection, name)
    spent_nanos = totals.pop(WHOLE, 0)
    at_gate = of_gate.get(WHOLE)
    whole = [_cap("organization_cap", settings.own_nanos, spent_nanos, period, at_gate)]
    if found.channel == "self_serve":
        whole.append(_credits(found.purchased_nanos, found.used_nanos, at_gate))
    present = {str(one["member"]) for one in members(connection, name) if one["removed_at"] is None}
    closed = tuple(one.limit for one in whole if not one.is_open)
    rows = []
    for member in {*present, *totals, *also}:
        cap_nanos, source = settings.of_member(member)
        own = _cap("member_cap", cap_nanos, totals.get(member, 0), period, of_gate.get(member))
        stops = [*_stops(member in present, own), *closed]
        rows.append(MemberStanding(member, member in present, source, own, tuple(stops)))
    rows.sort(key=lambda one: (-one.cap.used_share, one.member))
    return Standing(
        organization=name,
        period=period,
        ledger_offset=found.last_offset,
        limits=tuple(whole),
        members=tuple(rows),
        gate=at_gate,
        freshness=freshness(connection, log, now=now, partitions=[found.log_partition]),
    )


def _stops(is_member: bool, own: LimitStanding) -> list[str]:
    """What about the member alone stops the member."""
    return ([] if is_member else ["member"]) + ([] if own.is_open else [own.limit])


def _cap(
    limit: str, cap_nanos: int | None, spent_nanos: int, period: Period, gate: GateStatus
) -> LimitStanding:
    at_gate = _limit(gate, limit)
    allowed = None if cap_nanos is None else cap_micros(cap_nanos)
    is_open = _has_room(allowed, spent_micros(spent_nanos), at_gate)
    return LimitStanding(
        limit=limit,
        cap_nanos=cap_nanos,
        spent_nanos=spent_nanos,
        held_nanos=_held_nanos(at_gate),
        is_open=is_open,
        lifts_at=None if is_open else period.end_micros,
    )


def _credits(bought_nanos: int, used_nanos: int, gate: GateStatus) -> LimitStanding:
    at_gate = _limit(gate, "credits")
    bought = purchased_micros(bought_nanos)
    return LimitStanding(
        limit="credits",
        cap_nanos=bought_nanos,
        spent_nanos=used_nanos,
        held_nanos=_held_nanos(at_gate),
        is_open=_has_room(bought, spent_micros(used_nanos), at_gate),
        lifts_at=None,
    )


def _has_room(allowed_micros: int | None, used_micros: int, at_gate: a.Limit | None) -> bool:
    """Whether a micro-dollar more could be held: as the gate decides, where it knows."""
    if at_gate is not None:
        allowed_micros, used_micros = at_gate.cap_micros, at_gate.spent_micros + at_gate.held_micros
    return allowed_micros is None or used_micros < allowed_micros


def _held_nanos(at_gate: a.Limit | None) -> int | None:
    return None if at_gate is None else at_gate.held_micros * NANOS_PER_MICRO


def _limit(gate: GateStatus, name: str) -> a.Limit | None:
    if not isinstance(gate, a.Status) or not gate.is_known:
        return None
    return next((one for one in gate.limits if one.name == name), None)


def _is_known(gate: GateStatus) -> bool:
    return isinstance(gate, a.Status) and gate.is_known


def _spent(connection: Connection, name: str, period: Period) -> dict[str, int]:
    rows = connection.execute(
        select(spent.c.member, spent.c.charge_nanos).where(
            spent.c.generation == live_generation(connection),
            spent.c.organization == name,
            spent.c.period_start == period.start_micros,
        )
    )
    return {row.member: row.charge_nanos for row in rows}
