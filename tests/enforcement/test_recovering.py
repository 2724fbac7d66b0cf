"""Who is waited for when a server recovers, and what it is told of emitters."""

from __future__ import annotations

from typing import Any

from enforcement.world import USD, World

from tollkeeper.events.ids import new_command_line_id
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
