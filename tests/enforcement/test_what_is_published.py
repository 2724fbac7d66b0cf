"""Product services are told prices and policies, in the order of their versions, and again in a new epoch."""

from __future__ import annotations

from base64 import b64decode

from enforcement.world import World
from support.events import NOON, prices

from tollkeeper.events.codec import decode
from tollkeeper.events.prices import PricesWithdrawn
from tollkeeper.gate import encoding
from tollkeeper.gate.answers import Published


def published(world: World) -> Published:
    return world.run(encoding.published("prices", tag=world.tag))


def test_prices_are_published_once_the_epoch_has_begun(world: World) -> None:
    assert world.consumer.enforcement.publish(), "there is nowhere to publish"
    world.open()
    assert world.consumer.enforcement.publish()
    found = published(world)
    assert found.version == 1
    assert [decode(b64decode(item)) for item in found.items] == [prices()]


def test_what_was_withdrawn_is_no_part_of_a_later_version(world: World) -> None:
    world.open()
    later = prices(publication_id="p-2", effective_from=NOON + 10**12)
    world.append(later)
    world.consumer.fold()
    world.consumer.enforcement.publish()
    assert (published(world).version, len(published(world).items)) == (2, 2)
    world.append(
        PricesWithdrawn(
            publication_id="p-2", command_id="c-w", actor="operator", occurred_at=world.now
        )
    )
    world.consumer.fold()
    world.consumer.enforcement.publish()
    assert published(world).version == 3
    assert [decode(b64decode(item)) for item in published(world).items] == [prices()]


def test_a_new_epoch_is_told_again_and_nobody_else(world: World) -> None:
    world.open()
    world.consumer.enforcement.publish()
    names: list[str] = []
    world.functions.before = names.append
    assert world.consumer.enforcement.publish()
    assert names == []
    world.functions.be_back()
    world.functions.become("run2")
    world.consumer.enforcement.keep()
    assert not world.consumer.enforcement.publish(), "SQL has an epoch that has not begun"
    world.recover()
    assert published(world).version == 0
    assert world.consumer.enforcement.publish()
    assert published(world).version == 1
