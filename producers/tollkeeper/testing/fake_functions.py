"""The gate's functions in memory, for one emitter in one epoch: caps, credits and open holds, no more.

It answers as the real ones do, so that the real SDK runs on top of it. Not a model of the protocol: what
happens in failover, recovery and folding is only in the real functions.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from typing import Any, TypeVar

import msgspec

from tollkeeper.errors import GateUnavailable, TollkeeperError
from tollkeeper.events.codec import encode
from tollkeeper.events.prices import PricesPublished
from tollkeeper.gate import answers as a
from tollkeeper.gate.encoding import Call
from tollkeeper.gate.keys import SINGLE
from tollkeeper.money.periods import period_at

A = TypeVar("A")
LEASE_MICROS = 2_000_000
EPOCH = 1


class OpenHold(msgspec.Struct):
    """Money reserved, in micro-USD."""

    organization: str
    member: str
    granted_at: int
    held_micros: int


class FakeFunctions:
    """Every organization is the same: `caps` and `credits` in micro-USD, None is unlimited.

    `members` None: everybody is one. `is_away`: nothing answers. `policies` are the published words,
    as `*,open,5000000,-`.
    """

    def __init__(self, *, now: int, prices: Sequence[PricesPublished] = ()) -> None:
        self.now = now
        self.caps: dict[str, int | None] = {"organization": None, "member": None}
        self.credits: int | None = None
        self.members: set[str] | None = None
        self.policies: list[str] = []
        self.is_away = False
        self.is_recovering = False
        self.open: dict[str, OpenHold] = {}
        self.spent: dict[str, int] = {}
        """By scope, `organization/…` and `member/ORGANIZATION/…`, of the period of now."""
        self.credits_used: dict[str, int] = {}
        """By organization, of all periods."""
        self._period = period_at(now)
        self.calls: list[str] = []
        """The names of all functions that were called."""
        self._prices = [base64.b64encode(encode(one)).decode() for one in prices]

    def tags(self) -> tuple[str, ...]:
        """There is one primary."""
        return (SINGLE,)

    def tag_of(self, organization: str) -> str:
        """It has all organizations."""
        return SINGLE

    def follow(self, library: str) -> bool:
        """There is one version."""
        return True

    def run(self, call: Call[A]) -> A:
        """The answer. GateUnavailable while it is away."""
        if self.is_away:
            raise GateUnavailable("the fake gate is away")
        self.calls.append(call.function)
        # By name, as in Redis; the type of the answer is the call's.
        answer: A = getattr(self, f"_{call.function}")(*call.arguments)
        return answer

    def run_many(self, calls: Sequence[Call[Any]]) -> list[Any | TollkeeperError]:
        """Each call's answer or error."""
        return [self._settled(call) for call in calls]

    def reconnect(self) -> None:
        """There is no other one."""

    def close(self) -> None:
        """Nothing is open."""

    def settle(
        self,
        hold_id: str | None,
        scopes: tuple[str, str],
        charge_micros: int,
        *,
        organization: str,
        occurred_at: int,
    ) -> None:
        """The charge is counted, in its own period, and its hold ends, as when its usage is folded."""
        self._roll_over()
        used = self.credits_used.get(organization, 0)
        self.credits_used[organization] = used + charge_micros
        for scope in scopes:
            if period_at(occurred_at) == self._period:
                self.spent[scope] = self.spent.get(scope, 0) + charge_micros
        if hold_id is not None:
            self.open.pop(hold_id, None)

    def _roll_over(self) -> None:
        """In another period nothing is spent of the caps."""
        if (period := period_at(self.now)) != self._period:
            self._period, self.spent = period, {}

    def _settled(self, call: Call[Any]) -> Any | TollkeeperError:
        try:
            return self.run(call)
        except TollkeeperError as error:
            return error

    def _touch(self, _emitter: str) -> a.Touched:
        phase = "recovering" if self.is_recovering else "open"
        return a.Touched(
            *(EPOCH, phase, "fake", "run", "replication", self.now + LEASE_MICROS, self.now),
            *("started", 1, len(self.policies) and 1),
        )

    def _published(self, kind: str) -> a.Published:
        return a.Published(1, tuple(self._prices if kind == "prices" else self.policies))

    def _note(self, *_: object) -> a.Done:
        return a.Done("noted")

    def _answer(self, *_: object) -> a.Done:
        return a.Done("answered")

    def _reassert(self, _prefix: str, _epoch: int, _emitter: str, count: int, *_: object) -> Any:
        return a.Reasserted(count)

    def _hold(
        self, _prefix: str, _epoch: int, _emitter: str, hold_id: str, micros: int, member: str,
        *_: object,
    ) -> a.HoldAnswer:  # fmt: skip
        organization = hold_id.partition("/")[0]
        if hold_id not in self.open:
            if against := self._against(organization, member, micros):
                return a.Refused(self.now, period_at(self.now).end_micros, against)
            self.open[hold_id] = OpenHold(organization, member, self.now, micros)
        return self._granted(self.open[hold_id])

    def _extend(self, _prefix: str, _epoch: int, hold_id: str, micros: int) -> a.HoldAnswer:
        one = self.open.get(hold_id)
        if one is None:
            return a.HoldIdRefused("absent")
        more = micros - one.held_micros
        if more > 0:
            if against := self._against(one.organization, one.member, more):
                return a.Refused(self.now, period_at(self.now).end_micros, against)
            one.held_micros = micros
        return self._granted(one)

    def _release(self, _prefix: str, _epoch: int, hold_id: str) -> a.Released:
        one = self.open.pop(hold_id, None)
        return a.Released(one.held_micros if one else 0)

    def _granted(self, one: OpenHold) -> a.Granted:
        return a.Granted(one.granted_at, one.held_micros, self.now, self.now + LEASE_MICROS)

    def _against(self, organization: str, member: str, micros: int) -> tuple[a.Against, ...]:
        self._roll_over()
        found = []
        if self.members is not None and member not in self.members:
            found.append(a.Against("member", f"member/{member}", None, None, None))
        limits = (
            ("organization_cap", f"organization/{organization}", self.caps["organization"], ""),
            ("member_cap", f"member/{member}", self.caps["member"], member),
            ("credits", f"organization/{organization}", self.credits, ""),
        )
        for name, scope, cap, who in limits:
            key = f"member/{organization}/{who}" if who else f"organization/{organization}"
            is_credits = name == "credits"
            spent = (self.credits_used if is_credits else self.spent).get(
                organization if is_credits else key, 0
            )
            held = sum(
                one.held_micros
                for one in self.open.values()
                if one.organization == organization
                and who in ("", one.member)
                and (is_credits or period_at(one.granted_at) == self._period)
            )
            if cap is not None and micros > cap - spent - held:
                found.append(a.Against(name, scope, cap, spent, held))
        return tuple(found)
