"""Examples about what emitters follow and who is woken. Each takes a fresh world."""

from __future__ import annotations

from typing import Any

from gate.world import MINUTE, World

from tollkeeper.gate import answers as a
from tollkeeper.gate import encoding
from tollkeeper.gate.asking import bell_key
from tollkeeper.gate.commands import Incarnation


def touched(world: World, emitter: str = "em-1") -> a.Touched:
    answer = world.run(encoding.touch(emitter, tag=world.tag))
    assert isinstance(answer, a.Touched), answer
    return answer


def seen(world: World) -> list[tuple[str, str, int]]:
    found = world.run(encoding.emitters(tag=world.tag))
    assert found.now == world.now
    return [(one.emitter, one.standing, one.seen_at) for one in found.listed]


def a_touch_says_all_that_an_emitter_follows(world: World) -> None:
    """The epoch key as it is, how the emitter stands, what is published."""
    key = world.run(encoding.read_epoch(tag=world.tag))
    assert isinstance(key, a.EpochKey)
    assert touched(world) == a.Touched(
        *(key.epoch, "open", key.library, key.run_id, key.replication_id),
        *(key.lease_until, world.now, "answered", 0, 0),
    )
    world.run(encoding.publish(1, "prices", 3, ("x",), tag=world.tag))
    world.run(encoding.list_emitters(1, retired=("em-1",), tag=world.tag))
    world.set_clock(world.now + 1)
    after = touched(world)
    assert (after.now, after.standing) == (world.now, "retired")
    assert (after.prices_version, after.policies_version) == (3, 0)
    assert touched(world, "em-3").standing == "unlisted"
    world.begin_epoch(2, opened=False)
    after = touched(world)
    assert (after.epoch, after.phase, after.standing) == (2, "recovering", "started")
    nowhere = encoding.touch("em-1", tag=f"{world.tag}-nowhere")
    assert world.run(nowhere) == a.NoEpoch(world.now)


def a_touch_is_of_the_server_that_the_epoch_is_about(world: World) -> None:
    """Another run, or another history, revalidates nothing, and sees nobody."""
    here, before = world.server.here, seen(world)
    world.set_clock(world.now + MINUTE)
    for epoch, other in enumerate(
        (Incarnation("run-2", here.replication_id), Incarnation(here.run_id, "history-2")), 2
    ):
        world.run(encoding.begin_epoch(epoch, other, tag=world.tag))
        world.run(encoding.list_emitters(epoch, started=("em-1", "em-2"), tag=world.tag))
        world.set_clock(world.now + MINUTE)
        touch = encoding.touch("em-1", tag=world.tag)
        assert world.run(touch) == a.Untrusted("incarnation", epoch)
        assert {at for *_, at in seen(world)} == {world.now - MINUTE}
    assert len(before) == 2


def an_emitter_is_seen_when_it_is_listed_and_when_it_touches(world: World) -> None:
    """By Redis' clock; the longest unseen first; neither the retired nor strangers."""
    begun = world.now
    assert seen(world) == [("em-1", "answered", begun), ("em-2", "answered", begun)]
    world.set_clock(begun + MINUTE)
    touched(world)
    assert seen(world) == [("em-2", "answered", begun), ("em-1", "answered", begun + MINUTE)]
    touched(world, "em-3")
    world.run(encoding.list_emitters(1, started=("em-3", "em-2"), tag=world.tag))
    assert seen(world)[0] == ("em-2", "answered", begun), "listed again isn't seen again"
    assert seen(world)[2] == ("em-3", "started", begun + MINUTE)
    world.run(encoding.list_emitters(1, retired=("em-3",), tag=world.tag))
    touched(world, "em-3")
    world.run(encoding.list_emitters(1, started=("em-3",), tag=world.tag))
    assert world.warm(retired=("em-2",)) == a.Warmed(0, 0)
    touched(world, "em-2")
    assert [name for name, *_ in seen(world)] == ["em-1"]
    world.begin_epoch(2, opened=False)
    assert seen(world) == [("em-1", "started", world.now), ("em-2", "started", world.now)]


def what_is_published_only_goes_forward(world: World) -> None:
    """Retried it changes nothing; an older one is ignored; a new epoch has nothing until it is told."""
    items = ("eyJh", "org-1 closed".replace(" ", ","), "*")
    read = encoding.published("prices", tag=world.tag)
    assert world.run(read) == a.Published(0, ())

    def publish(version: int, *words: str, epoch: int = 1, kind: Any = "prices") -> Any:
        return world.run(encoding.publish(epoch, kind, version, words, tag=world.tag))

    assert publish(2, *items) == publish(2, "other") == a.Done("published")
    assert world.run(read) == a.Published(2, items)
    assert publish(1, "older") == a.Newer(2)
    assert publish(3, epoch=2) == a.Untrusted("epoch", 1)
    assert world.run(read) == a.Published(2, items)
    assert publish(1, "one", kind="policies") == a.Done("published")
    assert publish(3) == a.Done("published")
    assert world.run(read) == a.Published(3, ())
    world.begin_epoch(2)
    assert world.run(read) == a.Published(0, ())
    assert publish(1, "anew", epoch=2) == a.Done("published")
    policies = world.run(encoding.published("policies", tag=world.tag))
    assert policies == a.Published(0, ())


def the_bell_rings_once_for_many_who_ask(world: World) -> None:
    """Who asks anew rings; one word at most waits there; and nobody is woken for nothing."""
    gate, client, bell = world.server.gate, world.server.client, bell_key(world.tag)
    assert not gate.wait_until_asked(0.01, tag=world.tag)
    assert world.hold(1) == world.hold(1) == a.Unknown()
    assert client.llen(bell) == 1
    assert gate.wait_until_asked(5, tag=world.tag)
    assert world.hold(1) == a.Unknown()
    assert client.llen(bell) == 0, "it waits for that already"
    world.warmed()
    world.run(encoding.make_unknown(world.name, 10, epoch=1, tag=world.tag))
    assert client.llen(bell) == 0, "nobody asked yet"
    assert world.hold(1) == a.Unknown()
    world.warmed()
    world.run(encoding.make_unknown(world.name, 10, epoch=1, tag=world.tag))
    assert world.hold(1) == a.Unknown()
    assert client.llen(bell) == 1
    assert gate.wait_until_asked(5, tag=world.tag)


FOLLOWING = (
    a_touch_says_all_that_an_emitter_follows,
    a_touch_is_of_the_server_that_the_epoch_is_about,
    an_emitter_is_seen_when_it_is_listed_and_when_it_touches,
    what_is_published_only_goes_forward,
    the_bell_rings_once_for_many_who_ask,
)
