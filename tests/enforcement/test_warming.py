"""A snapshot becomes what Redis knows only when nothing came in between; each case is made by hand."""

from __future__ import annotations

from enforcement.world import USD, Consumer, World
from support.events import bought, opened

from tollkeeper.gate import answers as a
from tollkeeper.gate import encoding
from tollkeeper.money.instants import MICROS_PER_DAY

COST = 3_000


def asked(world: World) -> tuple[str, ...]:
    return world.run(encoding.asked_to_warm(tag=world.tag))


def test_a_snapshot_that_a_late_apply_overtook_is_read_again(world: World) -> None:
    """A fold is committed and told after the snapshot was read: Redis would be set back to before it."""
    world.open().start_emitter()
    world.hold(1)

    def fold() -> None:
        world.use()
        world.consumer.fold()

    world.functions.meanwhile("warm", fold)
    assert world.consumer.enforcement.warm() == 1
    assert world.credits().spent_micros == COST
    world.assert_equal()


def test_a_snapshot_of_before_the_epoch_was_open_warms_nothing(world: World) -> None:
    """Usage that was on the log as the server recovered may be missing in it."""
    world.open().start_emitter()
    world.functions.become("run2")
    world.recover()
    world.hold(1)
    warmer = world.consumer.enforcement.warmer(world.tag)

    def go_on() -> None:
        world.answer()
        world.consumer.turn()
        assert world.key.phase == "open"

    world.functions.meanwhile("warm", go_on)
    assert warmer.warm([world.acme], now=world.now) == 0
    assert not world.is_known()
    assert warmer.warm([world.acme], now=world.now) == 1
    world.assert_equal()


def test_a_retirement_between_snapshot_and_warm_drops_its_holds(world: World) -> None:
    world.open().start_emitter("em-1")
    world.start_emitter("em-2")
    world.held(USD, emitter="em-2")
    world.run(encoding.make_unknown(world.acme, 0, epoch=1, tag=world.tag))
    world.hold(1)

    def retire() -> None:
        world.retire("em-2")
        world.consumer.fold()

    world.functions.meanwhile("warm", retire)
    assert world.consumer.enforcement.warm() == 1
    assert world.open_holds() == ()
    assert world.credits().held_micros == 0
    assert asked(world) == ()
    world.assert_equal()


def test_holds_that_the_snapshot_wasn_t_asked_about_are_looked_up(world: World) -> None:
    """Another consumer warms, a hold is granted, and something makes the organization unknown again."""
    world.open().start_emitter()
    other = Consumer(world, "another")

    def meanwhile() -> None:
        other.enforcement.warm()
        world.held(USD)
        world.run(encoding.make_unknown(world.acme, 0, epoch=1, tag=world.tag))

    world.hold(1)
    world.functions.meanwhile("warm", meanwhile)
    assert world.consumer.enforcement.warm() == 1
    assert world.credits().held_micros == USD
    world.assert_equal()
    other.close()


def test_usage_that_was_folded_meanwhile_settles_its_hold_in_the_snapshot(world: World) -> None:
    world.open().start_emitter()
    one = world.held(USD)
    world.run(encoding.make_unknown(world.acme, 0, epoch=1, tag=world.tag))
    world.use(one)
    world.functions.be_away()
    world.consumer.fold()
    world.functions.be_back()
    world.hold(1)
    assert world.consumer.enforcement.warm() == 1
    assert (world.credits().held_micros, world.credits().spent_micros) == (0, COST)
    world.assert_equal()


def test_quarantined_usage_settles_its_hold(world: World) -> None:
    """An unpriced model: the money is asked for later, if at all; the hold goes."""
    world.open().start_emitter()
    one, other = world.held(USD), world.held(USD)
    world.use(one, model="nobody-has-priced-it")
    world.consumer.fold()
    assert world.open_holds() == (other.hold_id,)
    assert (world.credits().held_micros, world.credits().spent_micros) == (USD, 0)
    world.run(encoding.make_unknown(world.acme, 0, epoch=1, tag=world.tag))
    world.use(other, model="nobody-has-priced-it")
    world.consumer.fold()
    world.warm()
    assert world.open_holds() == ()
    world.assert_equal()


def test_nobody_s_organization_is_named_as_the_reason_until_it_is_opened(world: World) -> None:
    world.open().start_emitter()
    name = f"{world.tag}-late"
    world.note("em-1", name)
    assert world.hold(1, name) == a.Unknown()
    assert world.consumer.enforcement.warm() == 1
    refused = world.hold(1, name)
    assert isinstance(refused, a.Refused)
    assert [one.name for one in refused.reasons] == ["organization"]
    assert asked(world) == ()
    world.append(opened(name), bought(name, 2))
    world.consumer.fold()
    assert world.hold(1, name) == a.Unknown()
    assert world.consumer.enforcement.warm() == 1
    assert isinstance(world.hold(1, name), a.Granted)


def test_an_organization_that_is_opened_as_it_is_denied_isn_t_refused(world: World) -> None:
    world.open().start_emitter()
    name = f"{world.tag}-late"
    world.note("em-1", name)
    world.hold(1, name)

    def open_it() -> None:
        world.append(opened(name), bought(name, 2))
        world.consumer.fold()

    world.functions.meanwhile("deny", open_it)
    assert world.consumer.enforcement.warm() == 1
    assert isinstance(world.hold(1, name), a.Granted)


def test_nothing_is_warmed_while_the_server_recovers(world: World) -> None:
    world.open().start_emitter()
    world.hold(1)
    world.functions.become("run2")
    world.recover()
    names: list[str] = []
    world.functions.before = names.append
    assert world.consumer.enforcement.warm() == 0
    assert names == ["epoch"]


def test_periods_roll_over_where_they_were_told_and_end_after_the_next_one(world: World) -> None:
    world.open().start_emitter()
    world.use()
    world.consumer.fold()
    world.warm()
    assert world.limits()["organization_cap"].spent_micros == COST
    world.pass_time(30 * MICROS_PER_DAY / 1_000_000)
    assert world.limits()["organization_cap"].spent_micros == 0
    world.use()
    world.consumer.turn()
    assert world.limits()["organization_cap"].spent_micros == COST
    world.assert_equal()
    world.pass_time(30 * MICROS_PER_DAY / 1_000_000)
    assert not world.is_known()
    world.consumer.turn()
    world.warm()
    assert world.credits().spent_micros == 2 * COST
    assert world.limits()["organization_cap"].spent_micros == 0
    world.assert_equal()


def test_many_are_warmed_at_once_and_the_rest_in_the_next_round(world: World) -> None:
    world.set(warm_at_once=3)
    world.open().start_emitter()
    names = [f"{world.tag}-{number}" for number in range(5)]
    for name in names:
        world.append(opened(name), bought(name, 2))
    world.consumer.fold()
    world.note("em-1", *names)
    for name in names:
        assert world.hold(1, name) == a.Unknown()
    assert [world.consumer.enforcement.warm() for _ in range(3)] == [3, 2, 0]
    assert all(isinstance(world.hold(1, name), a.Granted) for name in names)
