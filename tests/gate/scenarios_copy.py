"""Examples about Redis being a copy of SQL: offsets, snapshots, floors, periods. Each takes a fresh world."""

from __future__ import annotations

from gate.books import periods_at
from gate.world import MINUTE, World

from tollkeeper.gate import answers as a
from tollkeeper.gate import encoding
from tollkeeper.money.periods import Period

HOUR = 60 * MINUTE


def an_unknown_organization_is_closed_and_asks_to_be_warmed(world: World) -> None:
    """Absent is unknown, never zero; the queue remembers who came first, and each once."""
    assert world.hold(1) == a.Unknown()
    assert world.hold(1) == a.Unknown()
    assert world.run(encoding.asked_to_warm(tag=world.tag)) == (world.name,)
    assert world.run(encoding.status(world.name, member="ann")) == a.Absent()
    assert world.holds() == ()
    world.run(encoding.strike_asked(1, (world.name,), tag=world.tag))
    assert world.run(encoding.asked_to_warm(tag=world.tag)) == ()
    assert world.hold(1) == a.Unknown()
    world.warmed()
    assert world.run(encoding.asked_to_warm(tag=world.tag)) == ()
    world.held(1)


def the_hold_of_a_dead_emitter_is_freed_without_traffic(world: World) -> None:
    """Its retirement makes the organization unknown at the fold's position; the next warm drops the hold."""
    world.warmed()
    world.held(30)
    world.held(5, "bob", emitter="em-2")
    assert world.refused_by(1) == ["member_cap"]
    world.run(encoding.list_emitters(1, retired=["em-1"], tag=world.tag))
    before = world.snapshot()
    world.position += 1
    unknown = encoding.make_unknown(world.name, world.position, epoch=1, tag=world.tag)
    assert world.run(unknown) == world.run(unknown) == a.Unknown()
    assert world.run(encoding.warm(world.name, before, tag=world.tag)) == a.BelowFloor(
        world.position
    )
    assert world.warm(retired=("em-1",)) == a.Warmed(kept=1, dropped=1)
    assert world.status().limits[0].held_micros == 5
    assert world.refused_by(30, emitter="em-2") == []


def warm_strikes_the_retired_off_the_list(world: World) -> None:
    """The snapshot may know it before the list was told; then nothing new is let in."""
    assert world.warm(retired=("em-1",)) == a.Warmed(kept=0, dropped=0)
    assert world.hold(1) == a.EmitterRefused("retired")
    assert isinstance(world.hold(1, emitter="em-2"), a.Granted)


def an_apply_moves_redis_from_its_offset_only(world: World) -> None:
    """A repeated or older one is ignored; a gap makes the organization unknown, with a floor."""
    world.warmed()
    hold_id = world.held(10)
    assert (
        world.apply(spent={"organization": 7, "member/ann": 7}, used_micros=7, settled=(hold_id,))
        == a.Applied()
    )
    at = world.status()
    assert [(one.spent_micros, one.held_micros) for one in at.limits] == [(7, 0)] * 3
    assert (at.offset, at.position) == (10, 11)
    assert world.apply(previous=3, offset=10, spent={"organization": 9}) == a.Ignored(10)
    assert world.apply(previous=3, offset=9, spent={"organization": 9}) == a.Ignored(10)
    assert world.status().limits == at.limits
    world.position = 20
    assert world.apply(previous=12, offset=20) == a.Unknown()
    assert not world.is_known()
    assert world.status().floor == 21
    assert world.hold(1) == a.Unknown()
    assert world.apply(previous=10, offset=21) == a.Unknown()


def an_apply_of_nothing_known_leaves_a_floor(world: World) -> None:
    """So that a snapshot from before it can't come after it."""
    stale = world.snapshot()
    assert world.apply() == a.Unknown()
    assert not world.is_known()
    assert world.run(encoding.warm(world.name, stale, tag=world.tag)) == a.BelowFloor(11)
    assert world.warm() == a.Warmed(0, 0)


def a_known_organization_is_left_alone(world: World) -> None:
    """However the snapshot differs."""
    world.warmed()
    assert world.warm(purchased_micros=1, retired=("em-1",)) == a.AlreadyKnown()
    world.held(2)


def a_snapshot_has_to_be_asked_about_every_hold(world: World) -> None:
    """Settled ones go, open ones stay, and one that nobody asked about stops it."""
    world.warmed()
    first, second, third = world.held(1), world.held(2), world.held(4)
    world.run(encoding.make_unknown(world.name, 11, epoch=1, tag=world.tag))
    world.position = 11
    assert world.warm(settled=(first,), still_open=(second,)) == a.Unexamined(1)
    assert not world.is_known()
    assert world.release(third) == a.Released(4)
    assert world.warm(settled=(first,), still_open=(second, third)) == a.Warmed(kept=1, dropped=1)
    assert world.status().limits[0].held_micros == 2
    assert world.hold(1, hold_id=first) == a.HoldIdRefused("used")
    assert world.release(second) == a.Released(2)
    assert [limit.held_micros for limit in world.status().limits] == [0, 0, 0]


def a_snapshot_from_before_the_epoch_opened_is_refused(world: World) -> None:
    """By SQL's row as it read it, and by the key."""
    assert world.warm(phase="recovering") == a.ReadTooEarly()
    world.begin_epoch(2, opened=False)
    assert world.warm(epoch=2) == a.Untrusted("recovering", 2)
    assert world.warm(epoch=1) == a.Untrusted("epoch", 2)


