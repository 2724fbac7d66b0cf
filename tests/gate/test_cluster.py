"""The functions in a real cluster of three: an organization's keys in one slot, a primary's beside them."""

from __future__ import annotations

import asyncio
import gc
import warnings
from collections.abc import Iterator, Sequence

import msgspec
import pytest
from gate.asking import WAYS, Asking, asking
from gate.books import Account, Books
from gate.clusters import CLUSTERED, ask, meet, members_of
from gate.servers import open_gate
from redis import Redis
from services.finding import skip_or_fail
from services.kafka_local import free_port
from services.redis_local import LocalRedis, why_unavailable
from support.waiting import eventually

from tollkeeper.errors import GateUnavailable
from tollkeeper.events.ids import now_micros
from tollkeeper.gate import answers as a
from tollkeeper.gate import encoding
from tollkeeper.gate.async_functions import AsyncGateFunctions, connect_async
from tollkeeper.gate.commands import Request
from tollkeeper.gate.functions import GateFunctions, connect


@pytest.fixture(params=["redis", "valkey"])
def cluster(request: pytest.FixtureRequest) -> Iterator[list[LocalRedis]]:
    """Three primaries."""
    if request.param == "redis" and (reason := why_unavailable()):
        skip_or_fail(f"Redis isn't at hand (local: {reason})")
    servers = members_of(request.param)
    try:
        for server in servers:
            server.start()
        meet(servers)
        yield servers
    finally:
        for server in servers:
            server.close()


def warmed(gate: GateFunctions, organization: str) -> a.WarmAnswer:
    """An organization with the usual caps of 50 and 30."""
    caps = {"organization": 50, "member": 30}
    account = Account(offset=1, position=2, spent={}, caps={**caps})
    books = Books(organization, account)
    snapshot = books.snapshot(account, epoch=1, now=now_micros(), held=())
    return gate.run(encoding.warm(organization, snapshot, tag=gate.tag_of(organization)))


def checked_many(gate: GateFunctions, url: str, tags: dict[str, str]) -> None:
    """Many at once, each at its primary, in threads and in asyncio."""
    calls = [encoding.status(name, member="ann") for name in tags]
    one_by_one = [gate.run(call) for call in calls]
    assert without_now(gate.run_many(calls)) == without_now(one_by_one)

    asynchronous = asking("in asyncio", url)
    assert without_now(asynchronous.run_many(calls)) == without_now(one_by_one)
    assert {name: asynchronous.tag_of(name) for name in tags} == tags
    assert without_now([asynchronous.run(calls[0])]) == without_now(one_by_one[:1])
    asynchronous.close()


def without_now(answers: Sequence[object]) -> list[object]:
    """Statuses that were asked for at different times."""
    return [
        msgspec.structs.replace(one, now=0) if isinstance(one, a.Status) else one for one in answers
    ]


def answers(gate: Asking, name: str, tag: str, *, epoch: int = 1) -> bool:
    """Whether anybody says something about this organization."""
    try:
        gate.run(encoding.make_unknown(name, 9, epoch=epoch, tag=tag))
    except GateUnavailable:
        return False
    return True


def test_each_primary_decides_for_its_organizations(cluster: list[LocalRedis]) -> None:
    url = cluster[0].address.replace("redis://", "redis+cluster://")
    gate = GateFunctions(connect(url))
    gate.load()
    names = [f"org-{number}" for number in range(12)]
    tags = {name: gate.tag_of(name) for name in names}
    assert len(set(tags.values())) == 3
    for tag in set(tags.values()):
        open_gate(gate, tag, emitters=("em-1",), organizations=(*names,))
    for name, tag in tags.items():
        assert warmed(gate, name) == a.Warmed(0, 0)
        hold_id = f"{name}/em-1/{now_micros() // 1_000}/1"
        request = Request(30, "ann", "web")
        hold = encoding.hold(name, request, hold_id=hold_id, emitter="em-1", epoch=1, tag=tag)
        assert isinstance(gate.run(hold), a.Granted)
        assert gate.run(encoding.release(hold_id, epoch=1, tag=tag)) == a.Released(30)

    checked_many(gate, url, tags)
    strange = next(tag for tag in tags.values() if tag != tags[names[0]])
    hold_id = f"{names[0]}/em-1/{now_micros() // 1_000}/2"
    with pytest.raises(GateUnavailable):
        gate.run(encoding.release(hold_id, epoch=1, tag=strange))

    cluster[0].kill()
    many = [encoding.make_unknown(name, 9, epoch=1, tag=tags[name]) for name in names]
    told = dict(zip(names, gate.run_many(many), strict=True))
    lost = [name for name in names if not answers(gate, name, tags[name])]
    assert [name for name in names if isinstance(told[name], GateUnavailable)] == lost
    assert {tags[name] for name in lost} == {tags[lost[0]]}
    assert [name for name in names if tags[name] != tags[lost[0]]] == [
        *filter(lambda one: one not in lost, names)
    ]
    gate.close()


