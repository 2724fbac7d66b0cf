"""Who was retired has no holds, with or without traffic; who is unseen for long is retired."""

from __future__ import annotations

import pytest
from enforcement.world import PARTITIONS, USD, World

from tollkeeper.errors import GateUnavailable
from tollkeeper.events.emitters import EmitterRetired, EmitterStarted
from tollkeeper.gate import answers as a
from tollkeeper.gate import encoding
from tollkeeper.log.partitioner import partition_for


def test_a_retired_emitter_s_holds_go_without_traffic(world: World) -> None:
    world.open().start_emitter("em-1")
    world.start_emitter("em-2")
    kept = world.held(USD, emitter="em-1")
    world.held(USD, emitter="em-2")
    world.retire("em-2")
    world.consumer.turn()
    assert world.open_holds() == (kept.hold_id,)
    assert world.credits().held_micros == USD
    standing = world.run(encoding.emitter_standing("em-2", tag=world.tag))
    assert standing == a.EmitterStanding("retired", ())
    world.assert_equal()


def test_holds_stay_until_their_own_partition_has_folded_the_retirement(world: World) -> None:
    """What the emitter had logged there isn't folded before."""
    world.open().start_emitter()
    one = world.held(USD)
    home = partition_for(world.acme, PARTITIONS)
    fact = EmitterRetired(
        emitter="em-1", actor="operator", reason="operator", occurred_at=world.now
    )
    world.append(fact, only=(home + 1) % PARTITIONS)
    world.consumer.turn()
    assert world.hold(1) == a.EmitterRefused("retired")
    world.run(encoding.make_unknown(world.acme, 0, epoch=1, tag=world.tag))
    world.warm()
    assert world.open_holds() == (one.hold_id,)
    world.use(one)
    world.append(fact, only=home)
    world.consumer.turn()
    assert world.open_holds() == ()
    assert world.credits().spent_micros == 3_000
    world.assert_equal()


def test_a_note_stays_until_its_organization_s_own_partition_has_folded_it(world: World) -> None:
    """Struck by another partition's fold, the hold would be found by nobody."""
    world.open().start_emitter()
    for _ in range(5):
        world.use()  # its partition is the longer one
    one = world.held(USD)
    home = partition_for(world.acme, PARTITIONS)
    fact = EmitterRetired(
        emitter="em-1", actor="operator", reason="operator", occurred_at=world.now
    )
    for partition, left in (((home + 1) % PARTITIONS, (one.hold_id,)), (home, ())):
        world.append(fact, only=partition)
        world.consumer.turn()
        assert world.open_holds() == left
    world.assert_equal()


def test_a_start_that_comes_after_the_retirement_lists_nobody(world: World) -> None:
    """Another partition is behind, or a sender repeats itself; also in a new epoch."""
    world.open()
    world.retire("em-1")
    world.consumer.turn()
    world.append(EmitterStarted(emitter="em-1", occurred_at=world.now))
    world.consumer.turn()
    standing = world.run(encoding.emitter_standing("em-1", tag=world.tag))
    assert standing.standing == "retired"
    world.functions.become("run2")
    world.recover()
    world.append(EmitterStarted(emitter="em-1", occurred_at=world.now))
    world.consumer.turn()
    standing = world.run(encoding.emitter_standing("em-1", tag=world.tag))
    assert standing.standing == "retired"
    assert world.key.phase == "open"


def test_a_retirement_of_more_organizations_than_fit_a_round_goes_on_later(world: World) -> None:
    world.set(at_once=1)
    world.open().start_emitter()
    world.note("em-1", world.acme, world.other)
    world.held(USD)
    world.held(USD, world.other)
    world.retire("em-1")
    world.functions.meanwhile("strike_notes", lambda: world.pass_time(0.6), times=5)
    world.consumer.fold()
    world.functions.be_back()
    for _ in range(3):
        world.consumer.turn()
    assert world.open_holds() == world.open_holds(world.other) == ()


def test_who_is_unseen_for_long_is_retired_once(world: World) -> None:
    world.open().start_emitter("em-1")
    world.start_emitter("em-2")
    world.held(USD, emitter="em-2")
    retire = world.consumer.enforcement.retire
    assert retire() == ()
    world.pass_time(899.9)
    world.consumer.turn()
    world.run(encoding.touch("em-1", tag=world.tag))
    assert retire() == ()
    world.pass_time(0.1)
    assert retire() == ("em-2",)
    assert retire() == ()
    world.consumer.turn()
    assert world.open_holds() == ()
    assert world.consumer.heard.gone == [("em-2", "unseen")]
    assert world.run(encoding.touch("em-2", tag=world.tag)).standing == "retired"  # type: ignore[union-attr] # there is an epoch


def test_a_clock_that_jumps_ahead_retires_nobody_who_lives(world: World) -> None:
    world.open().start_emitter("em-1")
    retire = world.consumer.enforcement.retire
    retire()
    world.server.set_clock(world.now + 3_600_000_000)
    assert retire() == ()
    world.pass_time(1.0)
    world.server.set_clock(world.now + 3_600_000_000)
    world.run(encoding.touch("em-1", tag=world.tag))
    world.seconds += 60
    assert retire() == ()


def test_who_is_to_be_retired_soon_is_watched_no_longer_than_that(world: World) -> None:
    world.set(retire_after_s=3.0)
    world.open().start_emitter("em-1")
    retire = world.consumer.enforcement.retire
    assert retire() == ()
    world.pass_time(2.9)
    assert retire() == ()
    world.pass_time(0.1)
    assert retire() == ("em-1",)


def test_nobody_is_retired_while_a_primary_is_away(world: World) -> None:
    world.open().start_emitter("em-1")
    retire = world.consumer.enforcement.retire
    retire()
    world.pass_time(900)
    world.functions.be_away()
    with pytest.raises(GateUnavailable):
        retire()
    world.functions.be_back()
    assert retire() == ("em-1",)
