"""Of two servers, and of two versions of the functions, one decides; who sees the other stands back."""

from __future__ import annotations

from collections.abc import Iterator
from copy import copy
from pathlib import Path

import pytest
from enforcement.told_functions import Functions, source_told_by
from enforcement.world import USD, Consumer, World, a_world
from redis import Redis
from services.finding import Service

from tollkeeper.errors import GateUnavailable
from tollkeeper.gate import answers as a
from tollkeeper.gate import encoding
from tollkeeper.gate.library import assemble


@pytest.fixture
def split(valkey: Service, redis: Service, tmp_path: Path) -> Iterator[tuple[World, Consumer]]:
    """A world on Valkey, and a consumer of it that sees a Redis instead."""
    with a_world(valkey.address, f"sqlite:///{tmp_path}/ledger.sqlite", tmp_path) as world:
        client = Redis.from_url(redis.address)
        library = assemble(source_told_by(world.tag).replace(CLOCK_OF, clock_at(world.now)))
        there = Functions(client, library, world.tag)
        there.become("elsewhere1")
        kept, world.functions = world.functions, there
        other = Consumer(world, "another")
        world.functions = kept
        yield world, other
        other.close()
        client.function_delete(library.name)
        client.close()


CLOCK_OF = """\
  local time = redis.call('TIME')
  return tonumber(time[1]) * 1000000 + tonumber(time[2])
"""


def clock_at(now: int) -> str:
    """Standing still, so that only one clock has to be moved."""
    return f"  return {now}\n"


def phase_there(other: Consumer, tag: str) -> tuple[int, str]:
    found = other.enforcement.means.functions.run(encoding.read_epoch(tag=tag))
    return (found.epoch, found.phase) if isinstance(found, a.EpochKey) else (0, "absent")


def test_who_sees_another_server_begins_its_own_epoch_and_the_first_one_stands_back(
    split: tuple[World, Consumer],
) -> None:
    """The first server's lease isn't renewed any more: it may be an isolated old primary."""
    world, other = split
    world.open().start_emitter()
    other.enforcement.keep()
    assert (world.row.epoch, world.row.run_id) == (2, "elsewhere1")
    states = world.consumer.enforcement.keep()
    assert [one.state for one in states] == ["elsewhere"]
    world.pass_time(2.5)
    world.consumer.enforcement.keep()
    assert world.hold(USD) == a.Untrusted("lease", 1)
    other.enforcement.keep()
    assert phase_there(other, world.tag) == (2, "recovering")
    assert world.key.epoch == 1, "one epoch has one server"
    world.pass_time(25.0)
    assert [one.state for one in world.consumer.enforcement.keep()] == ["elsewhere"]


def test_after_long_the_server_that_is_seen_is_taken_for_the_right_one(
    split: tuple[World, Consumer],
) -> None:
    """As after a failing back: nobody may be left who sees the other one."""
    world, other = split
    world.open()
    other.enforcement.keep()
    world.consumer.enforcement.keep()
    world.pass_time(30.0)
    world.consumer.enforcement.keep()
    assert world.row.epoch == 3
    assert world.consumer.heard.causes[-1] == "elsewhere"
    world.recover()
    assert (world.key.epoch, world.key.phase) == (3, "open")


def test_whose_server_changed_under_its_eyes_takes_the_new_one_at_once(
    split: tuple[World, Consumer],
) -> None:
    world, other = split
    world.open()
    other.enforcement.keep()
    world.pass_time(2.5)
    other.enforcement.keep()
    seen_there = other.enforcement.means.functions
    assert isinstance(seen_there, Functions)
    seen_there.be_led_to(world.functions)
    other.enforcement.keep()
    assert world.row.epoch == 3
    assert other.heard.causes[-1] == "elsewhere"
    world.server.client.function_delete(seen_there.library)


def newer(world: World, comment: str = "-- newer") -> tuple[Functions, str]:
    """Functions of another version, in the same server."""
    library = assemble(f"{world.server.source}\n{comment}\n")
    world.server.client.function_load(library.text)
    functions = Functions(world.server.client, library, world.tag)
    return functions, library.name


def test_the_version_of_the_newest_process_decides_and_stays(world: World) -> None:
    world.open().start_emitter()
    old, own = world.consumer, world.functions.library
    functions, name = newer(world)
    world.functions = functions
    new = Consumer(world, "another")
    assert [one.state for one in new.enforcement.keep()] == ["open"]
    assert world.key.library == name
    for _ in range(2):
        assert [one.state for one in old.enforcement.keep()] == ["superseded"]
        assert world.key.library == name, "it doesn't go to and fro"
        world.pass_time(1.0)
        new.enforcement.keep()
    world.pass_time(2.0)
    assert [one.state for one in old.enforcement.keep()] == ["open"], "nobody keeps the newer one"
    assert world.key.library == own
    new.close()
    world.server.client.function_delete(name)


def test_folds_of_who_has_a_former_version_arrive(world: World) -> None:
    """It follows the version that decides; what it told the former one is told again."""
    world.open().start_emitter()
    world.held(1)
    functions, name = newer(world)
    old, kept = world.consumer, world.functions
    world.functions = functions
    new = Consumer(world, "another")
    new.enforcement.keep()
    world.use()
    old.fold()
    assert old.enforcement.applier.behind() != []
    old.enforcement.keep()
    assert old.enforcement.applier.tick()
    world.held(1)
    world.use()
    old.fold()
    assert kept.library == name
    assert old.enforcement.applier.behind() == []
    assert world.credits().spent_micros == 6_000
    world.assert_equal()
    new.close()
    world.server.client.function_delete(name)


def test_a_new_server_that_lacks_what_was_followed_is_given_our_own(world: World) -> None:
    world.open()
    own = world.functions.library
    functions, name = newer(world)
    kept, world.functions = world.functions, functions
    new = Consumer(world, "another")
    new.enforcement.keep()
    world.consumer.enforcement.keep()
    assert kept.library == name
    new.close()
    world.functions = kept
    world.server.client.function_delete(name)
    kept.become("run2")
    with pytest.raises(GateUnavailable):
        world.consumer.enforcement.keep()
    world.recover()
    assert (world.key.epoch, world.key.phase, world.key.library) == (2, "open", own)


def test_a_connection_that_stayed_with_the_former_server_begins_no_epoch(
    split: tuple[World, Consumer],
) -> None:
    """The address leads to one server; a connection from before may still lead to another."""
    world, other = split
    world.open()
    asked = other.enforcement.means.functions
    assert isinstance(asked, Functions)
    former = copy(asked)
    asked.be_led_to(world.functions)
    assert [one.state for one in other.enforcement.keep()] == ["open"]
    asked.be_led_to(former)
    asked.on_reconnect = lambda: asked.be_led_to(world.functions)
    assert [one.state for one in other.enforcement.keep()] == ["open"]
    assert world.row.epoch == 1


def test_who_sees_a_server_that_the_others_left_asks_over_new_connections(
    split: tuple[World, Consumer],
) -> None:
    world, other = split
    world.open()
    other.enforcement.keep()
    reconnects: list[None] = []
    world.functions.on_reconnect = lambda: reconnects.append(None)
    for tick in range(1, 3):
        assert [one.state for one in world.consumer.enforcement.keep()] == ["elsewhere"]
        assert len(reconnects) == tick
