"""One trusted incarnation of Redis: begun, recovered, opened and leased, by whoever is there."""

from __future__ import annotations

import pytest
from enforcement.told_functions import Crash
from enforcement.world import USD, Consumer, World

from tollkeeper.enforcement.stepping import incarnation_of
from tollkeeper.events.emitters import EmitterStarted
from tollkeeper.gate import answers as a
from tollkeeper.gate import encoding
from tollkeeper.ledger.enforcing import raise_epoch
from tollkeeper.ledger.store import SqlLedger
from tollkeeper.outbox.database import writing
from tollkeeper.replay.verify import rebuild

COST = 3_000


def test_the_first_epoch_is_open_at_once(either_world: World) -> None:
    """Nobody was ever granted anything: nothing is to be waited for but the fold."""
    world = either_world
    state = world.keeper.tick()
    assert (state.epoch, state.state, state.waits_for) == (1, "recovering", "the fold")
    world.consumer.fold()
    assert world.keeper.tick().state == "open"
    assert (world.row.epoch, world.row.phase, world.key.phase) == (1, "open", "open")
    assert world.key.lease_until == world.now + 2_000_000


def test_the_lease_counts_from_before_sql_was_read(world: World) -> None:
    world.open()
    world.pass_time(1.0)
    asked_at = world.now
    world.functions.meanwhile("renew", lambda: world.pass_time(5.0))
    world.consumer.enforcement.keep()
    assert world.key.lease_until == asked_at + 2_000_000 < world.now
    world.start_emitter()
    world.pass_time(3.0)
    assert world.hold(1) == a.Untrusted("lease", 1)


def test_another_server_is_an_epoch_of_its_own_once_old_leases_are_over(world: World) -> None:
    world.open().start_emitter()
    one = world.held(USD)
    world.functions.become("run2")
    state = world.keeper.tick()
    assert (state.epoch, state.state, state.waits_for) == (2, "raised", "old leases")
    assert (world.row.epoch, world.row.run_id, world.row.phase) == (2, "run2", "recovering")
    assert world.key.epoch == 1
    world.pass_time(2.1)
    assert world.keeper.tick().state == "raised"
    assert world.key.epoch == 1, "clocks differ in their speed"
    world.pass_time(0.1)
    state = world.keeper.tick()
    assert (state.state, state.waits_for) == ("recovering", "1 emitters, em-1 among them")
    assert (world.key.epoch, world.key.run_id, world.key.phase) == (2, "run2", "recovering")
    world.answer("em-1", one)
    assert world.keeper.tick().state == "open"
    assert world.hold(1) == a.Unknown()
    world.consumer.enforcement.warm()
    assert world.open_holds() == (one.hold_id,)
    assert world.credits().held_micros == USD
    assert isinstance(world.hold(9 * USD), a.Granted)
    assert isinstance(world.hold(1), a.Refused)
    world.assert_equal()


def test_another_history_of_the_same_run_is_another_server(world: World) -> None:
    """A primary that was a replica meanwhile has lost what it had not passed on."""
    world.open()
    world.functions.become("run1", "history2")
    world.recover()
    assert (world.key.epoch, world.key.replication_id) == (2, "history2")
    assert world.key.phase == "open"
    assert world.consumer.heard.causes == ["no_row", "incarnation"]


def test_who_is_silent_is_retired_by_name_and_its_holds_are_gone(world: World) -> None:
    world.open().start_emitter("em-1")
    world.start_emitter("em-2")
    one, other = world.held(USD, emitter="em-1"), world.held(2 * USD, emitter="em-2")
    world.functions.become("run2")
    world.recover()
    world.answer("em-1", one)
    world.pass_time(29.9)
    world.consumer.turn()
    assert world.consumer.heard.gone == []
    world.pass_time(0.1)
    world.consumer.enforcement.keep()
    assert world.consumer.heard.gone == [("em-2", "recovery")]
    assert world.key.phase == "recovering", "its retirement isn't folded yet"
    world.consumer.turn()
    assert world.key.phase == "open"
    world.held(1)
    assert world.credits().held_micros == USD + 1
    assert other.hold_id not in world.open_holds()
    assert world.hold(1, emitter="em-2") == a.EmitterRefused("retired")


