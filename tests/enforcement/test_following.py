"""What is folded reaches Redis: at once, late, twice, or never, and then the organization is unknown."""

from __future__ import annotations

import pytest
from enforcement.told_functions import Crash
from enforcement.world import USD, Consumer, World
from sqlalchemy import event
from support.events import bought

from tollkeeper.events.emitters import EmitterStarted
from tollkeeper.gate import answers as a
from tollkeeper.gate import encoding
from tollkeeper.ledger.effects import Effects

COST = 3_000
"""Micro-USD of one usage."""


def stopped_before_telling(consumer: Consumer) -> list[Effects]:
    """What it would have told, until its own `folded` is given back by deleting this one."""
    told: list[Effects] = []
    consumer.enforcement.applier.folded = told.append  # type: ignore[assignment,method-assign] # see above
    return told


def test_the_first_hold_of_a_cold_organization_is_granted_after_one_warming(world: World) -> None:
    world.open().start_emitter()
    assert world.hold(USD) == a.Unknown()
    assert world.consumer.enforcement.warm() == 1
    assert isinstance(world.hold(USD), a.Granted)
    world.assert_equal()


def test_usage_that_is_folded_settles_its_hold_in_the_same_step(world: World) -> None:
    world.open().start_emitter()
    one = world.held(USD)
    assert world.credits().held_micros == USD
    world.use(one)
    world.consumer.fold()
    assert (world.credits().spent_micros, world.credits().held_micros) == (COST, 0)
    assert world.open_holds() == ()
    world.assert_equal()


def test_caps_and_credits_are_in_force_after_the_fold(world: World) -> None:
    world.open().start_emitter()
    world.held(USD)
    world.cap(3, USD)
    world.consumer.fold()
    assert isinstance(world.hold(1), a.Refused)
    world.cap(4, 11 * USD)
    world.consumer.fold()
    assert isinstance(world.hold(9 * USD), a.Granted)
    assert isinstance(world.hold(1), a.Refused)
    world.append(bought(world.acme, 5, 1_000_000_000))
    world.consumer.fold()
    assert isinstance(world.hold(1), a.Granted)
    world.assert_equal()


@pytest.mark.parametrize("is_heard", [False, True])
def test_what_was_folded_while_redis_was_away_is_caught_up_with(
    world: World, is_heard: bool
) -> None:
    world.open().start_emitter()
    one = world.held(USD)
    before = world.consumer.enforcement.applier.applied()
    world.functions.be_away(is_heard=is_heard)
    world.use(one)
    world.consumer.fold()
    assert world.consumer.enforcement.applier.applied() == before, "nobody has answered"
    assert len(world.consumer.enforcement.applier.behind()) == 1
    world.use()
    world.consumer.fold()
    world.functions.be_back()
    assert not world.consumer.enforcement.applier.tick(), "it is left alone for a while"
    world.pass_time(1.0)
    assert world.consumer.enforcement.applier.tick()
    assert not world.is_known()
    world.held(1)
    assert world.credits().spent_micros == 2 * COST
    world.assert_equal()


def test_nothing_is_read_for_a_redis_that_is_left_alone(world: World) -> None:
    """Who catches up looks many times a second."""
    world.open().start_emitter()
    world.functions.be_away()
    world.use()
    world.consumer.fold()
    read: list[str] = []
    event.listen(world.engine, "before_cursor_execute", lambda *words: read.append(words[2]))
    assert not world.consumer.enforcement.applier.tick()
    assert read == []
    world.functions.be_back()
    world.pass_time(1.0)
    assert world.consumer.enforcement.applier.tick()
    assert read


def test_a_round_that_takes_too_long_is_left_and_caught_up_with(world: World) -> None:
    world.open().start_emitter()
    world.held(USD)
    world.functions.meanwhile("list_emitters", lambda: world.pass_time(0.6))
    world.retire("em-2")
    world.use()
    world.consumer.fold()
    assert world.credits().spent_micros == 0
    assert world.consumer.enforcement.applier.tick()
    world.held(1)
    assert world.credits().spent_micros == COST
    world.assert_equal()


def test_what_is_told_while_something_is_missing_makes_unknown(world: World) -> None:
    """It doesn't follow on what Redis has; what it never missed anything of moves on."""
    world.open().start_emitter()
    world.note("em-1", world.other)
    world.held(USD)
    world.held(USD, world.other)
    applier = world.consumer.enforcement.applier
    world.functions.be_away()
    world.use()
    world.consumer.fold()
    world.functions.be_back()
    world.pass_time(1.0)
    world.use()
    world.use(organization=world.other)
    world.consumer.fold()
    assert len(applier.behind()) == 1
    assert not world.is_known()
    assert world.credits(world.other).spent_micros == COST
    assert applier.tick()
    assert applier.behind() == []
    world.held(1)
    world.assert_equal()


def test_the_fold_doesn_t_outrun_who_catches_up(world: World) -> None:
    """Another round comes while the last ones are caught up with, and it was told."""
    world.open().start_emitter()
    world.held(USD)
    applier = world.consumer.enforcement.applier
    world.functions.be_away()
    world.use()
    world.consumer.fold()
    world.functions.be_back()
    world.pass_time(1.0)

    def go_on() -> None:
        for _ in range(3):
            world.use()
            world.consumer.fold()

    world.functions.meanwhile("make_unknown", go_on)
    assert applier.tick()
    world.held(1)
    assert world.credits().spent_micros == 4 * COST
    world.assert_equal()


