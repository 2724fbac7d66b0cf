"""`Hold` and `AsyncHold`: money reserved for one call, in the hands of who makes the call."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from decimal import Decimal
from functools import partial
from types import TracebackType

import msgspec

from tollkeeper.errors import InvalidInput, Misuse
from tollkeeper.events.ids import new_event_id
from tollkeeper.gate.sdk.asks import Ask, cost_micros, priced_micros
from tollkeeper.gate.sdk.book import Kept
from tollkeeper.gate.sdk.core import Core
from tollkeeper.gate.sdk.holding import NotKnown, Stopped, extend_steps, release_steps
from tollkeeper.gate.sdk.policies import Policy, PolicyName
from tollkeeper.gate.sdk.recorder import unanswered, wait_for
from tollkeeper.gate.sdk.recording import CallRecord
from tollkeeper.gate.sdk.refused import unpriced
from tollkeeper.gate.sdk.session import Ending
from tollkeeper.gate.sdk.steps import AsyncPause, AsyncRun, Pause, Run, drive, drive_async
from tollkeeper.metering.adapters.provider import ProviderUsage
from tollkeeper.metering.usage import Usage
from tollkeeper.rating.card import Unpriced

Consumed = Usage | ProviderUsage | Sequence[Usage]
"""What a call consumed: as its provider reported it, or as usage of your own making."""


class AnyHold:
    """What holds for threads and for asyncio have in common."""

    def __init__(self, core: Core, asked: Ask, kept: Kept, policy: Policy | None) -> None:
        self._core = core
        self._asked = asked
        self._kept = kept
        self._policy = policy
        self._forks = core.session.forks
        self._is_ended = False
        self._word: Ending | None = None

    @property
    def hold_id(self) -> str | None:
        """The hold's id; None for a call that a policy let through without one."""
        return self._kept.hold_id

    @property
    def policy(self) -> PolicyName:
        """`closed` where money is held; `open` or `observe` where a policy lets the call go on without."""
        return "closed" if self._policy is None else self._policy.name

    @property
    def granted_at(self) -> int:
        """In microseconds: when the usage counts as having occurred."""
        return self._kept.granted_at

    @property
    def held_micros(self) -> int:
        """What is reserved, in micro-USD; 0 for a call that a policy let through."""
        return self._kept.held_micros

    @property
    def asked(self) -> Ask:
        """What was said of the call before it was made."""
        return self._asked

    @property
    def is_ended(self) -> bool:
        """Whether it was settled or released."""
        return self._is_ended

    @property
    def is_parents(self) -> bool:
        """Whether it is the process's that forked this one, which will end it."""
        return self._forks != self._core.session.forks

    def check_ours(self) -> None:
        """Misuse in a forked child: both processes would charge the call, the first would free the hold."""
        if self.is_parents:
            raise Misuse(
                f"the hold {self.hold_id} is of the process that forked this one: hold anew here"
            )

    def _extended_micros(
        self, max_output_tokens: int | None, max_cost_usd: str | Decimal | None
    ) -> int:
        self.check_ours()
        if max_cost_usd is not None:
            return cost_micros(max_cost_usd)
        if max_output_tokens is None:
            raise InvalidInput("max_output_tokens", "must be given, or max_cost_usd")
        asked, session = self._asked, self._core.session
        expected = msgspec.structs.replace(asked.expected, max_output_tokens=max_output_tokens)
        prices = session.published.prices
        if prices is None:
            return self.held_micros  # let through without prices
        plain = msgspec.structs.replace(asked, expected=expected, max_cost_micros=None)
        micros = priced_micros(plain, prices, self.granted_at)
        if isinstance(micros, Unpriced):
            raise unpriced(asked.organization, micros.detail)
        return micros

    def _extended(self, outcome: Kept | Stopped | NotKnown) -> None:
        """Under a policy that lets the call go on, no more is asked for."""
        self._policy = self._core.conclusions.of_extension(self._asked, outcome)

    def _end(self) -> None:
        self.check_ours()
        if self._is_ended:
            raise Misuse(f"the hold {self.hold_id} was settled or released before")
        self._is_ended = True

    def _unsettled(self, error: BaseException | None) -> Sequence[Usage] | None:
        """What is charged where the block ends without a word; None: nothing."""
        if error is None:
            return None
        core, asked = self._core, self._asked
        return CallRecord(asked, asked.expected, core.settings, core.session.counters).ending(error)

    def leave_word(self, ending: Ending) -> None:
        """Say what becomes of it where its caller abandons or loses it; without a word it is released.

        `ending` must not refer to the hold: it would keep it.
        """
        self._word = partial(_usages_by, ending, self._asked, self._kept)

    def abandon(self) -> None:
        """Leave it to the next tick to end it. Takes no lock."""
        if not self._is_ended and not self.is_parents:
            self._is_ended = True
            self._core.session.abandoned.append((self._kept, self._word))

    def __del__(self) -> None:
        # Of a half-made one there is nothing to give back; a lock might be held by this very thread.
        if not getattr(self, "_is_ended", True):
            self.abandon()


