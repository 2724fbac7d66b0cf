"""Who is waited for when a server recovers, and what it is told of emitters."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

import pytest
from enforcement.told_functions import Crash
from enforcement.world import USD, Consumer, World

from tollkeeper.events.ids import new_command_line_id
from tollkeeper.gate import encoding
from tollkeeper.gate.encoding import Call


def test_a_recovery_tells_of_each_emitter_once(world: World) -> None:
    """Those that were ever retired are many after some months."""
    world.open()
    for name in ("em-1", "em-2"):
        world.start_emitter(name)
        world.retire(name)
    world.start_emitter("em-3")
    told: list[str | int] = []
    ask = world.functions.run

    def run(call: Call[Any]) -> Any:
        told.extend(call.arguments if call.function == "list_emitters" else ())
        return ask(call)

    world.functions.run = run  # type: ignore[method-assign]  # it hears what is told
    world.functions.become("run2")
    world.recover()
    for _ in range(3):
        world.pass_time(1.0)
        assert world.keeper.tick().waits_for == "1 emitters, em-3 among them"
    assert sorted(one for one in map(str, told) if one.startswith("em-")) == [
        "em-1",
        "em-2",
        "em-3",
    ]


def test_a_server_that_is_gone_while_all_were_told_opens_nothing(world: World) -> None:
    """The list that was told is another server's."""
    world.open().start_emitter()
    world.functions.become("run2")
    world.recover()
    key = world.row
    world.functions.meanwhile("emitters", world.wipe)
    assert world.keeper.tick().state != "open"
    assert world.row == key


def test_nobody_waits_for_a_command_line_that_nobody_lives_under(world: World) -> None:
    emitter = new_command_line_id()
    world.open().start_emitter(emitter)
    world.held(USD, emitter=emitter)
    world.functions.become("run2")
    world.recover()
    assert world.key.phase == "open"
    world.note(emitter)
    world.held(10 * USD, emitter=emitter)  # its hold wasn't re-asserted, and it may go on
    assert not world.consumer.heard.gone


def test_an_epoch_that_is_counted_again_is_another_one(world: World, tmp_path: Path) -> None:
    """SQL was set back while a consumer lived on, and another one began the same number and died."""
    world.open().start_emitter()
    one = world.held(9 * USD)
    world.living["em-1"] = [one]
    ledger = str(world.engine.url.database)
    copy_of(ledger, tmp_path / "backup")
    world.functions.become("run2")
    world.consumer.enforcement.keep()
    world.live_until_open()
    assert world.key.epoch == 2
    copy_of(tmp_path / "backup", ledger)
    world.wipe()
    world.functions.become("run3")
    other = Consumer(world, "another")
    other.enforcement.keep()
    world.pass_time(2.5)
    world.functions.after = ends_after_beginning
    with pytest.raises(Crash):
        other.enforcement.keep()
    world.functions.be_back()
    other.close()
    for _ in range(3):
        world.consumer.enforcement.keep()
        world.consumer.fold()
        world.pass_time(0.5)
    assert world.key.epoch == 2
    assert world.key.phase == "recovering", "em-1 holds 9 USD"
    listed = world.run(encoding.emitters(tag=world.tag)).listed
    assert [each.emitter for each in listed] == ["em-1"]


def ends_after_beginning(name: str) -> None:
    if name == "begin_epoch":
        raise Crash


def copy_of(source: str | Path, target: str | Path) -> None:
    with sqlite3.connect(source) as here, sqlite3.connect(target) as there:
        here.backup(there)
    here.close()
    there.close()