def test_usage_that_is_on_the_log_is_folded_before_anything_is_granted(world: World) -> None:
    """Its emitter doesn't re-assert it any more, and no snapshot shows it yet."""
    world.open().start_emitter()
    one = world.held(10 * USD)
    world.functions.become("run2")
    world.consumer.enforcement.keep()
    world.pass_time(2.5)
    world.consumer.enforcement.keep()
    world.use(one, input_tokens=4_000_000, output_tokens=0)
    world.answer("em-1")
    for _ in range(3):
        state = world.keeper.tick()
        assert (state.state, state.waits_for) == ("recovering", "the fold")
        assert world.row.phase == world.key.phase == "recovering"
        world.consumer.enforcement.warm()
    world.consumer.turn()
    assert world.key.phase == "open"
    world.held(2 * USD)
    assert world.credits().spent_micros == 8 * USD
    assert isinstance(world.hold(1), a.Refused)


def test_who_answers_after_the_ends_were_read_has_them_read_again(world: World) -> None:
    """An emitter that is found late, SQL having been behind, may have logged usage meanwhile."""
    world.open().start_emitter()
    one = world.held(USD)
    world.functions.become("run2")
    world.recover()
    world.answer("em-1", one)
    world.use()
    world.keeper.tick()  # reads the ends, which aren't folded
    world.append(emitter_started(world, "em-2"))
    world.consumer.fold()
    assert world.keeper.tick().waits_for == "1 emitters, em-2 among them"
    world.use()
    world.answer("em-2")
    assert world.keeper.tick().waits_for == "the fold"
    world.consumer.turn()
    assert world.key.phase == "open"


def emitter_started(world: World, emitter: str) -> EmitterStarted:
    return EmitterStarted(emitter=emitter, occurred_at=world.now)


def test_a_wiped_server_is_an_epoch_of_its_own(world: World) -> None:
    world.open().start_emitter()
    one = world.held(USD)
    world.wipe()
    world.recover()
    assert world.key.epoch == 2
    assert world.consumer.heard.causes == ["no_row", "no_key"]
    world.answer("em-1", one)
    world.consumer.turn()
    world.held(9 * USD)
    assert isinstance(world.hold(1), a.Refused)
    world.assert_equal()


def test_a_server_that_is_wiped_as_it_recovers_begins_anew(world: World) -> None:
    """Who had answered would be taken not to have any holds."""
    world.open().start_emitter()
    one = world.held(USD)
    world.functions.become("run2")
    world.recover()
    world.answer("em-1", one)
    world.wipe()
    world.consumer.enforcement.keep()
    world.recover()
    assert world.key.epoch == 3
    assert world.key.phase == "recovering"
    world.answer("em-1", one)
    world.consumer.turn()
    assert world.key.phase == "open"
    world.held(1)
    assert one.hold_id in world.open_holds()


def test_a_swap_of_generations_is_an_epoch_of_its_own(either_world: World) -> None:
    world = either_world
    world.open().start_emitter()
    one = world.held(USD)
    world.use()
    world.consumer.fold()
    report = rebuild(
        world.log, SqlLedger(world.engine), swap=True, now=world.now, progress=lambda _: None
    )
    assert report.swapped
    assert (world.row.epoch, world.row.phase, world.row.run_id) == (2, "recovering", "run1")
    state = world.keeper.tick()
    assert (state.state, state.waits_for) == ("raised", "old leases")
    assert isinstance(world.hold(1), a.Granted), "until the lease is over"
    world.pass_time(2.5)
    assert world.hold(1) == a.Untrusted("lease", 1)
    world.use()
    world.consumer.turn()
    world.answer("em-1", one)
    world.consumer.turn()
    assert world.key.phase == "open"
    world.held(1)
    assert world.credits().spent_micros == 2 * COST
    world.assert_equal()


def test_sql_that_was_set_back_goes_above_what_redis_knows(world: World) -> None:
    world.open()
    for _ in range(3):
        with writing(world.engine) as connection:
            raise_epoch(
                connection,
                world.tag,
                expected=world.row.epoch,
                incarnation=world.functions.incarnation(),
                now_micros=world.now,
            )
        world.recover()
    assert world.key.epoch == 4
    with writing(world.engine) as connection:
        connection.exec_driver_sql("UPDATE gate_epoch SET epoch = 2")
    world.recover()
    assert world.key.epoch == world.row.epoch == 5
    assert world.consumer.heard.causes[-1] == "sql_behind"
    assert world.key.phase == "open"


