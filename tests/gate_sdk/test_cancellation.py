"""A task may be cancelled wherever it waits: no hold is lost track of, and no usage either.

Each story is told once to count its waits, and then again for each of them, cancelled there.
"""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Sequence
from concurrent.futures import Future
from typing import Any

import pytest
from gate_sdk.cancelling import cancelled_at

from tollkeeper.gate.sdk import Refused, metered
from tollkeeper.metering.usage import Usage
from tollkeeper.testing import AsyncFakeGate, FakeSpool, FakeWorld

CALL: dict[str, Any] = {
    "organization": "acme",
    "member": "ann",
    "surface": "web",
    "model": "claude-sonnet-5",
    "input_tokens": 1_000,
    "max_output_tokens": 100,
}
ANSWER = {
    "type": "message",
    "id": "msg_1",
    "model": "claude-sonnet-5",
    "usage": {"input_tokens": 900, "output_tokens": 50},
}
START = {
    "type": "message_start",
    "message": ANSWER | {"usage": {"input_tokens": 9, "output_tokens": 1}},
}
DELTA = {"type": "content_block_delta", "delta": {"type": "text_delta", "text": "abcdef"}}
END = {"type": "message_delta", "usage": {"output_tokens": 50}}


class SlowSpool(FakeSpool):
    """Confirms a little later, as a disk does."""

    def hand_in(self, usages: Sequence[Usage]) -> Future[None]:
        later: Future[None] = Future()

        def confirm() -> None:
            if later.set_running_or_notify_cancel():
                FakeSpool.hand_in(self, usages)
                later.set_result(None)

        loop = asyncio.get_running_loop()
        loop.call_soon(loop.call_soon, confirm)
        return later


class Told:
    """One telling of a story: its gate, and what the provider saw."""

    def __init__(self) -> None:
        world = FakeWorld(cap_usd="1")
        slow = SlowSpool(now=world.clock, on_usage=world._charge)
        world.spool = slow
        self.gate = AsyncFakeGate(world)
        self.provider_began = False
        self.was_reported = False

    async def create(self) -> dict[str, Any]:
        """The provider's call."""
        self.provider_began = True
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        return ANSWER

    async def events(self) -> AsyncIterator[dict[str, Any]]:
        """The provider's stream."""
        self.provider_began = True
        for event in (START, *[DELTA] * 5, END):
            await asyncio.sleep(0)
            yield event


async def a_hold_and_its_release(told: Told) -> None:
    hold = await told.gate.hold(**CALL)
    await hold.release()


async def a_hold_that_is_extended_and_settled(told: Told) -> None:
    async with await told.gate.hold(**CALL) as hold:
        await hold.extend(max_output_tokens=200)
        told.provider_began = True
        told.was_reported = True
        await hold.settle(
            Usage(organization="acme", member="ann", surface="web", model="m", input_tokens=1)
        )


async def a_metered_answer(told: Told) -> None:
    async with metered(told.gate, **CALL) as call:
        answer = await told.create()
        call.response(answer)
        told.was_reported = True


async def a_metered_stream(told: Told) -> None:
    async with metered(told.gate, **CALL) as call:
        async for _ in call.stream(told.events()):
            told.was_reported = True


async def a_metered_stream_in_slices(told: Told) -> None:
    async with metered(told.gate, slice_tokens=3, **CALL) as call:
        async for _ in call.stream(told.events()):
            told.was_reported = True


async def a_call_that_makes_no_connection(told: Told) -> None:
    try:
        async with metered(told.gate, **CALL):
            await asyncio.sleep(0)
            raise ConnectionRefusedError("nobody is there")
    except ConnectionRefusedError:
        return


async def a_hold_of_an_organization_that_is_refused(told: Told) -> None:
    try:
        await told.gate.hold(**CALL | {"max_cost_usd": "2"})
    except Refused:
        return


@pytest.fixture(autouse=True)
def nothing_old_is_collected() -> Iterator[None]:
    """What this process has loaded so far would be looked through after each telling."""
    gc.freeze()
    yield
    gc.unfreeze()


STORIES = [
    a_hold_and_its_release,
    a_hold_that_is_extended_and_settled,
    a_metered_answer,
    a_metered_stream,
    a_metered_stream_in_slices,
    a_call_that_makes_no_connection,
    a_hold_of_an_organization_that_is_refused,
]


UNCERTAIN = (a_hold_that_is_extended_and_settled, a_call_that_makes_no_connection)
"""Cancelled in their block, nobody knows whether the provider began."""


def tell(story: Callable[[Told], Coroutine[Any, Any, None]], at: int | None) -> tuple[Told, int]:
    """Told once, cancelled at one of its waits; then what the upkeep does afterwards."""

    async def telling() -> tuple[Told, int]:
        told = Told()
        waits = await cancelled_at(lambda: story(told), at)
        for _ in range(5):
            await asyncio.sleep(0)  # the disk confirms
        gc.collect()
        told.gate.core.tick()
        return told, waits.count

    return asyncio.run(telling())


@pytest.mark.parametrize("story", STORIES, ids=lambda one: one.__name__)
def test_cancelled_anywhere_no_hold_is_lost(
    story: Callable[[Told], Coroutine[Any, Any, None]],
) -> None:
    _, waits = tell(story, None)
    assert waits >= 4
    for at in range(waits):
        told, _ = tell(story, at)
        where = f"cancelled at wait {at} of {waits}"
        assert told.gate.world.functions.open == {}, where
        assert len(told.gate.core.session.book) == 0, where
        held = [usage.hold_id for usage in told.gate.usages]
        assert len(set(held)) <= 1, where
        if told.was_reported or (told.provider_began and story is not a_hold_and_its_release):
            assert held, f"{where}: the provider will charge for it"
        if not told.provider_began and story not in UNCERTAIN:
            assert not held, where


def test_the_stories_cross_every_place_where_the_sdk_waits() -> None:
    """A hold waits twice at the least, for its note and for its answer; a settlement once."""
    for story in STORIES:
        told, _ = tell(story, None)
        assert {"note", "hold"} <= set(told.gate.world.functions.calls)


def test_usage_that_was_handed_in_is_recorded_although_its_task_is_cancelled() -> None:
    """Without waiting for the next round, in which this process may not live any more."""

    async def telling() -> Told:
        told = Told()
        call = asyncio.create_task(a_metered_answer(told))
        while not told.was_reported:
            await asyncio.sleep(0)
        while told.gate.stats().owed_usages == 0:
            await asyncio.sleep(0)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        for _ in range(5):
            await asyncio.sleep(0)  # the disk confirms
        return told

    told = asyncio.run(telling())
    assert len(told.gate.usages) == 1
    assert told.gate.stats().usage_not_accepted == 0
