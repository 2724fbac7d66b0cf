"""Asking the functions over redis-py: loading, losing and finding them, and what can't be asked."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import msgspec
import pytest
from gate.servers import open_gate, replaced, told_the_time
from gate.world import World
from redis import Redis
from services.finding import Service, skip_or_fail
from services.kafka_local import free_port
from services.redis_local import LocalRedis, local_valkey, why_unavailable
from support.waiting import eventually

from tollkeeper.errors import BrokenInvariant, GateUnavailable, InvalidInput
from tollkeeper.events.ids import now_micros
from tollkeeper.gate import answers as a
from tollkeeper.gate import encoding
from tollkeeper.gate.commands import Request
from tollkeeper.gate.functions import GateFunctions, connect
from tollkeeper.gate.library import assemble, current_library, lua_source


@pytest.fixture(params=["redis", "valkey"])
def own(request: pytest.FixtureRequest) -> Iterator[LocalRedis]:
    """A server of this test's own, to be spoiled."""
    if request.param == "redis" and (reason := why_unavailable()):
        skip_or_fail(f"Redis isn't at hand (local: {reason})")
    server = LocalRedis() if request.param == "redis" else local_valkey()
    # Otherwise a primary waits 5 s for more replicas that might want the same.
    server.settings["repl-diskless-sync-delay"] = "0"
    try:
        server.start()
        yield server
    finally:
        server.close()


def test_the_server_s_own_clock_says_when_a_hold_was_granted(own: LocalRedis) -> None:
    gate = GateFunctions(connect(own.address))
    open_gate(gate, "0", emitters=("em-1",), organizations=("acme",))
    before = now_micros()
    key = gate.run(encoding.read_epoch())
    assert before <= key.now <= now_micros()
    gate.close()


def test_the_library_is_found_again_after_the_server_lost_it(own: LocalRedis) -> None:
    gate = GateFunctions(connect(own.address))
    gate.load()
    gate.load()
    with Redis.from_url(own.address) as client:
        assert [one[1].decode() for one in client.function_list()] == [gate.library]
        client.function_flush()
    assert isinstance(gate.run(encoding.read_epoch()), a.NoEpoch)
    own.kill()
    with pytest.raises(GateUnavailable, match="can't be asked"):
        gate.run(encoding.read_epoch())
    own.start()
    assert isinstance(gate.run(encoding.read_epoch()), a.NoEpoch)
    gate.close()


def test_another_content_is_another_version() -> None:
    assert assemble(lua_source()) == current_library()
    assert assemble(lua_source() + " ").name != current_library().name
    assert current_library().text.startswith(f"#!lua name={current_library().name}\n")


def test_a_full_server_grants_nothing_and_still_settles_and_releases(own: LocalRedis) -> None:
    with told_the_time(own.address) as server:
        world = World(server).warmed()
        first, second = world.held(1), world.held(2)
        server.client.config_set("maxmemory", 1)
        with pytest.raises(GateUnavailable, match="maxmemory"):
            world.hold(3)
        with pytest.raises(GateUnavailable, match="maxmemory"):
            world.extend(first, 3)
        assert world.release(first) == a.Released(1)
        assert world.apply(settled=(second,)) == a.Applied()
        assert world.status().limits[-1].held_micros == 0
        server.client.config_set("maxmemory", 0)
        world.held(3)


def test_a_replica_grants_nothing_and_becomes_another_incarnation_by_promotion(
    own: LocalRedis,
) -> None:
    other = LocalRedis(own.program)
    try:
        other.start()
        with told_the_time(own.address) as server, Redis.from_url(other.address) as replica:
            world = World(server).warmed()
            world.held(1)
            replica.replicaof("127.0.0.1", own.port)
            eventually(lambda: replica.info("replication")["master_link_status"] == "up")
            eventually(lambda: replica.dbsize() == server.client.dbsize())
            there = GateFunctions(connect(other.address), server.library)
            hold = encoding.hold(
                world.name, Request(1, "ann", "web"), hold_id=world.new_id(), emitter="em-1",
                epoch=1, tag=world.tag,
            )  # fmt: skip
            with pytest.raises(GateUnavailable, match=r"(?i)read.?only"):
                there.run(hold)
            assert there.run(encoding.open_holds(world.name)) == world.holds()
            here = world.server.gate.incarnation()
            assert there.incarnation().run_id != here.run_id
            assert there.incarnation().replication_id == here.replication_id
            replica.replicaof("NO", "ONE")
            assert there.incarnation().replication_id != here.replication_id
            there.close()
    finally:
        other.close()


def test_a_function_that_breaks_is_a_bug_and_no_refusal(valkey: Service) -> None:
    line = "  if not org then return {'absent'} end\n  local period"
    broken = replaced(lua_source(), line, "  org = nil + 1\n  local period")
    with told_the_time(valkey.address, broken) as server:
        world = World(server)
        with pytest.raises(BrokenInvariant, match="a function of the gate broke"):
            world.status()


def test_an_answer_nobody_knows_is_a_bug() -> None:
    decode = encoding.read_epoch().decode
    for raw in (["granted"], [], None, b"epoch"):
        with pytest.raises(BrokenInvariant):
            decode(raw)
    with pytest.raises(InvalidInput, match="amount"):
        decode([b"invalid", b"amount"])


