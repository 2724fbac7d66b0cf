"""What is folded reaches Redis: at once, late, twice, or never, and then the organization is unknown."""

from __future__ import annotations

from enforcement.world import USD, World

from tollkeeper.gate import answers as a

COST = 3_000
"""Micro-USD of one usage."""


def test_the_first_hold_of_a_cold_organization_is_granted_after_one_warming(world: World) -> None:
    world.open()
    world.start_emitter()
    assert world.hold(USD) == a.Unknown()
    assert world.consumer.enforcement.warm() == 1
    assert isinstance(world.hold(USD), a.Granted)
    world.assert_equal()


def test_usage_that_is_folded_settles_its_hold_in_the_same_step(world: World) -> None:
    world.open()
    world.start_emitter()
    one = world.held(USD)
    assert world.credits().held_micros == USD
    world.use(one)
    world.consumer.fold()
    assert (world.credits().spent_micros, world.credits().held_micros) == (COST, 0)
    assert world.open_holds() == ()
    world.assert_equal()


def test_a_cap_that_is_raised_is_in_force_after_the_fold(world: World) -> None:
    world.open()
    world.start_emitter()
    world.held(USD)
    world.cap(3, USD)
    world.consumer.fold()
    assert isinstance(world.hold(1), a.Refused)
    world.cap(4, 2 * USD)
    world.consumer.fold()
    assert isinstance(world.hold(1), a.Granted)
    world.assert_equal()