def caps_are_of_the_period_of_redis_clock(world: World) -> None:
    """A new period begins at its first microsecond, with what was charged to it before."""
    world.warmed(spent={world.scope("organization"): 50}, purchased_micros=1_000)
    first = world.period
    following = periods_at(first.end_micros)[1]
    world.apply(spent={"organization": 20}, period=following)
    world.set_clock(first.end_micros - 1)
    assert world.refused_by(1) == ["organization_cap"]
    world.set_clock(first.end_micros)
    assert [world.refused_by(micros) for micros in (30, 31)] == [
        [],
        ["organization_cap", "member_cap"],
    ]
    world.set_clock(following.end_micros - 1)
    assert world.refused_by(1) == []
    world.set_clock(following.end_micros)
    assert world.hold(1) == a.Unknown()
    world.warmed()
    world.held(1)


def a_hold_stays_in_the_period_that_admitted_it(world: World) -> None:
    """It is extended there, as long as that is the current or the previous one."""
    world.warmed()
    hold_id = world.held(30)
    world.set_clock(world.period.end_micros)
    assert world.refused_by(30) == []
    assert isinstance(world.extend(hold_id, 31), a.Refused)
    world.apply(caps={"member": 40})
    assert isinstance(world.extend(hold_id, 31), a.Granted)
    world.set_clock(world.period.end_micros - 1)
    assert isinstance(world.extend(hold_id, 32), a.Granted)
    assert world.release(hold_id) == a.Released(32)

    world.set_clock(world.period.end_micros)
    world.warmed()
    previous = world.period
    world.set_clock(previous.start_micros - 1)
    oldest = world.held(5)
    world.set_clock(previous.end_micros - 1)
    assert isinstance(world.extend(oldest, 6), a.Granted)
    world.set_clock(previous.end_micros)
    assert world.extend(oldest, 7) == a.HoldIdRefused("period")
    assert isinstance(world.extend(oldest, 6), a.Granted)


def a_total_of_half_a_period_makes_unknown(world: World) -> None:
    """Of one that Redis doesn't hold it is no part of the copy."""
    world.warmed()
    first, current, following = periods_at(world.now)
    for foreign in (periods_at(first.start_micros)[0], periods_at(following.end_micros)[1]):
        assert world.apply(spent={"organization": 50}, period=foreign) == a.Applied()
    assert world.status().limits[0].spent_micros == 0
    half = Period(current.start_micros, current.end_micros - 1)
    assert world.apply(spent={"organization": 1}, period=half) == a.Unknown()
    elsewhere = periods_at(periods_at(first.start_micros - 1)[0].start_micros)
    assert world.warm(periods=elsewhere) == a.Elsewhere(world.now)


def what_is_used_in_the_last_of_its_periods_is_warmed_anew(world: World) -> None:
    """While it is granted: else all that were warmed in one month would be unknown from one moment on."""
    world.warmed()
    kept = world.held(5)
    following = periods_at(world.now)[2]
    assert world.warm() == a.AlreadyKnown()
    world.set_clock(following.start_micros)
    assert world.refused_by(1) == []
    assert world.run(encoding.asked_to_warm(tag=world.tag)) == (world.name,)
    assert world.warm(still_open=()) == a.Unexamined(1)
    assert world.hold(1) == a.Unknown(), "so that no more come in"
    world.warmed()
    assert world.run(encoding.asked_to_warm(tag=world.tag)) == ()
    assert world.warm() == a.AlreadyKnown()
    world.set_clock(following.end_micros)
    assert world.refused_by(1) == []
    assert world.run(encoding.asked_to_warm(tag=world.tag)) == (world.name,)
    assert world.release(kept) == a.Released(5)


def a_known_organization_isn_t_denied_in_the_last_of_its_periods(world: World) -> None:
    world.warmed()
    world.set_clock(world.period.end_micros)
    call = encoding.deny(
        world.name, epoch=1, phase="open", position=world.position, for_micros=10**7, tag=world.tag
    )
    assert world.run(call) == a.AlreadyKnown()
    assert world.refused_by(1) == []


def a_stale_snapshot_in_the_last_period_only_makes_unknown(world: World) -> None:
    world.warmed()
    late = world.snapshot()
    world.apply(spent={"organization": 20})
    world.set_clock(world.period.end_micros)
    assert isinstance(world.run(encoding.warm(world.name, late, tag=world.tag)), a.BelowFloor)
    assert world.hold(1) == a.Unknown()
    world.warmed()


def what_is_released_past_the_end_isn_t_held_when_the_clock_goes_back(world: World) -> None:
    """Past the end of the next period it is unknown, but nobody has noted that yet."""
    world.warmed()
    one = world.held(5)
    now, end = world.now, periods_at(world.now)[2].end_micros
    world.set_clock(end)
    assert world.release(one) == a.Released(5)
    world.set_clock(now)
    assert [row.held_micros for row in world.status().limits] == [0, 0, 0]


COPY = (
    a_known_organization_isn_t_denied_in_the_last_of_its_periods,
    what_is_used_in_the_last_of_its_periods_is_warmed_anew,
    a_stale_snapshot_in_the_last_period_only_makes_unknown,
    what_is_released_past_the_end_isn_t_held_when_the_clock_goes_back,
    an_unknown_organization_is_closed_and_asks_to_be_warmed,
    the_hold_of_a_dead_emitter_is_freed_without_traffic,
    warm_strikes_the_retired_off_the_list,
    an_apply_moves_redis_from_its_offset_only,
    an_apply_of_nothing_known_leaves_a_floor,
    a_known_organization_is_left_alone,
    a_snapshot_has_to_be_asked_about_every_hold,
    a_snapshot_from_before_the_epoch_opened_is_refused,
    caps_are_of_the_period_of_redis_clock,
    a_hold_stays_in_the_period_that_admitted_it,
    a_total_of_half_a_period_makes_unknown,
)