@pytest.mark.parametrize("way", WAYS)
def test_a_primary_that_was_restarted_is_distrusted_and_no_other(
    way: str, cluster: list[LocalRedis]
) -> None:
    url = cluster[0].address.replace("redis://", "redis+cluster://")
    gate = GateFunctions(connect(url))
    names = [f"org-{number}" for number in range(12)]
    tags = {name: gate.tag_of(name) for name in names}
    for tag in set(tags.values()):
        open_gate(gate, tag, emitters=("em-1",), organizations=(*names,))
    trusting = asking(way, url, trusted_only=True)
    unknown = {name: encoding.make_unknown(name, 9, epoch=1, tag=tag) for name, tag in tags.items()}
    assert trusting.run_many([*unknown.values()]) == [a.Unknown()] * 12

    cluster[1].kill()
    cluster[1].start()
    eventually(lambda: all(answers(gate, name, tags[name]) for name in names), 30)
    refused = [name for name in names if not answers(trusting, name, tags[name])]
    assert len({tags[name] for name in refused}) == 1
    assert refused == [name for name in names if tags[name] == tags[refused[0]]]
    restarted = cluster[1].address.replace("redis://", "redis+cluster://")
    newcomer = asking(way, restarted, trusted_only=True)
    for asker in (trusting, newcomer):
        told = asker.run_many([*unknown.values()])
        assert [
            name for name, one in zip(names, told, strict=True) if one != a.Unknown()
        ] == refused
    newcomer.close()

    open_gate(gate, tags[refused[0]], epoch=2, emitters=("em-1",), organizations=(*names,))
    assert all(answers(trusting, name, tags[name], epoch=2) for name in refused)
    trusting.close()
    gate.close()


@pytest.mark.parametrize("way", WAYS)
def test_a_node_without_slots_tells_the_cluster_s_shape_and_is_left(
    way: str, cluster: list[LocalRedis]
) -> None:
    """It may be made a primary later, on the connection that it was asked on."""
    shy = LocalRedis(cluster[0].program, {**CLUSTERED, "cluster-port": str(free_port())})
    try:
        shy.start()
        with Redis.from_url(shy.address) as client:
            port = int(cluster[0].settings["cluster-port"])
            ask(client, "MEET", "127.0.0.1", cluster[0].port, port)
            eventually(lambda: b"cluster_slots_assigned:16384" in ask(client, "INFO"), 30)
            eventually(lambda: b"cluster_state:ok" in ask(client, "INFO"), 30)
            gate = GateFunctions(connect(shy.address.replace("redis://", "redis+cluster://")))
            open_gate(gate, gate.tag_of("acme"), emitters=("em-1",), organizations=("acme",))
            gate.close()
            url = shy.address.replace("redis://", "redis+cluster://")
            trusting = asking(way, url, trusted_only=True)
            assert trusting.run(encoding.status("acme", member="ann")) == a.Absent()
            assert [one["addr"] for one in client.client_list()] == [client.client_info()["addr"]]
            trusting.close()
    finally:
        shy.close()


def test_tasks_whose_primary_is_restarted_are_told_so_and_nothing_else(
    cluster: list[LocalRedis],
) -> None:
    """A node that has just come back says that the cluster is down: who hears it closes what others open."""
    url = cluster[0].address.replace("redis://", "redis+cluster://")
    gate = GateFunctions(connect(url))
    names = [f"org-{number}" for number in range(60)]
    for tag in {gate.tag_of(name) for name in names}:
        open_gate(gate, tag, emitters=("em-1",), organizations=(*names,))
    gate.close()
    calls = [encoding.status(name, member="ann") for name in names]

    async def main() -> None:
        functions = AsyncGateFunctions(connect_async(url, trusted_only=True))
        restarted = asyncio.Event()
        lost: list[None] = []

        async def ask_on(call: encoding.Call[a.Status | a.Absent]) -> None:
            while not restarted.is_set():
                try:
                    await functions.run(call)
                except GateUnavailable:
                    lost.append(None)

        tasks = [asyncio.create_task(ask_on(call)) for call in calls * 3]
        for _ in range(3):
            cluster[1].kill()
            await asyncio.to_thread(cluster[1].start)
        restarted.set()
        await asyncio.gather(*tasks)
        assert lost
        await functions.close()

    asyncio.run(main())
    with warnings.catch_warnings():
        warnings.simplefilter(
            "ignore", ResourceWarning
        )  # redis-py forgets sockets when it closes so
        gc.collect()
