"""What is really so, kept beside the code under test, and what must never be seen otherwise.

The promise of ENFORCEMENT.md, checked at every grant: what held calls have cost within their holds, and
what open holds may still cost, fits under the cap and the credits that the gate had when it granted.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping

import msgspec
from simulation.servers import Grant, Server

from tollkeeper.events.codec import Event
from tollkeeper.events.emitters import EmitterRetired
from tollkeeper.events.usage import UsageRecorded
from tollkeeper.gate.answers import Copy
from tollkeeper.money.periods import period_at

State = Mapping[str, str]


class Violation(AssertionError):
    """An invariant doesn't hold."""


class HeldCall(msgspec.Struct):
    """A call that an SDK took for granted."""

    hold_id: str
    organization: str
    member: str
    emitter: str
    granted_at: int
    held_micros: int
    grant: Grant
    cost_micros: int | None = None
    """What it consumed; None while it is open."""
    is_lost: bool = False
    """Its process died before it said what was consumed: nothing was."""
    is_logged: bool = False
    """Its usage stands on the log."""
    is_outside: bool = False
    """Its emitter was retired while it had this to report: outside the promise."""

    @property
    def exposure_micros(self) -> int:
        """What it takes of a cap; only what is within the hold is promised."""
        if self.is_lost or self.is_outside:
            return 0
        return (
            self.held_micros
            if self.cost_micros is None
            else min(self.cost_micros, self.held_micros)
        )


class Totals(msgspec.Struct):
    """An organization in SQL after one record; micro-USD as Redis has them, by Redis' field names."""

    fields: dict[str, str]


class Truth:
    """All calls, and the history of SQL's totals."""

    def __init__(self) -> None:
        self.calls: dict[str, HeldCall] = {}
        self.retired: set[str] = set()
        """Emitters whose retirement stands on the log."""
        self.history: dict[str, dict[int, Totals]] = defaultdict(dict)
        self.reported: dict[tuple[str, str], int] = {}
        """What was given to a spool: (organization, event id) and what it costs."""
        self.accepted: set[tuple[str, str]] = set()
        """Those of which a spool said that they are durable."""
        self.quarantined: set[tuple[str, str]] = set()
        """Those without a price: they become dead letters, and cost nothing yet."""

    def cost_of(self, organization: str, member: str | None) -> int:
        """What calls have cost so far, of all members or one, in any period."""
        return sum(
            one.cost_micros or 0
            for one in self.calls.values()
            if one.organization == organization and member in (None, one.member)
        )

    def logged(self, event: Event) -> None:
        """It stands on the log."""
        if isinstance(event, UsageRecorded) and event.hold_id in self.calls:
            self.calls[event.hold_id].is_logged = True
        if isinstance(event, EmitterRetired):
            self.retired.add(event.emitter)
            for call in self.calls.values():
                if call.emitter == event.emitter and not call.is_logged:
                    call.is_outside = True

    def granted(self, call: HeldCall, *, now: int) -> None:
        """An SDK accepted this grant, perhaps after others that were made later; `now` by a right clock."""
        self.calls[call.hold_id] = call
        call.is_outside = call.emitter in self.retired
        if now >= call.grant.lease_until - call.grant.server.skew_micros:
            raise Violation(f"{call.hold_id} was taken after its lease")
        for one in self.calls.values():
            if one.grant.number >= call.grant.number and one.organization == call.organization:
                self._check_promise(one)

    def _check_promise(self, call: HeldCall) -> None:
        """Whether all that was granted up to it fits."""
        state, period = call.grant.state, period_at(call.granted_at)
        counted = [
            one
            for one in self.calls.values()
            if one.organization == call.organization and one.grant.number <= call.grant.number
        ]
        in_period = [one for one in counted if period_at(one.granted_at) == period]
        of_member = [one for one in in_period if one.member == call.member]
        name = call.organization
        _check("organization", call, _exposure(in_period), cap_of(state, "organization", name))
        _check("member", call, _exposure(of_member), cap_of(state, "member", call.member))
        if state["funding"] == "prepaid":
            _check("credits", call, _exposure(counted), int(state["purchased"]))

    def check_copy(self, server: Server, name: str, copy: Copy | None) -> None:
        """Redis at offset x equals SQL at offset x, or the organization is unknown."""
        if copy is None or not copy.is_known:
            return
        totals = self.history[name].get(copy.offset)
        if totals is None:
            raise Violation(
                f"server {server.number} has {name} at {copy.offset}, where SQL never was"
            )
        _compare(server, name, copy, totals)


def cap_of(state: State, level: str, name: str) -> int | None:
    """The cap in force at the gate in micro-USD; None is unlimited."""
    own = state.get(f"cap {level}/{name}") or state[f"cap {level}"]
    return None if own == "unlimited" else int(own)


def _exposure(calls: Iterable[HeldCall]) -> int:
    return sum(one.exposure_micros for one in calls)


def _check(limit: str, call: HeldCall, exposure: int, cap: int | None) -> None:
    if cap is not None and exposure > cap:
        raise Violation(f"{call.hold_id} takes the {limit} to {exposure}, above {cap}")


def _compare(server: Server, name: str, copy: Copy, totals: Totals) -> None:
    bounds = [int(one) for one in copy.fields["bounds"].split()]
    expected = {
        field: value
        for field, value in totals.fields.items()
        if not field.startswith("spent ") or bounds[0] <= int(field.split()[1]) < bounds[-1]
    }
    prefixes = ("spent ", "cap ", "member ", "used", "purchased")
    seen = {
        field: value
        for field, value in copy.fields.items()
        if field.startswith(prefixes) and not (field.startswith("spent ") and value == "0")
    }
    if seen != expected:
        differing = sorted(set(seen.items()) ^ set(expected.items()))
        raise Violation(
            f"server {server.number} has {name} at {copy.offset} otherwise than SQL: {differing}"
        )