def test_a_key_that_is_open_before_its_row_isn_t_believed(world: World) -> None:
    """Only a database that was set back can say so."""
    world.open()
    with writing(world.engine) as connection:
        connection.exec_driver_sql("UPDATE gate_epoch SET phase = 'recovering'")
    world.recover()
    assert world.consumer.heard.causes[-1] == "sql_not_open"
    assert (world.key.epoch, world.key.phase) == (2, "open")


def test_who_is_listed_after_the_row_was_opened_owes_an_answer(world: World) -> None:
    world.open()
    world.functions.become("run2")
    world.recover()
    world.functions.become("run3")
    world.consumer.enforcement.keep()
    world.pass_time(2.5)
    world.functions.meanwhile("open_epoch", lambda: world.run(listing(world, "em-2")))
    assert world.keeper.tick().waits_for == "1 emitters, em-2 among them"
    assert (world.row.phase, world.key.phase) == ("open", "recovering")
    world.functions.be_back()
    world.answer("em-2")
    assert world.keeper.tick().state == "open"


def listing(world: World, emitter: str) -> encoding.Call[a.EmitterAnswer]:
    return encoding.list_emitters(world.row.epoch, started=(emitter,), tag=world.tag)


EVERY = pytest.mark.parametrize("every", [5, pytest.param(1, marks=pytest.mark.soak)])
"""Which calls are interrupted."""


def a_new_server_amid_holds(world: World, number: int) -> str:
    """Of a living emitter, of a dead one, and one whose usage is on the log; answers the first one's id."""
    living, dead = f"em-{number}-1", f"em-{number}-2"
    world.start_emitter(living)
    world.start_emitter(dead)
    world.warm()
    kept = world.held(USD, emitter=living)
    world.held(USD, emitter=dead)
    world.use(world.held(USD, emitter=living))
    world.living[living] = [kept]
    world.functions.become(f"run{number + 2}")
    return kept.hold_id


def assert_recovered(world: World, kept: str) -> None:
    """The one hold that is open is there, and nothing else. Afterwards there are no holds."""
    assert incarnation_of(world.key) == world.functions.incarnation()
    world.warm()
    assert world.open_holds() == (kept,)
    world.assert_equal()
    emitter = kept.split("/")[1]
    world.run(encoding.release(kept, epoch=world.key.epoch, tag=world.tag))
    del world.living[emitter]
    world.retire(emitter)
    world.consumer.turn()


@EVERY
@pytest.mark.parametrize("is_after", [False, True])
def test_a_keeper_may_die_at_any_call_and_another_goes_on(
    valkey_world: World, every: int, is_after: bool
) -> None:
    world = valkey_world
    world.set(recovery_s=3.0)
    world.open()
    for number in range(0, 200, every):
        kept = a_new_server_amid_holds(world, number)
        world.functions.crash_at(number, is_after=is_after)
        has_crashed = False
        try:
            world.live_until_open()
        except Crash:
            has_crashed = True
        world.functions.be_back()
        world.restart()
        world.live_until_open()
        assert_recovered(world, kept)
        if not has_crashed:
            break
    assert 20 < number < 199, "a crash at each call, and one round without"


@EVERY
def test_a_keeper_that_comes_in_between_at_any_call_does_no_harm(
    valkey_world: World, every: int
) -> None:
    """Another consumer's whole turn before a call of the first one's, whichever call that is."""
    world = valkey_world
    world.set(recovery_s=3.0)
    world.open()
    other = Consumer(world, "another")
    for number in range(0, 200, every):
        kept = a_new_server_amid_holds(world, number)
        left = [number]

        def cut_in(_: str, left: list[int] = left) -> None:
            left[0] -= 1
            if left[0] == -1:
                other.enforcement.keep()
                world.living_answer()
                other.turn()

        world.functions.before = cut_in
        world.live_until_open(other)
        world.functions.be_back()
        assert_recovered(world, kept)
        if left[0] >= 0:
            break
    other.close()
    assert 20 < number < 199, "at each call, and one round without"
