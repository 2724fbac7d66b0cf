"""`FakeGate` and `AsyncFakeGate`: the real SDK on functions and a spool in memory."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from decimal import Decimal
from functools import cache
from typing import TypeVar

from tollkeeper.events.gate import GateEvent
from tollkeeper.events.prices import PriceRow, PricesPublished
from tollkeeper.events.usage import UsageRecorded
from tollkeeper.gate.amounts import cap_micros, purchased_micros, spent_micros
from tollkeeper.gate.encoding import Call
from tollkeeper.gate.sdk.aio import AsyncGate
from tollkeeper.gate.sdk.core import Core
from tollkeeper.gate.sdk.gate import Gate
from tollkeeper.gate.sdk.policies import PolicyName
from tollkeeper.gate.sdk.settings import GateSettings
from tollkeeper.metering.usage import Prepared, Usage, recorded
from tollkeeper.money.amounts import usd_to_nanos
from tollkeeper.money.instants import MICROS_PER_DAY
from tollkeeper.rating.card import RateCard, Rated
from tollkeeper.rating.files import built_in_proposals
from tollkeeper.testing.fake_functions import FakeFunctions
from tollkeeper.testing.fake_spool import EMITTER, FakeSpool

A = TypeVar("A")
NOON = 1_794_744_000_000_000  # 2026-11-15T12:00:00Z, the middle of a period
Usd = str | Decimal | None


class FakeWorld:
    """What both fakes are made on: limits in USD for every organization, None is unlimited.

    Time stands still but for what is waited, and nothing waits in earnest. A usage is charged at once,
    by the built-in list prices and `prices`.
    """

    def __init__(
        self,
        *,
        cap_usd: Usd = None,
        member_cap_usd: Usd = None,
        credits_usd: Usd = None,
        members: Iterable[str] | None = None,
        prices: Iterable[PriceRow] = (),
        policy: PolicyName = "closed",
        ceiling_usd: Usd = None,
        now: int = NOON,
    ) -> None:
        publications = _publications(tuple(prices), now)
        self.card = _card(publications)
        self.functions = FakeFunctions(now=now, prices=publications)
        self.functions.members = None if members is None else set(members)
        self.functions.caps = {"organization": _cap(cap_usd), "member": _cap(member_cap_usd)}
        self.functions.credits = None if credits_usd is None else _credits(credits_usd)
        if policy != "closed":
            self.functions.policies = [f"*,{policy},{_cap(ceiling_usd) or 0},-"]
        self.spool = FakeSpool(now=lambda: self.functions.now, on_usage=self._charge)

    def wait(self, seconds: float) -> None:
        """Let so much time pass."""
        self.functions.now += round(seconds * 1_000_000)

    def monotonic(self) -> float:
        """Seconds."""
        return self.functions.now / 1_000_000

    def clock(self) -> int:
        """Microseconds since 1970."""
        return self.functions.now

    def _charge(self, usage: Usage) -> None:
        occurred_at = usage.occurred_at if isinstance(usage.occurred_at, int) else self.clock()
        event: UsageRecorded = recorded(
            Prepared(usage, usage.event_id or "", occurred_at), emitter=EMITTER, sequence=1
        )
        rated = self.card.rate(event)
        micros = spent_micros(rated.charge_nanos) if isinstance(rated, Rated) else 0
        organization = usage.organization
        scopes = (f"organization/{organization}", f"member/{organization}/{usage.member}")
        self.functions.settle(
            *(usage.hold_id, scopes, micros),
            organization=organization,
            occurred_at=occurred_at,
        )


class Looked:
    """What a test looks at."""

    def __init__(self, world: FakeWorld, core: Core) -> None:
        self.world = world
        self._its_core = core
        core.tick()

    @property
    def usages(self) -> list[Usage]:
        """What was recorded up to now, in order; of calls that were left midway, too."""
        self._its_core.tick()
        return self.world.spool.usages

    @property
    def facts(self) -> list[GateEvent]:
        """Refusals and admitted calls that were reported, up to now."""
        self._its_core.tick()
        return self.world.spool.facts

    @property
    def reserved_micros(self) -> int:
        """What all open holds reserve, in micro-USD."""
        return sum(one.held_micros for one in self.world.functions.open.values())


class FakeGate(Gate, Looked):
    """A `Gate` for tests: with some limits, or with a world of which more can be said."""

    def __init__(
        self,
        world: FakeWorld | None = None,
        *,
        cap_usd: Usd = None,
        member_cap_usd: Usd = None,
        credits_usd: Usd = None,
        settings: GateSettings | None = None,
    ) -> None:
        world = world or FakeWorld(
            cap_usd=cap_usd, member_cap_usd=member_cap_usd, credits_usd=credits_usd
        )
        Gate.__init__(
            self,
            *(world.spool, world.functions),
            settings=settings,
            clock=world.clock,
            monotonic=world.monotonic,
            pause=self._pass_by,
            has_thread=False,
        )
        Looked.__init__(self, world, self.core)

    def _pass_by(self, seconds: float) -> None:
        self.world.wait(seconds)
        self.core.tick()


class AsyncFakeGate(AsyncGate, Looked):
    """An `AsyncGate` for tests; the same on an event loop."""

    def __init__(
        self,
        world: FakeWorld | None = None,
        *,
        cap_usd: Usd = None,
        member_cap_usd: Usd = None,
        credits_usd: Usd = None,
        settings: GateSettings | None = None,
    ) -> None:
        world = world or FakeWorld(
            cap_usd=cap_usd, member_cap_usd=member_cap_usd, credits_usd=credits_usd
        )
        AsyncGate.__init__(
            self,
            *(world.spool, world.functions, _Awaited(world.functions)),
            settings=settings,
            clock=world.clock,
            monotonic=world.monotonic,
            pause=self._pass_by,
            has_thread=False,
        )
        Looked.__init__(self, world, self.core)

    async def _pass_by(self, seconds: float) -> None:
        self.world.wait(seconds)
        self.core.tick()
        await asyncio.sleep(0)


class _Awaited:
    """The functions, asked by a task: others run before they do, and before their answer arrives."""

    def __init__(self, functions: FakeFunctions) -> None:
        self._functions = functions

    def follow(self, library: str) -> bool:
        return True

    def reconnect(self) -> None:
        self._functions.reconnect()

    async def run(self, call: Call[A]) -> A:
        await asyncio.sleep(0)
        answer = self._functions.run(call)
        await asyncio.sleep(0)
        return answer

    async def close(self) -> None:
        await asyncio.sleep(0)


def _publications(prices: tuple[PriceRow, ...], now: int) -> tuple[PricesPublished, ...]:
    if not prices:
        return _built_in()
    return (*_built_in(), _published("fake", now - MICROS_PER_DAY, prices))


@cache
def _built_in() -> tuple[PricesPublished, ...]:
    proposals = built_in_proposals()
    return tuple(
        _published(one.publication_id, one.effective_from, one.prices) for one in proposals
    )


def _published(name: str, effective_from: int, rows: tuple[PriceRow, ...]) -> PricesPublished:
    return PricesPublished(
        publication_id=name,
        effective_from=effective_from,
        source="test",
        source_date="2026-11-15",
        prices=rows,
        command_id=f"cmd-{name}",
        actor="operator",
        occurred_at=effective_from,
    )


@cache
def _card(publications: tuple[PricesPublished, ...]) -> RateCard:
    return RateCard(publications)


def _cap(usd: Usd) -> int | None:
    return None if usd is None else cap_micros(usd_to_nanos(f"{usd}"))


def _credits(usd: str | Decimal) -> int:
    return purchased_micros(usd_to_nanos(f"{usd}"))