def test_a_round_that_was_missed_is_no_part_of_what_was_told(world: World) -> None:
    """Told, missed and told again, while the first loss is caught up with."""
    world.open().start_emitter()
    world.held(USD)
    applier = world.consumer.enforcement.applier
    world.functions.be_away()
    world.use()
    world.consumer.fold()
    world.functions.be_back()
    world.pass_time(1.0)

    def go_on() -> None:
        for is_away in (False, True, False):
            if is_away:
                world.functions.be_away()
            world.use()
            world.consumer.fold()
            world.functions.be_back()
            world.pass_time(1.0)

    world.functions.meanwhile("make_unknown", go_on)
    assert not applier.tick()
    world.functions.be_back()
    assert applier.tick()
    world.consumer.enforcement.keep()
    world.held(1)
    assert world.credits().spent_micros == 4 * COST
    world.assert_equal()


def test_a_new_owner_catches_up_from_the_stored_offset(either_world: World) -> None:
    """The last one has committed and told nobody."""
    world = either_world
    world.open().start_emitter()
    one = world.held(USD)
    world.functions.crash_at(0, is_after=False)
    world.use(one)
    with pytest.raises(Crash):
        world.consumer.fold()
    world.functions.be_back()
    assert world.open_holds() == (one.hold_id,)
    world.restart().turn()
    world.held(1)
    assert (world.credits().spent_micros, world.credits().held_micros) == (COST, 1)
    world.assert_equal()


def test_a_late_apply_of_a_former_owner_changes_nothing(world: World) -> None:
    world.open().start_emitter()
    one = world.held(USD)
    zombie = world.consumer
    late = stopped_before_telling(zombie)
    world.use(one)
    zombie.fold()
    successor = world.consumer = Consumer(world, "another")
    successor.turn()
    assert not world.is_known()
    world.held(2)
    world.use()
    successor.fold()
    world.assert_equal()
    known = world.credits()
    del zombie.enforcement.applier.folded
    for effects in late:
        zombie.enforcement.applier.folded(effects)
    assert world.credits() == known
    world.assert_equal()
    zombie.close()


def test_an_apply_of_an_epoch_that_was_raised_meanwhile_is_made_good(world: World) -> None:
    """Folded in the old epoch, told in the new one: its snapshots may have been read before."""
    world.open().start_emitter()
    world.held(USD)
    applier = world.consumer.enforcement.applier
    effects = stopped_before_telling(world.consumer)
    world.use()
    world.consumer.fold()
    del applier.folded
    world.functions.become("run2")
    world.recover()
    world.answer()
    world.consumer.enforcement.keep()
    assert world.key.phase == "open"
    assert world.hold(1) == a.Unknown()
    applier.folded(effects[0])
    assert len(applier.behind()) == 1
    assert applier.tick()
    world.held(1)
    assert world.credits().spent_micros == COST
    world.assert_equal()


def everything_happens(world: World, number: int) -> None:
    """A hold's usage, a new emitter, and the retirement of one that has a hold elsewhere, reach the log."""
    names = [f"em-{number}-{one}" for one in "abc"]
    for name in names[:2]:
        world.start_emitter(name)
        world.note(name, world.other)
    one = world.held(USD, emitter=names[0])
    world.held(USD, emitter=names[1])
    world.held(USD, world.other, emitter=names[1])
    world.use(one)
    world.append(EmitterStarted(emitter=names[2], occurred_at=world.now))
    world.retire(names[1])


def some_turns(world: World) -> None:
    """As many as it takes when nothing else happens."""
    for _ in range(3):
        world.consumer.turn()
        world.pass_time(1.0)


@pytest.mark.parametrize("is_after", [False, True])
def test_a_crash_at_any_call_leaves_redis_and_sql_to_agree(world: World, is_after: bool) -> None:
    """Listed, applied, made unknown, struck, warmed: done, done twice, or not at all."""
    world.open()
    for number in range(100):
        everything_happens(world, number)
        world.functions.crash_at(number, is_after=is_after)
        try:
            some_turns(world)
        except Crash:
            has_crashed = True
        else:
            has_crashed = False
        world.functions.be_back()
        world.restart()
        some_turns(world)
        for name in (world.acme, world.other):
            assert world.open_holds(name) == (), number
        assert world.run(encoding.asked_to_warm(tag=world.tag)) == ()
        standing = world.run(encoding.emitter_standing(f"em-{number}-b", tag=world.tag))
        assert standing == a.EmitterStanding("retired", ())
        listed = [one.emitter for one in world.run(encoding.emitters(tag=world.tag)).listed]
        assert f"em-{number}-c" in listed
        world.warm()
        world.assert_equal()
        if not has_crashed:
            break
    assert 10 < number < 99, "a crash at each call, and one round without"


def test_a_consumer_that_leaves_in_order_hands_over_what_redis_has(world: World) -> None:
    """Else the next one would take the last round for one that was never told."""
    world.open().start_emitter()
    world.held(USD)
    world.use()
    world.consumer.fold()
    world.consumer.pipeline.close()
    world.consumer = Consumer(world)
    world.consumer.fold()
    assert world.consumer.enforcement.applier.behind() == []
    assert world.is_known()