@pytest.mark.parametrize(
    ("function", "arguments"),
    [
        ("hold", ["p", 1, "em-1", "{id}", 1, "ann", "web", 0, "more"]),
        ("hold", ["p", 1, "em-1", "{id}", 0, "ann", "web", 0]),
        ("hold", ["p", 1, "em-1", "{id}", "1.5", "ann", "web", 0]),
        ("hold", ["p", 1, "em-1", "{id}", "-1", "ann", "web", 0]),
        ("hold", ["p", 1, "em-1", "{id}", "1e3", "ann", "web", 0]),
        ("hold", ["p", 1, "em-1", "{id}", 2**53 + 1, "ann", "web", 0]),
        ("hold", ["p", 1, "em-1", "{id}", 10**17, "ann", "web", 0]),
        ("hold", ["p", 1, "em-1", "{id}", 1, "a nn", "web", 0]),
        ("hold", ["p", 1, "em-1", "{id}", 1, "", "web", 0]),
        ("hold", ["p", 1, "em-1", "{id}", 1, "ann", "web", 1, "member/bob"]),
        ("hold", ["p", 1, "em-1", "{id}", 1, "ann", "web", 1, "project"]),
        ("hold", ["p", 1, "em-1", "{id}", 1, "ann", "web", 2, "project/p"]),
        ("hold", ["p", 1, "em-1", "{id}", 1, "ann", "web", 2, "project/p", "project/q"]),
        ("hold", ["p", 1, "em-1", "acme/em-1/x/1", 1, "ann", "web", 0]),
        ("hold", ["p", 1, "em-1", "acme//1/1", 1, "ann", "web", 0]),
        ("hold", ["p", 1, "em-1", "acme//1/1/1", 1, "ann", "web", 0]),
        ("hold", ["p", 1, "em-1", "/em-1/1/1", 1, "ann", "web", 0]),
        ("hold", ["p", 1, "em-1", "acme/em-1/1/", 1, "ann", "web", 0]),
        ("hold", ["p", 1, "em-1", "acme/em-1//1", 1, "ann", "web", 0]),
        ("hold", ["p", 1, "em-1", "acme/em-1/1/1/1", 1, "ann", "web", 0]),
        ("hold", ["p", 1, "em-1", "{id}", "007", "ann", "web", 0]),
        ("extend", ["p", 1, "{id}"]),
        ("release", ["p", "one", "{id}"]),
        ("apply", ["p", 1, 5, 5, 6, 0, 0, "-", "-", 0, 0]),
        ("apply", ["p", 1, 4, 5, 6, 0, 1, "member", "inherit", "-", "-", 0, 0]),
        ("apply", ["p", 1, 4, 5, 6, 0, 1, "member", 2**53 + 1, "-", "-", 0, 0]),
        ("apply", ["p", 1, 4, 5, 6, 0, 0, "-", "-", 1, "ann", "2", 0]),
        ("make_unknown", ["p", 1, "-"]),
        ("open_holds", ["more"]),
    ],
)
def test_wrong_arguments_are_refused_before_anything_is_read(
    function: str, arguments: list[object], valkey: Service
) -> None:
    with told_the_time(valkey.address) as server:
        world = World(server)
        words = [str(word).replace("{id}", world.new_id()) for word in arguments]
        good = encoding.release(world.new_id(), epoch=1)
        call = msgspec.structs.replace(good, function=function, arguments=tuple(words))
        with pytest.raises(InvalidInput):
            world.run(call)
        with pytest.raises(InvalidInput, match="keys"):
            world.run(msgspec.structs.replace(call, keys=("x", "y", "z")))
        assert server.client.exists(*good.keys) == 0


@pytest.mark.parametrize("kind", ["redis", "valkey"])
def test_holders_at_once_never_hold_more_than_the_cap(
    kind: str, request: pytest.FixtureRequest
) -> None:
    service: Service = request.getfixturevalue(kind)
    with told_the_time(service.address) as server:
        world = World(server).warmed(
            caps={"organization": 500, "member": "unlimited"}, purchased_micros=10_000
        )
        ids = [world.new_id() for _ in range(200)]
        gates = [GateFunctions(connect(service.address), server.library) for _ in range(8)]

        def hold(at: int) -> int:
            call = encoding.hold(
                world.name, Request(7, "ann", "web"), hold_id=ids[at % 200], emitter="em-1",
                epoch=1, tag=world.tag,
            )  # fmt: skip
            return int(isinstance(gates[at % 8].run(call), a.Granted))

        with ThreadPoolExecutor(8) as pool:
            granted = sum(pool.map(hold, range(200)))
            again = sum(pool.map(hold, range(400)))
        assert granted == 500 // 7
        assert again == 2 * granted, "a retry gives the first answer again"
        assert world.status().limits[0].held_micros == granted * 7
        for gate in gates:
            gate.close()


def test_a_server_that_keeps_silent_is_unavailable_after_one_timeout() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        gate = GateFunctions(connect(f"redis://127.0.0.1:{silent.getsockname()[1]}", timeout_s=0.2))
        with pytest.raises(GateUnavailable, match=r"(?i)timeout"):
            gate.run(encoding.read_epoch())
        gate.close()
        silent.settimeout(5)
        silent.accept()[0].close()
        silent.settimeout(0)
        with pytest.raises(BlockingIOError):
            silent.accept()


def test_nobody_at_the_address_is_unavailable_and_not_forever() -> None:
    gate = GateFunctions(connect(f"redis://127.0.0.1:{free_port()}"))
    with pytest.raises(GateUnavailable, match="can't be asked"):
        gate.run(encoding.read_epoch())
    with pytest.raises(GateUnavailable):
        gate.load()
    with pytest.raises(GateUnavailable):
        gate.incarnation()
    gate.close()
