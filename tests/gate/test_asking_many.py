"""Many calls in one go, and the functions in asyncio: the same answers as one by one in a thread."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec
import pytest
from gate.asking import WAYS, Asking, asking
from gate.servers import replaced, told_the_time
from gate.world import World
from services.finding import Service
from services.kafka_local import free_port

from tollkeeper.errors import BrokenInvariant, GateUnavailable, InvalidInput
from tollkeeper.gate import answers as a
from tollkeeper.gate import encoding
from tollkeeper.gate.asking import AT_ONCE
from tollkeeper.gate.commands import Request
from tollkeeper.gate.encoding import Call
from tollkeeper.gate.functions import GateFunctions, connect
from tollkeeper.gate.library import lua_source


@pytest.fixture
def world(valkey: Service) -> Iterator[World]:
    with told_the_time(valkey.address) as server:
        yield World(server).warmed(caps={"organization": 2_000, "member": 2_000})


@pytest.fixture(params=WAYS)
def gate(request: pytest.FixtureRequest, world: World) -> Iterator[Asking]:
    gate = asking(request.param, world.server.address, world.server.library)
    yield gate
    gate.close()


def holds(world: World, count: int, micros: int = 1) -> list[Call[a.HoldAnswer]]:
    return [
        encoding.hold(
            world.name, Request(micros, "ann", "web"), hold_id=world.new_id(), emitter="em-1",
            epoch=1, tag=world.tag,
        )
        for _ in range(count)
    ]  # fmt: skip


def test_many_are_answered_in_their_order(world: World, gate: Asking) -> None:
    count = AT_ONCE + 2
    answers = gate.run_many(holds(world, count, 100 // 25))
    granted = [isinstance(one, a.Granted) for one in answers]
    assert granted == [True] * 25 + [False] * (count - 25), "credits of 100 in fours"
    assert gate.run_many([]) == []


def test_one_that_is_wrong_stops_no_other(world: World, gate: Asking) -> None:
    first, wrong, last = holds(world, 3)
    wrong = msgspec.structs.replace(wrong, arguments=(*wrong.arguments, "more"))
    answers = gate.run_many([first, wrong, last])
    assert isinstance(answers[0], a.Granted)
    assert isinstance(answers[1], InvalidInput)
    assert isinstance(answers[2], a.Granted)
    assert gate.run(first) == answers[0]


def test_the_functions_are_loaded_amid_many(world: World, gate: Asking) -> None:
    world.server.client.function_delete(world.server.library.name)
    answers = gate.run_many(holds(world, 3))
    assert [type(one) for one in answers] == [a.Granted] * 3
    world.server.client.function_delete(world.server.library.name)
    assert isinstance(gate.run(holds(world, 1)[0]), a.Granted)


@pytest.mark.parametrize("way", WAYS)
def test_nobody_there_is_said_for_each(way: str) -> None:
    gate = asking(way, f"redis://127.0.0.1:{free_port()}")
    with pytest.raises(GateUnavailable):
        gate.run(encoding.read_epoch())
    answers = gate.run_many([encoding.read_epoch(), encoding.read_epoch()])
    assert [type(one) for one in answers] == [GateUnavailable] * 2
    gate.close()


def test_who_waits_at_no_server_s_bell_is_told() -> None:
    gate = GateFunctions(connect(f"redis://127.0.0.1:{free_port()}"))
    with pytest.raises(GateUnavailable):
        gate.wait_until_asked(0.01)
    gate.close()


def test_a_function_that_breaks_among_many_is_a_bug(valkey: Service) -> None:
    line = "  if not org then return {'absent'} end\n  local period"
    broken = replaced(lua_source(), line, f"  org = nil + 1\n{line}")
    with told_the_time(valkey.address, broken) as server:
        world = World(server)
        status = encoding.status(world.name, member="ann")
        answers = server.gate.run_many([status, encoding.read_epoch(tag=world.tag)])
        assert [type(one) for one in answers] == [BrokenInvariant, a.EpochKey]
