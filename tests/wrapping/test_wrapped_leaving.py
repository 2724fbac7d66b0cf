"""Call sites that leave a call midway, lose it or are cancelled: it is charged by what was seen."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Coroutine, Generator
from contextlib import suppress
from typing import Any

import pytest
import wrapping.ways_async
import wrapping.ways_sync  # noqa: F401 - both register their ways
from providers.stand_in import NEVER_ANSWERED, Ending, StandIn
from wrapping.calling import AnyFake, Caller
from wrapping.ways import FAMILIES, delta_of, of, resource_of

every_family = pytest.mark.parametrize("family", FAMILIES)


def caller_for(family: str, api: StandIn, *, is_async: bool = False, **options: Any) -> Caller:
    """A caller of this family; how it calls is each test's own."""
    return Caller(of(family=family, is_async=is_async)[0], api, **options)


def assert_left(gate: AnyFake, *, least: int, most: int) -> None:
    """One usage, of what was seen: perhaps more than the call site took. And nothing in flight."""
    [usage] = gate.usages
    assert usage.usage_source == "estimated" and usage.hold_id is not None
    assert least <= usage.output_tokens <= most
    assert_quiet(gate)


def assert_quiet(gate: AnyFake) -> None:
    """Nothing is in flight, and nothing was forgotten by its caller."""
    gate.core.tick()
    stats = gate.stats()
    assert (stats.open_holds, stats.owed_usages, stats.owed_releases) == (0, 0, 0)
    assert stats.abandoned == 0 and gate.reserved_micros == 0


@every_family
@pytest.mark.parametrize("how", ["with", "close", "break", "streaming_response", "unread"])
def test_a_stream_that_is_left_early(family: str, how: str, api: StandIn) -> None:
    def read(client: Any) -> None:
        resource, asked = resource_of(family, client)
        if how == "streaming_response":
            with resource.with_streaming_response.create(**asked, stream=True) as raw:
                next(raw.iter_bytes())
            return
        stream = resource.create(**asked, stream=True)
        if how == "with":
            with stream as events:
                _until_text(events)
        elif how != "unread":
            _until_text(stream)
            if how == "close":
                stream.close()

    caller = caller_for(family, api)
    gate = caller.fake()
    api.will(caller.answers(caller.unfinished(ending=Ending.SILENT)))
    caller.call(gate, read)
    gc.collect()
    assert_left(gate, least=0 if how in ("unread", "streaming_response") else 1, most=3)


@every_family
@pytest.mark.parametrize("how", ["with", "close", "streaming_response"])
def test_a_stream_that_a_task_leaves_early(family: str, how: str, api: StandIn) -> None:
    async def read(client: Any) -> None:
        resource, asked = resource_of(family, client)
        if how == "streaming_response":
            async with resource.with_streaming_response.create(**asked, stream=True) as raw:
                await anext(raw.iter_bytes())
            return
        stream = await resource.create(**asked, stream=True)
        if how == "with":
            async with stream as events:
                await _until_text_async(events)
        else:
            await _until_text_async(stream)
            await stream.close()

    caller = caller_for(family, api, is_async=True)
    gate = caller.fake()
    api.will(caller.answers(caller.unfinished(ending=Ending.SILENT)))
    caller.call(gate, read)
    assert_left(gate, least=0 if how == "streaming_response" else 1, most=3)


@every_family
def test_a_stream_that_a_task_loses(family: str, api: StandIn) -> None:
    async def read(client: Any) -> None:
        resource, asked = resource_of(family, client)
        stream = await resource.create(**asked, stream=True)
        await _until_text_async(stream)
        del stream
        gc.collect()
        await asyncio.sleep(0)  # the loop closes what was lost, in a task of its own

    caller = caller_for(family, api, is_async=True)
    gate = caller.fake()
    api.will(caller.answers(caller.unfinished(ending=Ending.SILENT)))
    caller.call(gate, read)
    gc.collect()
    assert_left(gate, least=1, most=3)


@every_family
def test_a_task_that_is_cancelled_while_it_waits_for_the_answer(family: str, api: StandIn) -> None:
    async def read(client: Any) -> None:
        resource, asked = resource_of(family, client)
        task = asyncio.create_task(resource.create(**asked))
        await asyncio.to_thread(api.silent.acquire)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    caller = caller_for(family, api, is_async=True)
    gate = caller.fake()
    api.will(NEVER_ANSWERED)
    caller.call(gate, read)
    assert_left(gate, least=0, most=0)


@every_family
def test_a_task_that_is_cancelled_midway_in_its_stream(family: str, api: StandIn) -> None:
    async def take(resource: Any, asked: dict[str, Any]) -> None:
        async for _event in await resource.create(**asked, stream=True):
            pass

    async def read(client: Any) -> None:
        task = asyncio.create_task(take(*resource_of(family, client)))
        await asyncio.to_thread(api.silent.acquire)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    caller = caller_for(family, api, is_async=True)
    gate = caller.fake()
    api.will(caller.answers(caller.unfinished(ending=Ending.SILENT)))
    caller.call(gate, read)
    assert_left(gate, least=0, most=3)


class CancelledAt:
    """Awaits a coroutine, and cancels it when it goes on after so many awaits."""

    def __init__(self, coroutine: Coroutine[Any, Any, Any], awaits: int) -> None:
        self._coroutine = coroutine
        self._awaits = awaits
        self.was_cancelled = False

    def __await__(self) -> Generator[Any, None, Any]:
        steps = self._coroutine.__await__()
        thrown: BaseException | None = None
        for number in range(10_000):
            if number == self._awaits:
                thrown = asyncio.CancelledError()
                self.was_cancelled = True
            try:
                awaited = next(steps) if thrown is None else steps.throw(thrown)
            except StopIteration as ended:
                return ended.value
            thrown = None
            try:
                yield awaited
            except BaseException as error:  # noqa: BLE001 - a scope within cancels its own task
                thrown = error
        raise AssertionError("it never ends")


@every_family
@pytest.mark.parametrize("is_stream", [False, True])
def test_a_task_that_is_cancelled_at_any_await(family: str, is_stream: bool, api: StandIn) -> None:
    """No hold stays, and what reached the provider is charged, once."""

    async def take(client: Any) -> None:
        resource, asked = resource_of(family, client)
        answer = await resource.create(**asked, stream=is_stream)
        if is_stream:
            async with answer as events:
                async for _event in events:
                    pass

    async def read(client: Any) -> None:
        for awaits in range(1, 1_000):
            api.will(caller.answers())
            charged_before = len(gate.usages)
            cancelled = CancelledAt(take(client), awaits)
            with suppress(asyncio.CancelledError):
                await cancelled
            assert_quiet(gate)
            assert len(gate.usages) - charged_before <= 1
            if not cancelled.was_cancelled:
                return
        raise AssertionError("the call never came to its end")

    caller = caller_for(family, api, is_async=True)
    gate = caller.fake()
    caller.call(gate, read)
    assert 1 <= len(api.asked) <= len(gate.usages)
    assert gate.usages[-1].usage_source == "reported"


def _until_text(events: Any) -> None:
    for event in events:
        if delta_of(event):
            return
    raise AssertionError("no text came")


async def _until_text_async(events: Any) -> None:
    async for event in events:
        if delta_of(event):
            return
    raise AssertionError("no text came")
