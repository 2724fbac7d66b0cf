"""Examples about trust: epochs, leases, versions, emitters, ids. Each takes a fresh world."""

from __future__ import annotations

import msgspec
from gate.world import LEASE_MICROS, MINUTE, World

from tollkeeper.gate import answers as a
from tollkeeper.gate import encoding
from tollkeeper.gate.commands import HeldCall, Incarnation, Request
from tollkeeper.gate.functions import GateFunctions
from tollkeeper.gate.library import Library, assemble

HOUR = 60 * MINUTE


def a_retried_hold_is_granted_once(world: World) -> None:
    """Also after it was extended; and the id means one request only."""
    world.warmed()
    hold_id = world.held(10)
    first = world.now
    world.set_clock(world.now + MINUTE)
    again = world.hold(10, hold_id=hold_id)
    assert isinstance(again, a.Granted)
    assert (again.granted_at, again.held_micros, again.now) == (first, 10, world.now)
    world.extend(hold_id, 12)
    assert world.hold(10, hold_id=hold_id) == msgspec.structs.replace(again, held_micros=12)
    for other in (
        {"micros": 11},
        {"micros": 10, "member": "bob"},
        {"micros": 10, "surface": "cowork"},
    ):
        assert world.hold(**other, hold_id=hold_id) == a.HoldIdRefused("other_request")
    assert [one.held_micros for one in world.holds()] == [12]
    assert world.status().limits[0].held_micros == 12


def a_refusal_isn_t_remembered(world: World) -> None:
    """R23: when its cause is gone, the same id may be granted."""
    world.warmed()
    hold_id = world.new_id()
    assert isinstance(world.hold(31, hold_id=hold_id), a.Refused)
    world.apply(caps={"member": 31})
    assert isinstance(world.hold(31, hold_id=hold_id), a.Granted)


def an_ended_id_is_refused(world: World) -> None:
    """Released, settled, or released before its hold came; and ending it again frees nothing."""
    world.warmed()
    released, settled, overtaken = world.held(1), world.held(2), world.new_id()
    assert world.release(released) == a.Released(1)
    assert world.apply(settled=(settled, "req-of-somebody", "other/em-1/5/x")) == a.Applied()
    assert world.release(overtaken) == a.Released(0)
    for hold_id, micros in ((released, 1), (settled, 2), (overtaken, 3)):
        assert world.hold(micros, hold_id=hold_id) == a.HoldIdRefused("used")
        assert world.release(hold_id) == a.Released(0)
        assert world.extend(hold_id, 9) == a.HoldIdRefused("absent")
    assert world.status().limits[-1].held_micros == 0


def a_foreign_id_is_refused(world: World) -> None:
    """Of another emitter, or of another organization."""
    world.warmed()
    assert world.hold(1, hold_id=world.new_id("em-2")) == a.HoldIdRefused("foreign")
    assert world.hold(1, hold_id=f"x{world.new_id()}") == a.HoldIdRefused("foreign")
    keys = encoding.release(world.new_id(), epoch=1, tag=world.tag)
    strange = msgspec.structs.replace(keys, arguments=(*keys.arguments[:2], "other/em-1/5/x"))
    assert world.run(strange) == a.HoldIdRefused("foreign")


def marks_go_with_their_age_and_don_t_come_back_with_the_clock(world: World) -> None:
    """An id may be an hour old; later its mark goes, and when the clock goes back it stays refused."""
    world.warmed()
    old = world.held(1)
    world.release(old)
    world.set_clock(world.now + HOUR)
    assert world.hold(1, hold_id=old) == a.HoldIdRefused("used")
    world.set_clock(world.now + 1_000_000)
    assert world.hold(1, hold_id=old) == a.HoldIdRefused("age")
    world.release(world.held(1))
    world.set_clock(world.now - HOUR)
    assert world.hold(1, hold_id=old) == a.HoldIdRefused("age")
    ahead = f"{world.name}/em-1/{(world.now + HOUR) // 1000 + 1}/x"
    assert world.hold(1, hold_id=ahead) == a.HoldIdRefused("age")
    marks = f"tollkeeper:{{{world.name}}}:marks"
    assert not isinstance(world.server.client.zscore(marks, old), float)