class Hold(AnyHold):
    """Money reserved for one call. End it once: `settle` with what was consumed, or `release`.

    As a context manager it is released at the end of the block unless it was ended before; after an
    error that leaves open whether the provider began to answer, `GateSettings.unanswered` decides. One
    that is lost without either is released, and counted as abandoned.
    """

    def __init__(
        self,
        core: Core,
        asked: Ask,
        kept: Kept,
        policy: Policy | None,
        *,
        run: Run,
        pause: Pause,
    ) -> None:
        super().__init__(core, asked, kept, policy)
        self._run = run
        self._pause = pause

    def extend(
        self, *, max_output_tokens: int | None = None, max_cost_usd: str | Decimal | None = None
    ) -> None:
        """Reserve so much in all, counted from the beginning. Refused: it is as before."""
        to_micros = self._extended_micros(max_output_tokens, max_cost_usd)
        if self._policy is None and to_micros > self.held_micros:
            steps = extend_steps(self._core.session, self._kept, to_micros)
            self._extended(drive(steps, self._run, self._pause))

    def release(self) -> None:
        """Free the money: the provider did not begin to answer. What can't be freed now will be."""
        self._end()
        drive(release_steps(self._core.session, self._kept), self._run, self._pause)

    def settle(self, consumed: Consumed, *, usage_source: str = "reported") -> list[str]:
        """Record what was consumed, durably; answers the event ids.

        SpoolFull and SpoolFailed: it isn't durable yet, is kept in memory, and is handed in again and
        again. InvalidUsage: it can't be recorded, and the hold is as before.
        """
        usages = _usages(self._asked, self._kept, consumed, usage_source)
        self._end()
        try:
            future = self._core.session.settle(self._kept, usages)
            wait_for(future, self._core.settings.settle_timeout_s)
        except InvalidInput:
            self._is_ended = False
            raise
        return [usage.event_id or "" for usage in usages]

    def __enter__(self) -> Hold:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._is_ended or self.is_parents:
            return
        usages = self._unsettled(error)
        if usages is None:
            self.release()
        else:
            self.settle(usages)


class AsyncHold(AnyHold):
    """The same, awaited. Cancelled while it ends, it is ended all the same."""

    def __init__(
        self,
        core: Core,
        asked: Ask,
        kept: Kept,
        policy: Policy | None,
        *,
        run: AsyncRun,
        pause: AsyncPause,
    ) -> None:
        super().__init__(core, asked, kept, policy)
        self._run = run
        self._pause = pause

    async def extend(
        self, *, max_output_tokens: int | None = None, max_cost_usd: str | Decimal | None = None
    ) -> None:
        """Reserve so much in all, counted from the beginning. Refused: it is as before."""
        to_micros = self._extended_micros(max_output_tokens, max_cost_usd)
        if self._policy is None and to_micros > self.held_micros:
            steps = extend_steps(self._core.session, self._kept, to_micros)
            self._extended(await drive_async(steps, self._run, self._pause))

    async def release(self) -> None:
        """Free the money: the provider did not begin to answer. What can't be freed now will be."""
        self._end()
        await drive_async(release_steps(self._core.session, self._kept), self._run, self._pause)

    async def settle(self, consumed: Consumed, *, usage_source: str = "reported") -> list[str]:
        """Record what was consumed, durably; answers the event ids. Errors as of `Hold.settle`."""
        usages = _usages(self._asked, self._kept, consumed, usage_source)
        self._end()
        try:
            future = self._core.session.settle(self._kept, usages)
            # Shielded: a cancelled task must not withdraw what it has handed in.
            async with asyncio.timeout(self._core.settings.settle_timeout_s):
                await asyncio.shield(asyncio.wrap_future(future))
        except TimeoutError:
            raise unanswered(self._core.settings.settle_timeout_s) from None
        except InvalidInput:
            self._is_ended = False
            raise
        return [usage.event_id or "" for usage in usages]

    async def __aenter__(self) -> AsyncHold:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._is_ended or self.is_parents:
            return
        usages = self._unsettled(error)
        if usages is None:
            await self.release()
        else:
            await self.settle(usages)


def _usages(asked: Ask, kept: Kept, consumed: Consumed, usage_source: str) -> list[Usage]:
    """What is emitted, with ids of its own, so that it can be emitted again.

    The hold's id stands on the last part alone: folded in order, it frees the money when all is counted.
    """
    if isinstance(consumed, ProviderUsage):
        usages: Sequence[Usage] = consumed.as_usages(
            organization=asked.organization,
            member=asked.member,
            surface=asked.surface,
            event_id=new_event_id(),
            usage_source=usage_source,
        )
    else:
        usages = (consumed,) if isinstance(consumed, Usage) else consumed
    if not usages:
        raise InvalidInput("usage", "must be at least one: release the hold where there is none")
    for usage in usages:
        if usage.organization != asked.organization:
            raise InvalidInput("organization", f"must be that of the hold, {asked.organization}")
    last = len(usages) - 1
    return [
        msgspec.structs.replace(
            usage,
            event_id=usage.event_id or new_event_id(),
            hold_id=kept.hold_id if place == last else None,
            occurred_at=kept.granted_at,
        )
        for place, usage in enumerate(usages)
    ]


def _usages_by(
    ending: Ending, asked: Ask, kept: Kept, invalid: InvalidInput | None
) -> Sequence[Usage] | None:
    usages = ending(invalid)
    return None if usages is None else _usages(asked, kept, usages, "reported")
