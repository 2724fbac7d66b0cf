"""Many calls in one go, and the functions in asyncio: the same answers as one by one in a thread."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import msgspec
import pytest
from gate.servers import replaced, told_the_time
from gate.world import World
from services.finding import Service
from services.kafka_local import free_port

from tollkeeper.errors import BrokenInvariant, GateUnavailable, InvalidInput, TollkeeperError
from tollkeeper.gate import answers as a
from tollkeeper.gate import encoding
from tollkeeper.gate.asking import AT_ONCE
from tollkeeper.gate.async_functions import AsyncGateFunctions, connect_async
from tollkeeper.gate.commands import Request
from tollkeeper.gate.encoding import Call
from tollkeeper.gate.functions import GateFunctions, connect
from tollkeeper.gate.library import lua_source


class InAsyncio:
    """The asynchronous functions, asked as the others are, each time in a loop of its own."""

    def __init__(self, world: World) -> None:
        self._address, self._library = world.server.address, world.server.library

    def run_many(self, calls: list[Call[a.HoldAnswer]]) -> list[a.HoldAnswer | TollkeeperError]:
        async def ask() -> list[a.HoldAnswer | TollkeeperError]:
            gate = AsyncGateFunctions(connect_async(self._address), self._library)
            try:
                return await gate.run_many(calls)
            finally:
                await gate.close()

        return asyncio.run(ask())

    def run(self, call: Call[a.HoldAnswer]) -> a.HoldAnswer:
        async def ask() -> a.HoldAnswer:
            gate = AsyncGateFunctions(connect_async(self._address), self._library)
            try:
                return await gate.run(call)
            finally:
                await gate.close()

        return asyncio.run(ask())


@pytest.fixture
def world(valkey: Service) -> Iterator[World]:
    with told_the_time(valkey.address) as server:
        yield World(server).warmed(caps={"organization": 2_000, "member": 2_000})


@pytest.fixture(params=["in threads", "in asyncio"])
def gate(request: pytest.FixtureRequest, world: World) -> InAsyncio | GateFunctions:
    return InAsyncio(world) if request.param == "in asyncio" else world.server.gate


def holds(world: World, count: int, micros: int = 1) -> list[Call[a.HoldAnswer]]:
    return [
        encoding.hold(
            world.name, Request(micros, "ann", "web"), hold_id=world.new_id(), emitter="em-1",
            epoch=1, tag=world.tag,
        )
        for _ in range(count)
    ]  # fmt: skip


def test_many_are_answered_in_their_order(world: World, gate: InAsyncio | GateFunctions) -> None:
    count = AT_ONCE + 2
    answers = gate.run_many(holds(world, count, 100 // 25))
    granted = [isinstance(one, a.Granted) for one in answers]
    assert granted == [True] * 25 + [False] * (count - 25), "credits of 100 in fours"
    assert gate.run_many([]) == []


def test_one_that_is_wrong_stops_no_other(world: World, gate: InAsyncio | GateFunctions) -> None:
    first, wrong, last = holds(world, 3)
    wrong = msgspec.structs.replace(wrong, arguments=(*wrong.arguments, "more"))
    answers = gate.run_many([first, wrong, last])
    assert isinstance(answers[0], a.Granted)
    assert isinstance(answers[1], InvalidInput)
    assert isinstance(answers[2], a.Granted)
    assert gate.run(first) == answers[0]


def test_the_functions_are_loaded_amid_many(world: World, gate: InAsyncio | GateFunctions) -> None:
    world.server.client.function_delete(world.server.library.name)
    answers = gate.run_many(holds(world, 3))
    assert [type(one) for one in answers] == [a.Granted] * 3
    world.server.client.function_delete(world.server.library.name)
    assert isinstance(gate.run(holds(world, 1)[0]), a.Granted)


def test_nobody_there_is_said_for_each() -> None:
    address = f"redis://127.0.0.1:{free_port()}"
    calls = [encoding.read_epoch(), encoding.read_epoch()]

    async def ask() -> list[object]:
        gate = AsyncGateFunctions(connect_async(address))
        for action in (gate.run(calls[0]), gate.load()):
            with pytest.raises(GateUnavailable):
                await action
        answers = await gate.run_many(calls)
        await gate.close()
        return [*answers]

    in_threads = GateFunctions(connect(address))
    for answers in (asyncio.run(ask()), in_threads.run_many(calls)):
        assert [type(one) for one in answers] == [GateUnavailable] * 2
    with pytest.raises(GateUnavailable):
        in_threads.wait_until_asked(0.01)
    in_threads.close()


def test_a_function_that_breaks_among_many_is_a_bug(valkey: Service) -> None:
    line = "  if not org then return {'absent'} end\n"
    with told_the_time(valkey.address, replaced(lua_source(), line, "  org = nil + 1\n")) as server:
        world = World(server)
        status = encoding.status(world.name, member="ann")
        answers = server.gate.run_many([status, encoding.read_epoch(tag=world.tag)])
        assert [type(one) for one in answers] == [BrokenInvariant, a.EpochKey]