def only_listed_and_noted_emitters_hold(world: World) -> None:
    """Retired is final, whatever the order in which partitions tell it."""
    world.warmed()
    tag = world.tag

    def of(emitter: str) -> a.HoldAnswer:
        return world.hold(1, emitter=emitter)

    assert of("em-3") == a.EmitterRefused("unlisted")
    note = encoding.note(1, "em-3", [world.name], tag=tag)
    assert world.run(note) == a.EmitterRefused("unlisted")
    world.run(encoding.list_emitters(1, started=["em-3"], retired=["em-4"], tag=tag))
    assert of("em-3") == a.EmitterRefused("unnoted")
    assert world.run(note) == world.run(note) == a.Done("noted")
    assert isinstance(of("em-3"), a.Granted)

    world.run(encoding.list_emitters(1, retired=["em-3"], tag=tag))
    world.run(encoding.list_emitters(1, started=["em-3", "em-4"], tag=tag))
    assert of("em-3") == of("em-4") == a.EmitterRefused("retired")
    hold_id = world.holds()[0].hold_id
    assert world.extend(hold_id, 2) == a.EmitterRefused("retired")
    assert world.run(encoding.answer(1, "em-4", tag=tag)) == a.EmitterRefused("retired")

    standing = encoding.emitter_standing("em-3", tag=tag)
    assert world.run(standing) == a.EmitterStanding("retired", (world.name,))
    assert world.run(encoding.strike_notes(1, "em-1", [world.name], tag=tag)) == a.EmitterRefused(
        "listed"
    )
    assert world.run(encoding.strike_notes(1, "em-3", [world.name], tag=tag)) == a.Done("struck")
    assert world.run(standing) == a.EmitterStanding("retired", ())


def an_older_epoch_is_refused_and_a_newer_one_makes_unknown(world: World) -> None:
    """In each function on an organization."""
    world.warmed()
    hold_id = world.held(5)
    world.begin_epoch(2)
    assert world.is_known()
    assert world.hold(1) == a.Untrusted("epoch", 2)
    assert world.hold(1, epoch=2) == a.Unknown()
    for stale in (
        world.hold(1),
        world.extend(hold_id, 6),
        world.release(hold_id),
        world.apply(),
        world.warm(epoch=1),
        world.reassert(epoch=1),
        world.run(encoding.make_unknown(world.name, 99, epoch=1, tag=world.tag)),
    ):
        assert stale == a.Stale(2)
    assert world.status().floor == 10
    assert len(world.holds()) == 1
    assert world.hold(5, hold_id=hold_id, epoch=2) == a.Unknown()
    assert world.extend(hold_id, 6, epoch=2) == a.HoldIdRefused("absent")
    assert world.warm(epoch=2) == a.Warmed(kept=0, dropped=1)


def recovery_keeps_what_is_reasserted(world: World) -> None:
    """And nothing else; when it is over, nothing more is taken."""
    world.warmed()
    kept, lost, ended = world.held(5), world.held(6), world.held(7)
    world.release(ended)
    granted_at = world.now
    calls = [HeldCall(one, granted_at, 9, Request(5, "ann", "web")) for one in (kept, ended)]
    assert world.reassert(*calls, epoch=1) == a.Untrusted("open", 1)
    world.begin_epoch(2, opened=False)
    assert world.reassert(*calls, emitter="em-2") == a.HoldIdRefused("foreign")
    assert world.reassert(*calls, emitter="em-3") == a.EmitterRefused("unlisted")
    assert world.reassert(*calls) == world.reassert(*calls) == a.Reasserted(1)
    assert world.hold(1, epoch=2) == a.Untrusted("recovering", 2)
    world.begin_epoch(2)
    assert world.reassert(*calls) == a.Untrusted("open", 2)
    assert world.warm(epoch=2) == a.Warmed(kept=1, dropped=1)
    assert [(one.hold_id, one.held_micros) for one in world.holds()] == [(kept, 9)]
    assert isinstance(world.hold(5, hold_id=kept, epoch=2), a.Granted)
    assert world.hold(6, hold_id=lost, epoch=2) == a.HoldIdRefused("used")


def an_epoch_opens_when_every_emitter_has_answered_or_is_retired(world: World) -> None:
    """The lease begins anew, and so does the list."""
    world.begin_epoch(2, opened=False)
    tag = world.tag
    assert world.run(encoding.emitter_standing("em-1", tag=tag)).standing == "started"
    opening = encoding.open_epoch(2, tag=tag)
    waiting = world.run(opening)
    assert isinstance(waiting, a.Waiting)
    assert sorted(waiting.emitters) == ["em-1", "em-2"]
    world.run(encoding.answer(2, "em-1", tag=tag))
    assert world.run(opening) == a.Waiting(("em-2",))
    world.run(encoding.list_emitters(2, retired=["em-2"], tag=tag))
    assert world.run(opening) == world.run(opening) == a.Done("opened")
    assert world.hold(1, epoch=2) == a.Untrusted("lease", 2)
    world.run(encoding.begin_epoch(3, world.server.here, tag=tag))
    assert world.run(encoding.emitter_standing("em-2", tag=tag)) == a.EmitterStanding(
        "unlisted", ()
    )


