"""Examples about what the service's side needs beside the decisions. Each takes a fresh world."""

from __future__ import annotations

from typing import Any

from gate.world import MINUTE, World

from tollkeeper.gate import answers as a
from tollkeeper.gate import encoding
from tollkeeper.gate.asking import bell_key
from tollkeeper.gate.keys import organization_keys

SECOND = MINUTE // 60


def deny(world: World, **changes: Any) -> a.DenyAnswer:
    given: dict[str, Any] = {"epoch": 1, "phase": "open", "position": 10, "for_micros": 5 * SECOND}
    return world.run(encoding.deny(world.name, tag=world.tag, **(given | changes)))


def asked(world: World) -> tuple[str, ...]:
    return world.run(encoding.asked_to_warm(tag=world.tag))


def nobody_s_organization_is_refused_by_that_reason(world: World) -> None:
    """For a while: then somebody has to look again. It is asked for no more meanwhile."""
    assert world.hold(1) == a.Unknown()
    assert asked(world) == (world.name,)
    assert deny(world) == a.Denied()
    assert asked(world) == ()
    scope = f"organization/{world.name}"
    reason = a.Against("organization", scope, None, None, None)
    assert world.hold(1) == a.Refused(world.now, 0, (reason,))
    world.set_clock(world.now + 5 * SECOND - 1)
    assert isinstance(world.hold(1), a.Refused)
    world.set_clock(world.now + 1)
    assert world.hold(1) == a.Unknown()
    assert asked(world) == (world.name,)


def names_that_nobody_has_leave_nothing_behind(world: World) -> None:
    """What was there stays: a floor that is forgotten would let an older snapshot in."""
    state, _ = organization_keys(world.name)
    deny(world)
    assert 0 < world.server.client.pttl(state) <= 5_000
    world.apply()
    assert world.server.client.pttl(state) == -1
    deny(world, position=world.position)
    assert world.server.client.pttl(state) == -1


def the_first_record_of_an_organization_ends_that_it_is_nobody_s(world: World) -> None:
    """Its fold, or anything that makes it unknown, or a snapshot."""
    deny(world)
    assert world.apply(previous=-1) == a.Unknown()
    assert world.hold(1) == a.Unknown()
    deny(world, position=world.position)
    world.run(encoding.make_unknown(world.name, world.position, epoch=1, tag=world.tag))
    assert world.hold(1) == a.Unknown()
    deny(world, position=world.position)
    world.warmed()
    world.held(1)


def an_older_snapshot_says_nothing_of_who_is_there(world: World) -> None:
    """As with `warm`: below the floor, before the epoch opened, or of another epoch."""
    world.apply()
    floor = world.position
    assert deny(world, position=floor - 1) == a.BelowFloor(floor)
    assert deny(world, phase="recovering") == a.ReadTooEarly()
    assert deny(world, position=floor, epoch=2) == a.Untrusted("epoch", 1)
    assert world.hold(1, epoch=1) == a.Stale(2), "a call of a newer epoch was heard"
    world.begin_epoch(2)
    assert deny(world, position=floor) == a.Stale(2)
    assert deny(world, position=floor, epoch=2) == a.Denied()


def a_known_organization_is_somebody_s(world: World) -> None:
    """And need not be asked for."""
    world.hold(1)
    world.warmed()
    assert deny(world, position=world.position) == a.AlreadyKnown()
    world.held(1)


def who_is_known_waits_for_no_snapshot(world: World) -> None:
    """Asked for between two snapshots, it leaves the list with the second one."""
    world.warmed()
    world.server.client.zadd(f"tollkeeper-primary:{{{world.tag}}}:asked", {world.name: 1})
    assert asked(world) == (world.name,)
    assert world.warm() == a.AlreadyKnown()
    assert asked(world) == ()


def whose_emitter_was_retired_is_warmed_without_being_asked_for(world: World) -> None:
    """In the step that strikes the note: nobody else would come for the holds."""
    world.warmed()
    world.held(1)
    world.run(encoding.list_emitters(1, retired=("em-1",), tag=world.tag))
    world.run(encoding.make_unknown(world.name, world.position, epoch=1, tag=world.tag))
    assert asked(world) == ()
    strike = encoding.strike_notes(1, "em-1", (world.name,), tag=world.tag)
    assert world.run(strike) == a.Done("struck")
    assert asked(world) == (world.name,)
    assert world.server.client.llen(bell_key(world.tag)) == 1
    assert world.warm(retired=("em-1",)) == a.Warmed(0, 1)


def a_copy_is_all_that_there_is(world: World) -> None:
    """State and holds of one moment; absent before the first call."""
    copy = encoding.copy(world.name)
    assert world.run(copy) == a.Absent()
    world.warmed(spent={f"organization/{world.name}": 7})
    held = world.held(5)
    found = world.run(copy)
    assert isinstance(found, a.Copy)
    assert (found.is_known, found.epoch, found.position) == (True, 1, world.position)
    start = world.period.start_micros
    assert found.fields[f"spent {start} organization/{world.name}"] == "7"
    assert found.fields[f"held {start} member/ann"] == "5"
    assert [one.hold_id for one in found.holds] == [held]
    world.apply(offset=99, previous=98)
    unknown = world.run(copy)
    assert isinstance(unknown, a.Copy)
    assert not unknown.is_known


ENFORCEMENT = (
    nobody_s_organization_is_refused_by_that_reason,
    names_that_nobody_has_leave_nothing_behind,
    the_first_record_of_an_organization_ends_that_it_is_nobody_s,
    an_older_snapshot_says_nothing_of_who_is_there,
    a_known_organization_is_somebody_s,
    who_is_known_waits_for_no_snapshot,
    whose_emitter_was_retired_is_warmed_without_being_asked_for,
    a_copy_is_all_that_there_is,
)
