"""500 callers at the edges of three caps on a cluster's three primaries, one of which is gone for a while."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from itertools import count
from pathlib import Path

import pytest
from at_the_cap.installation import Installation, installation
from at_the_cap.servers import REDIS_FIRST, new_server, started
from gate.clusters import meet, members_of
from redis import Redis
from services.redis_local import LocalRedis

from tollkeeper.gate.functions import GateFunctions, connect

pytestmark = pytest.mark.timeout(1_200)  # of which a quiet machine takes few

STEP_MICROS = 6_000
ROOM_MICROS = 12_000
"""The others are still at it when one is killed."""
OLD_LEASES_S = 3.0


@pytest.fixture(params=REDIS_FIRST)
def cluster(request: pytest.FixtureRequest) -> Iterator[list[LocalRedis]]:
    """Three primaries."""
    with ExitStack() as stack:
        new_server(request.param).close()  # skips where there is none
        servers = members_of(request.param)
        stack.enter_context(started(*servers))
        meet(servers)
        yield servers


def url_of(cluster: list[LocalRedis]) -> str:
    """As the setting names it."""
    return cluster[0].address.replace("redis://", "redis+cluster://")


def one_for_each(cluster: list[LocalRedis]) -> list[str]:
    """An organization of each server, in their order."""
    found: dict[int, str] = {}
    gate = GateFunctions(connect(url_of(cluster)))
    by_tag: dict[str, str] = {}
    for number in count():
        name = f"org-{number}"
        by_tag.setdefault(gate.tag_of(name), name)
        if len(by_tag) == len(cluster):
            break
    for tag, name in by_tag.items():
        run_id = gate.incarnation(tag=tag).run_id
        found[[run_id_of(server) for server in cluster].index(run_id)] = name
    gate.close()
    return [found[number] for number in range(len(cluster))]


def run_id_of(server: LocalRedis) -> str:
    """Which run of the server this is."""
    with Redis.from_url(server.address) as client:
        return str(client.info("server")["run_id"])


def serving(made: Installation) -> None:
    """A consumer, and services that call in every organization."""
    made.consume()
    for callers, way in ((200, "asyncio"), (200, "asyncio"), (100, "threads")):
        made.serve(callers, way)
    for service in made.services:
        service.wait_until_ready()


def ended(made: Installation) -> None:
    """Everything was as it has to be."""
    figures = [service.stop() for service in made.services]
    assert all(one["closed"] for one in figures), figures
    assert all(one["began_anew"] == 0 for one in figures), "nobody who lives is retired"
    made.assert_all_is_right()


@pytest.mark.parametrize("rounds", [1, pytest.param(6, marks=pytest.mark.soak)])
def test_a_primary_that_is_killed_admits_no_hold_too_many_and_stops_no_other(
    cluster: list[LocalRedis], rounds: int, tmp_path: Path
) -> None:
    names = one_for_each(cluster)
    with installation(tmp_path, url_of(cluster), *names) as made:
        serving(made)
        for number in range(1, rounds + 1):
            killed = number % len(cluster)
            others = [name for name in names if name != names[killed]]
            for name in others:
                made.raise_caps(name, number * ROOM_MICROS - STEP_MICROS)
            made.raise_caps(names[killed], number * ROOM_MICROS)
            made.wait_for_grants(20, what="holds", organizations=[names[killed]])
            cluster[killed].kill()
            made.wait_for_the_edge(others)
            for name in others:
                made.raise_caps(name, number * ROOM_MICROS)
            made.wait_for_grants(20, what="holds of the others", organizations=others)
            cluster[killed].start()
            made.wait_for_the_edge()
        ended(made)


def test_a_primary_that_hangs_stops_no_other(cluster: list[LocalRedis], tmp_path: Path) -> None:
    """It accepts connections and answers nothing: everybody waits for it as long as he may."""
    names = one_for_each(cluster)
    with installation(tmp_path, url_of(cluster), *names) as made:
        serving(made)
        made.raise_caps(names[1], STEP_MICROS)
        for name in (names[0], names[2]):
            made.raise_caps(name, 10 * STEP_MICROS)
        made.wait_for_grants(50, what="holds")
        cluster[1].freeze()
        made.wait_for_grants(
            50,
            what="holds of the others",
            organizations=[names[0], names[2]],
            from_s=OLD_LEASES_S,
        )
        cluster[1].thaw()
        made.raise_caps(names[1], 2 * STEP_MICROS)
        made.wait_for_grants(1, what="holds at the third", organizations=[names[1]])
        ended(made)
