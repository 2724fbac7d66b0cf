"""Redis and SQL at one offset: the first difference is named, and mended when that is asked for."""

from __future__ import annotations

import pytest
from enforcement.world import USD, World
from gate.spoiling import spoil

from tollkeeper.gate.keys import organization_keys
from tollkeeper.money.periods import period_at


def known(world: World) -> None:
    """Acme with usage, a hold and a cap, known and equal."""
    world.open().start_emitter()
    world.cap(3, 20 * USD)
    world.use()
    world.consumer.fold()
    world.held(USD)
    world.assert_equal()


@pytest.mark.parametrize(
    ("field", "wrong", "right"),
    [
        ("used", "2999", "3000"),
        ("purchased", "9999999", "10000000"),
        ("funding", "arrears", "prepaid"),
        ("levels", "organization", "organization member"),
        ("member bob", "1", None),
        ("member ann", None, "1"),
        ("cap organization/{acme}", "1", "20000000"),
        ("cap member", "7", "unlimited"),
        ("cap member/ann", "7", None),
        ("spent {start} organization/{acme}", "3001", "3000"),
        ("spent {start} member/ann", None, "3000"),
        ("held", "0", "1000000"),
        ("held {start} member/ann", "1000001", "1000000"),
    ],
)
def test_the_first_difference_is_named_and_mended(
    world: World, field: str, wrong: str | None, right: str | None
) -> None:
    known(world)
    start = str(period_at(world.now).start_micros)
    field = field.format(acme=world.acme, start=start)
    spoil(world.server.client, world.acme, field, wrong)
    if field == "held":
        wrong = None  # as good as nothing
    reconcile = world.consumer.enforcement.reconcile
    (found,) = reconcile([world.acme])
    assert (found.verdict, found.field) == ("different", field)
    assert (found.in_redis, found.in_sql) == (wrong, right)
    (mended,) = reconcile([world.acme], repair=True)
    assert (mended.verdict, mended.is_repaired) == ("different", True)
    world.assert_equal()
    assert world.credits().held_micros == USD


def test_a_hold_that_was_settled_is_a_difference(world: World) -> None:
    known(world)
    one = world.held(USD)
    state, _ = organization_keys(world.acme)
    row = world.server.client.hget(state, f"hold {one.hold_id}")
    world.use(one)
    world.consumer.fold()
    world.server.client.hset(state, f"hold {one.hold_id}", row)
    (found,) = world.consumer.enforcement.reconcile([world.acme])
    assert (found.field, found.in_redis, found.in_sql) == (
        f"hold {one.hold_id}",
        "open",
        "settled",
    )


def test_who_is_behind_isn_t_different_and_is_mended_too(world: World) -> None:
    known(world)
    world.functions.be_away()
    world.use()
    world.consumer.fold()
    world.functions.be_back()
    (found,) = world.consumer.enforcement.reconcile([world.acme])
    assert (found.verdict, found.field) == ("behind", "offset")
    (mended,) = world.consumer.enforcement.reconcile([world.acme], repair=True)
    assert mended.is_repaired
    world.assert_equal()


def test_what_is_unknown_has_nothing_to_compare(world: World) -> None:
    known(world)
    names = [world.other, world.acme, f"{world.tag}-nobody"]
    found = world.consumer.enforcement.reconcile(names)
    assert [one.organization for one in found] == names
    assert [one.verdict for one in found] == ["unknown", "equal", "unknown"]
    world.functions.become("run2")
    world.consumer.enforcement.keep()
    (found_now,) = world.consumer.enforcement.reconcile([world.acme])
    assert found_now.verdict == "unknown", "what it has is of another epoch"
