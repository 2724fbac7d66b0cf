"""Two primaries: one that is away keeps nothing from the other."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TypeVar

import pytest
from enforcement.told_functions import Functions
from enforcement.world import USD, Consumer, World, a_world
from services.finding import Service
from support.events import NOON, prices

from tollkeeper.errors import GateUnavailable
from tollkeeper.gate import answers as a
from tollkeeper.gate import encoding
from tollkeeper.gate.encoding import Call

A = TypeVar("A")
COST = 3_000
"""Micro-USD of one usage."""


class TwoPrimaries(Functions):
    """`there` has one organization, and can be away. Both are the test's server, at tags of their own."""

    def put_there(self, organization: str) -> None:
        self.organization, self.there = organization, f"{self._tag}-there"
        self.is_away = False
        self.asked_in_vain = 0
        self.said_to_be_at = self.there
        self.is_left = False

    def run(self, call: Call[A]) -> A:
        """See GateFunctions."""
        is_there = any(one in call.keys[0] for one in (self.there, self.organization))
        if is_there and self.is_away:
            self.asked_in_vain += 1
            raise GateUnavailable("the test says so")
        return super().run(call)

    def tag_of(self, organization: str) -> str:
        """See GateFunctions."""
        return self.said_to_be_at if organization == self.organization else self._tag

    def tags(self) -> tuple[str, ...]:
        """See GateFunctions."""
        return (self._tag,) if self.is_left else (self._tag, self.there)


@pytest.fixture
def two(valkey: Service, tmp_path: Path) -> Iterator[World]:
    """`acme` is here and `other` there; both have an open epoch, and are warmed."""
    with a_world(valkey.address, f"sqlite:///{tmp_path}/ledger.sqlite", tmp_path) as world:
        functions = TwoPrimaries(world.server.client, world.server.library, world.tag)
        functions.put_there(world.other)
        world.functions = functions
        world.restart()
        world.open().start_emitter()
        world.held(USD)
        key = world.run(encoding.read_epoch(tag=functions.there))
        assert isinstance(key, a.EpochKey)
        assert key.phase == "open"
        world.consumer.enforcement.warmer(functions.there).warm([world.other], now=world.now)
        yield world


def there_of(world: World) -> TwoPrimaries:
    assert isinstance(world.functions, TwoPrimaries)
    return world.functions


def test_who_is_away_keeps_nothing_from_the_others(two: World) -> None:
    there = there_of(two)
    there.is_away = True
    for count in (1, 2, 3):
        two.use(organization=two.other)
        two.use()
        two.consumer.fold()
        assert two.credits().spent_micros == count * COST, "told at once, as if all were there"
    applier = two.consumer.enforcement.applier
    assert applier.behind()
    assert not applier.tick()
    there.is_away = False
    two.pass_time(1.0)
    assert applier.tick()
    assert not two.is_known(two.other)
    two.consumer.enforcement.warmer(there.there).warm([two.other], now=two.now)
    assert two.credits(two.other).spent_micros == 3 * COST
    two.held(1)
    assert two.credits().spent_micros == 3 * COST
    two.assert_equal()


def test_the_fold_waits_ever_less_often_for_who_is_away(two: World) -> None:
    there = there_of(two)
    there.is_away = True
    waited = []
    for _ in range(40):
        before = there.asked_in_vain
        two.use(organization=two.other)
        two.consumer.fold()
        waited.append(there.asked_in_vain > before)
        two.pass_time(1.0)
    assert [at for at, waits in enumerate(waited) if waits] == [0, 1, 3, 7, 15, 31]
    there.is_away = False
    assert two.consumer.enforcement.applier.tick()
    two.use(organization=two.other)
    two.consumer.fold()
    assert two.consumer.enforcement.applier.behind() == []


def test_nobody_counts_as_told_while_it_isn_t_known_whose_it_is(two: World) -> None:
    """A cluster that is being changed."""
    there = there_of(two)
    before = two.consumer.enforcement.applier.applied()

    def nobody_s(organization: str) -> str:
        raise GateUnavailable(f"the cluster has no primary for {organization}")

    there.tag_of = nobody_s  # type: ignore[method-assign]  # until it is deleted
    two.use(organization=two.other)
    two.consumer.fold()
    assert two.consumer.enforcement.applier.applied() == before
    del there.tag_of
    assert two.consumer.enforcement.applier.tick()
    assert not two.is_known(two.other)


def test_a_new_owner_finds_what_one_primary_was_never_told(two: World) -> None:
    there = there_of(two)
    there.is_away = True
    two.use()
    two.use(organization=two.other)
    two.consumer.fold()
    there.is_away = False
    two.consumer = Consumer(two, "another")
    two.consumer.fold()
    assert two.consumer.enforcement.applier.tick()
    assert not two.is_known(two.other)
    two.consumer.enforcement.warmer(there.there).warm([two.other], now=two.now)
    assert two.credits(two.other).spent_micros == COST


def test_news_reach_those_that_are_there(two: World) -> None:
    there = there_of(two)
    two.consumer.enforcement.publish()
    there.is_away = True
    two.append(prices(publication_id="p-2", effective_from=NOON + 10**12))
    two.consumer.fold()
    with pytest.raises(GateUnavailable):
        two.consumer.enforcement.publish()
    assert two.functions.run(encoding.published("prices", tag=two.tag)).version == 2
    there.is_away = False
    assert two.consumer.enforcement.publish()
    assert two.functions.run(encoding.published("prices", tag=there.there)).version == 2


def test_rounds_that_are_about_others_ask_nothing(two: World) -> None:
    """So they say nothing of a primary that is away, either."""
    there = there_of(two)
    there.is_away = True
    waited = 0
    for _ in range(40):
        for _ in range(4):
            two.use()
            two.consumer.fold()
            two.pass_time(0.2)
        before = there.asked_in_vain
        two.use(organization=two.other)
        two.consumer.fold()
        waited += there.asked_in_vain > before
        two.pass_time(0.2)
    assert waited == 6


def test_a_primary_that_is_none_holds_up_nobody_for_long(two: World) -> None:
    """A table of slots that was half renewed names one for a moment."""
    there = there_of(two)
    applier = two.consumer.enforcement.applier
    there.said_to_be_at = f"{two.tag}-none"
    two.use(organization=two.other)
    two.consumer.fold()
    assert not applier.tick()
    there.said_to_be_at = there.there
    assert applier.tick()
    assert applier.behind() == []
    assert applier.applied() == two.consumer.pipeline.owned
    assert not two.is_known(two.other)


def test_who_moved_while_its_primary_was_away_is_made_unknown_where_it_is(two: World) -> None:
    there = there_of(two)
    there.is_away = True
    two.use(organization=two.other)
    two.consumer.fold()
    two.pass_time(1.0)
    assert not two.consumer.enforcement.applier.tick(), "what it lacks is read by now"
    there.is_away = False
    there.said_to_be_at = two.tag  # its slot was moved, with its keys
    two.pass_time(1.0)
    assert two.consumer.enforcement.applier.tick()
    assert not two.is_known(two.other)


def test_a_primary_that_the_cluster_has_no_more_holds_up_nobody(two: World) -> None:
    there = there_of(two)
    there.said_to_be_at, there.is_left = two.tag, True
    client = two.server.client
    client.delete(*client.scan_iter(f"tollkeeper-primary:{{{there.there}}}*"))
    for group in ("tollkeeper", "another"):
        consumer = two.restart(group)
        two.use()
        consumer.fold()
        consumer.enforcement.applier.tick()
        assert consumer.enforcement.applier.behind() == []