def one_epoch_is_one_incarnation(world: World) -> None:
    """Begun again by a retry; not for another run, and never back."""
    other = Incarnation("run-2", world.server.here.replication_id)
    assert world.run(encoding.begin_epoch(1, world.server.here, tag=world.tag)) == a.Done("begun")
    assert world.run(encoding.begin_epoch(1, other, tag=world.tag)) == a.Stale(1)
    renew = encoding.renew(1, other, asked_at=world.now, lease_micros=1, tag=world.tag)
    assert world.run(renew) == a.Untrusted("incarnation", 1)
    ahead = encoding.renew(
        1, world.server.here, asked_at=world.now + 1, lease_micros=1, tag=world.tag
    )
    assert world.run(ahead) == a.Untrusted("clock", 1)
    assert world.run(encoding.begin_epoch(2, other, tag=world.tag)) == a.Done("begun")
    assert world.run(encoding.begin_epoch(1, world.server.here, tag=world.tag)) == a.Stale(2)
    key = world.run(encoding.read_epoch(tag=world.tag))
    assert isinstance(key, a.EpochKey)
    assert (key.epoch, key.phase, key.run_id, key.lease_until) == (2, "recovering", "run-2", 0)


def a_lease_counts_from_before_sql_was_read(world: World) -> None:
    """Over at its very end; a renewal that was long on its way prolongs nothing."""
    world.warmed()
    until = world.now + LEASE_MICROS
    world.set_clock(until - 1)
    late = encoding.renew(
        1, world.server.here, asked_at=until - 1_000_000, lease_micros=2_000_000, tag=world.tag
    )
    world.run(encoding.make_unknown(world.name, 11, epoch=1, tag=world.tag))
    world.position = 11
    world.warmed()
    assert world.refused_by(1) == []
    world.set_clock(until)
    assert world.hold(1) == a.Untrusted("lease", 1)
    world.set_clock(until + 1_500_000)
    assert world.run(late) == a.Renewed(until + 1_000_000)
    assert world.hold(1) == a.Untrusted("lease", 1)


def one_version_decides_at_any_moment(world: World) -> None:
    """A new one is loaded beside the old one, and takes over in one step; holds stay as they are."""
    world.warmed()
    held = world.held(5)
    old, client = world.server.gate, world.server.client
    new = GateFunctions(client, assemble(world.server.source + "-- and more\n"))
    name = f"tollkeeper_0_{world.server.token}"
    stranger = Library(
        name, assemble(world.server.source).text.replace(world.server.library.name, name)
    )
    other_layout = GateFunctions(client, stranger)
    hold = encoding.hold(
        world.name, Request(5, "ann", "web"), hold_id=held, emitter="em-1", epoch=1, tag=world.tag
    )
    release = encoding.release(held, epoch=1, tag=world.tag)
    take_over = encoding.take_over(1, tag=world.tag)
    try:
        new.load()
        other_layout.load()
        assert isinstance(old.run(hold), a.Granted)
        superseded = a.Untrusted("superseded", 1)
        assert new.run(hold) == new.run(release) == superseded
        assert new.run(encoding.open_epoch(1, tag=world.tag)) == superseded
        assert other_layout.run(take_over) == a.Untrusted("layout", 1)
        assert new.run(encoding.take_over(2, tag=world.tag)) == a.Untrusted("epoch", 1)
        assert new.run(take_over) == new.run(take_over) == a.Done("taken_over")
        assert old.run(hold) == old.run(release) == superseded
        assert isinstance(new.run(hold), a.Granted)
        assert new.run(release) == a.Released(5)
    finally:
        for gate in (new, other_layout):
            client.function_delete(gate.library)


def a_fold_ends_each_hold_once_however_many_it_settles(world: World) -> None:
    """More ids than are handed on at once, one of them twice, and most of no hold that Redis has."""
    world.warmed()
    first, second, third = world.held(1), world.held(2), world.held(3)
    unknown = tuple(world.new_id() for _ in range(2_000))
    assert world.apply(settled=(first, *unknown, first, second)) == a.Applied()
    assert [one.hold_id for one in world.holds()] == [third]
    assert [one.held_micros for one in world.status().limits] == [3, 3, 3]
    for hold_id, micros in ((first, 1), (second, 2), (unknown[-1], 1)):
        assert world.hold(micros, hold_id=hold_id) == a.HoldIdRefused("used")


TRUST = (
    a_fold_ends_each_hold_once_however_many_it_settles,
    a_retried_hold_is_granted_once,
    a_refusal_isn_t_remembered,
    an_ended_id_is_refused,
    a_foreign_id_is_refused,
    marks_go_with_their_age_and_don_t_come_back_with_the_clock,
    only_listed_and_noted_emitters_hold,
    an_older_epoch_is_refused_and_a_newer_one_makes_unknown,
    recovery_keeps_what_is_reasserted,
    an_epoch_opens_when_every_emitter_has_answered_or_is_retired,
    one_epoch_is_one_incarnation,
    a_lease_counts_from_before_sql_was_read,
    one_version_decides_at_any_moment,
)
